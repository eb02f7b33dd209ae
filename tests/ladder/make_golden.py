"""Make golden.safetensors, the values that test_golden.py compares with where
PyTorch is not installed.

    python tests/ladder/make_golden.py        (needs the `parity` extra)

A small GPT-2 of `transformers` in float64, with weights of scale 0.5:
its logits, loss and every gradient, and its weights after 20 steps of AdamW.
"""

from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

PATH = Path(__file__).with_name("golden.safetensors")
SIZES = {"vocab_size": 13, "n_positions": 9, "n_layer": 2, "n_head": 3, "n_embd": 12}
B, T, STEPS = 3, 7, 20


def main():
    """Compute everything with PyTorch and write the file."""
    rng = np.random.default_rng(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZES, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    ).double()
    parameters = dict(model.transformer.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(torch.tensor(0.5 * rng.standard_normal(tuple(parameter.shape))))
    ids, targets = rng.integers(0, SIZES["vocab_size"], (2, B, T))
    targets[0, 2] = targets[2, 4:] = -100
    tensors = {"ids": ids, "targets": targets} | {
        f"weight.{name}": value.detach().numpy().copy() for name, value in parameters.items()
    }

    def backward():
        logits = model(torch.tensor(ids)).logits
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, SIZES["vocab_size"]), torch.tensor(targets).reshape(-1), ignore_index=-100
        )
        model.zero_grad()
        loss.backward()
        return logits.detach().numpy(), loss.detach().numpy()

    tensors["logits"], tensors["loss"] = backward()
    tensors |= {f"gradient.{name}": value.grad.numpy().copy() for name, value in parameters.items()}
    groups = [
        {"params": [p for p in parameters.values() if (p.ndim >= 2) == decays], "weight_decay": 0.1 * decays}
        for decays in (True, False)
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95))
    for _ in range(STEPS):
        backward()
        adamw.step()
    tensors |= {f"adamw.{name}": value.detach().numpy().copy() for name, value in parameters.items()}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, PATH)
    print(
        f"{PATH.name}: {len(tensors)} tensors, {PATH.stat().st_size:,} bytes, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
