"""Rung: golden values of encoders, which PyTorch computed once (make_golden_encoders.py) and every
machine can compare with. Below: the gradient checks.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minigpt import BERT, BERTConfig, RoBERTa, RoBERTaConfig

PATH = Path(__file__).with_name("golden_encoders.safetensors")
SIZES = {"vocab_size": 17, "hidden_size": 15, "num_attention_heads": 3, "intermediate_size": 14}
SIZES |= {"type_vocab_size": 6, "num_labels": 8}
MODELS = {
    "bert": (BERT, BERTConfig(**SIZES, num_hidden_layers=2, max_position_embeddings=11)),
    "bert classifier": (
        BERT,
        BERTConfig(**SIZES, num_hidden_layers=1, max_position_embeddings=11, head="sequence_classification"),
    ),
    "roberta": (RoBERTa, RoBERTaConfig(**SIZES, num_hidden_layers=1, max_position_embeddings=13)),
}


def close(a, b, scale=0.0):
    """Equal to 1e-10 of the largest entry, or of a scale where that is larger."""
    assert np.shape(a) == np.shape(b)
    assert np.abs(a - b).max() <= 1e-10 * max(np.abs(b).max(), scale)


@pytest.mark.parametrize("which", MODELS)
def test_outputs_loss_and_every_gradient_of_an_encoder(which):
    family, config = MODELS[which]
    golden = {}
    for name, value in load_file(PATH).items():
        model_name, kind, rest = name.partition(".")[0], *name.partition(".")[2].partition(".")[::2]
        if model_name == which:
            golden.setdefault(kind, {})[rest] = value
    model = family(config, dtype=np.float64)
    assert golden["weight"].keys() == golden["gradient"].keys() == model.parameters.keys()
    for name, value in model.parameters.items():
        value[...] = golden["weight"][name]
    batch = golden["batch"]
    out, _ = model.forward(batch["ids"], batch["attention_mask"], batch["token_type_ids"])
    for name, value in golden["output"].items():
        close(getattr(out, name), value)
    loss, grads = model.loss_and_grads(batch)
    close(loss, golden["loss"][""][0])
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in golden["gradient"].items():
        close(grads[name], value, 1e-3 * largest)


def test_file_of_encoders_is_small():
    assert PATH.stat().st_size < 200_000
