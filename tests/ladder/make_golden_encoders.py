"""Make golden_encoders.safetensors, the values that test_golden_encoders.py compares with where
PyTorch is not installed.

    PYTHONPATH=tests/models python tests/ladder/make_golden_encoders.py     (`parity` extra)

A BERT with the pretraining head, one that classifies texts, and a RoBERTa of `transformers` in
float64, with weights of scale 0.5 and padding on both sides: outputs, loss and every gradient.
"""

from pathlib import Path

import numpy as np
import torch
import transformers
from encoder_oracle import make_pair, random_batch, their_gradients, their_outputs
from safetensors.numpy import save_file

PATH = Path(__file__).with_name("golden_encoders.safetensors")
MODELS = {"bert": ("pretraining", 2), "bert classifier": ("sequence_classification", 1), "roberta": ("masked_lm", 1)}


def main():
    """Compute everything with PyTorch and write the file."""
    rng, tensors = np.random.default_rng(0), {}
    for which, (head, layers) in MODELS.items():
        family = which.split()[0]
        theirs, ours = make_pair(family, head, rng, layers=layers)
        batch = random_batch(family, head, rng)
        out, arrays = their_outputs(theirs, batch)
        out.loss.backward()
        kinds = {"weight": ours.parameters, "batch": batch, "gradient": their_gradients(theirs)}
        kinds["output"] = {name: value.detach().numpy() for name, value in arrays.items()}
        tensors |= {f"{which}.{kind}.{name}": x for kind, named in kinds.items() for name, x in named.items()}
        tensors[f"{which}.loss"] = out.loss.detach().numpy()
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, PATH)
    print(
        f"{PATH.name}: {len(tensors)} tensors, {PATH.stat().st_size:,} bytes, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
