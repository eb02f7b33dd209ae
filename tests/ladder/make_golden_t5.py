"""Make golden_t5.safetensors, the values that test_golden_t5.py compares with where PyTorch is not
installed.

    PYTHONPATH=tests/models python tests/ladder/make_golden_t5.py     (`parity` extra)

Three T5s of `transformers` in float64, without its casts to float32, with weights of scale 0.5 and
padding on both sides of source and target: logits, loss and every gradient.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from lifted_casts import lift_casts
from safetensors.numpy import save_file
from t5_oracle import CASTS, VERSIONS, make_pair, modeling_t5, random_batch, their_gradients, their_loss

PATH = Path(__file__).with_name("golden_t5.safetensors")
SIZES = {  # version -> what differs from the sizes of t5_oracle
    "1.0": {"num_decoder_layers": 2, "d_kv": 2, "d_ff": 7},
    "1.1": {"num_layers": 1, "num_decoder_layers": 1, "d_kv": 4, "d_ff": 7, "num_heads": 2},
    "tied, not scaled": {"num_layers": 1, "num_decoder_layers": 1, "d_kv": 4, "num_heads": 2, "d_ff": 7},
}


def main():
    """Compute everything with PyTorch and write the file."""
    lift_casts(pytest.MonkeyPatch(), modeling_t5, *CASTS)
    rng, tensors = np.random.default_rng(0), {}
    for version, sizes in SIZES.items():
        theirs, ours = make_pair(rng, **VERSIONS[version] | sizes)
        batch = random_batch(rng)
        out = their_loss(theirs, batch)
        out.loss.backward()
        kinds = {"weight": ours.parameters, "batch": batch, "gradient": their_gradients(theirs)}
        kinds["output"] = {"logits": out.logits.detach().numpy()}
        tensors |= {f"{version}/{kind}/{name}": x for kind, named in kinds.items() for name, x in named.items()}
        tensors[f"{version}/loss/"] = out.loss.detach().numpy()
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, PATH)
    print(
        f"{PATH.name}: {len(tensors)} tensors, {PATH.stat().st_size:,} bytes, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
