"""Rung: golden values of T5, which PyTorch computed once (make_golden_t5.py) and every machine can
compare with. Below: the gradient checks.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minigpt import T5, T5Config

PATH = Path(__file__).with_name("golden_t5.safetensors")
SIZES = {"vocab_size": 19, "d_model": 10, "d_kv": 4, "d_ff": 7, "num_heads": 3, "num_layers": 2}
SIZES |= {"layer_norm_epsilon": 1e-5, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
SIZES |= {"decoder_start_token_id": 2, "pad_token_id": 3}
GATED, UNSCALED = {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}, {"feed_forward_proj": "gated-silu"}
MODELS = {
    "1.0": T5Config(**SIZES | {"d_kv": 2}),
    "1.1": T5Config(**SIZES | GATED | {"num_layers": 1, "num_heads": 2}),
    "tied, not scaled": T5Config(**SIZES | UNSCALED | {"num_layers": 1, "num_heads": 2}, scale_decoder_outputs=False),
}


def close(a, b, scale=0.0):
    """Equal to 1e-10 of the largest entry, or of a scale where that is larger."""
    assert np.shape(a) == np.shape(b)
    assert np.abs(a - b).max() <= 1e-10 * max(np.abs(b).max(), scale)


@pytest.mark.parametrize("version", MODELS)
def test_logits_loss_and_every_gradient_of_t5(version):
    golden = {}
    for name, value in load_file(PATH).items():
        of, kind, rest = name.split("/")
        if of == version:
            golden.setdefault(kind, {})[rest] = value
    model = T5(MODELS[version], dtype=np.float64)
    assert golden["weight"].keys() == golden["gradient"].keys() == model.parameters.keys()
    for name, value in model.parameters.items():
        value[...] = golden["weight"][name]
    batch = golden["batch"]
    masks = batch["attention_mask"], batch["decoder_attention_mask"]
    seen = np.cumsum(masks[1], axis=1) > 0  # of queries before any token they make a mean of all keys
    close(model.logits(batch["ids"], batch["decoder_input_ids"], *masks)[seen], golden["output"]["logits"][seen])
    loss, grads = model.loss_and_grads(batch)
    close(loss, golden["loss"][""].reshape(()))
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in golden["gradient"].items():
        close(grads[name], value, 1e-3 * largest)


def test_file_of_t5_is_small():
    assert PATH.stat().st_size < 150_000
