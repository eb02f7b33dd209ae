"""nanoGPT's recipe for tiny Shakespeare on a CPU, in PyTorch:
PyTorch's side of benchmarks/bench_time_to_loss.py, a process of its own.

    python -m benchmarks.nanogpt TRAIN.npy VALIDATION.npy '{"steps": 2000}'

The recipe stands in nanoGPT's README, "I only have a macbook", over
config/train_shakespeare_char.py: 4 layers, 4 heads, 128 channels, T=64, B=12, 2,000 steps of AdamW,
no dropout, no bias, eager, float32; every 250 steps the mean loss of 20 batches of both splits.
AdamW is the fused one here, which nanoGPT takes on a GPU alone, and no checkpoint is written: both
to PyTorch's advantage. GELU is the exact one, as there, which PyTorch computes faster than the tanh
form. This library is not imported.
"""

import json
import math
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.torch_gpt import TorchGPT, adamw

RECIPE = {"steps": 2000, "batch_size": 12, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128,
          "lr": 1e-3, "min_lr": 1e-4, "warmup": 100,
          "eval_interval": 250, "eval_iters": 20, "clip": 1.0, "seed": 1337}  # fmt: skip


def draw(tokens, recipe):
    """A batch as nanoGPT draws it -> ids, targets (B, T)."""
    T = recipe["block_size"]
    starts = torch.randint(len(tokens) - T, (recipe["batch_size"],))
    ids = torch.stack([torch.from_numpy(tokens[i : i + T].astype(np.int64)) for i in starts])
    targets = torch.stack([torch.from_numpy(tokens[i + 1 : i + 1 + T].astype(np.int64)) for i in starts])
    return ids, targets


def mean_loss(model, ids, targets):
    """Cross-entropy of a batch."""
    logits = model(ids)
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def rate(step, recipe):
    """Linear warm-up, then a cosine down to min_lr: nanoGPT's get_lr."""
    if step < recipe["warmup"]:
        return recipe["lr"] * (step + 1) / (recipe["warmup"] + 1)
    share = (step - recipe["warmup"]) / (recipe["steps"] - recipe["warmup"])
    return recipe["min_lr"] + 0.5 * (1 + math.cos(math.pi * share)) * (recipe["lr"] - recipe["min_lr"])


@torch.no_grad()
def estimate(model, splits, recipe):
    """nanoGPT's estimate_loss: the mean of a few random batches of each split -> name -> loss"""
    found = {}
    for name, tokens in splits.items():
        losses = [mean_loss(model, *draw(tokens, recipe)).item() for _ in range(recipe["eval_iters"])]
        found[name] = sum(losses) / len(losses)
    return found


@torch.no_grad()
def whole_loss(model, tokens, block_size, batch_size=64):
    """Mean loss over consecutive windows of a whole split,
    as minigpt.training.evaluate measures it.
    """
    windows = (len(tokens) - 1) // block_size
    ids = torch.from_numpy(tokens[: windows * block_size].astype(np.int64)).view(windows, block_size)
    targets = torch.from_numpy(tokens[1 : windows * block_size + 1].astype(np.int64)).view(windows, block_size)
    total = sum(
        mean_loss(model, a, b).item() * len(a) for a, b in zip(ids.split(batch_size), targets.split(batch_size))
    )
    return total / windows


def train(train_tokens, val_tokens, recipe, vocab_size):
    """The run -> dict: seconds with nanoGPT's evaluations,
    val_loss of the whole split at the end (untimed), and rows of step, seconds, estimates.
    """
    torch.manual_seed(recipe["seed"])
    shape = {field: recipe[field] for field in ("block_size", "n_layer", "n_head", "n_embd")}
    config = SimpleNamespace(vocab_size=vocab_size, bias=False, dropout=0.0, activation="gelu", **shape)
    model = TorchGPT(config)
    for block in model.h:  # as nanoGPT: what writes into the residual stream
        for layer in (block.attn_proj, block.mlp_proj):
            torch.nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * config.n_layer))
    optimizer = adamw(model, recipe["lr"])
    splits, rows = {"train": train_tokens, "val": val_tokens}, []
    began = time.perf_counter()
    for step in range(recipe["steps"] + 1):  # the last is for its evaluation
        if step % recipe["eval_interval"] == 0 or step == recipe["steps"]:
            losses = estimate(model, splits, recipe)
            rows.append(
                {
                    "step": step,
                    "seconds": time.perf_counter() - began,
                    "train_loss": losses["train"],
                    "val_loss": losses["val"],
                }
            )
            print(
                f"step {step}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}, "
                f"{rows[-1]['seconds']:.1f} s",
                flush=True,
            )
        if step == recipe["steps"]:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe)
        loss = mean_loss(model, *draw(train_tokens, recipe))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip"])
        optimizer.step()
        loss.item()  # nanoGPT logs it
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "val_loss": whole_loss(model, val_tokens, recipe["block_size"]), "rows": rows}


def main(argv=None):
    """Train and print the result as the last line, in JSON -> exit code."""
    train_path, val_path, changes = sys.argv[1:] if argv is None else argv
    train_tokens, val_tokens = np.load(train_path), np.load(val_path)
    vocab_size = int(max(train_tokens.max(), val_tokens.max())) + 1
    print(json.dumps(train(train_tokens, val_tokens, RECIPE | json.loads(changes), vocab_size)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
