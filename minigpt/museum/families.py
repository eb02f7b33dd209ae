"""Checks of the families beside GPT-2: gradients of whole models, values on record, counts.

Shapes: B batch, T time, V vocabulary.
"""

import numpy as np

from minigpt.gradcheck import Losses
from minigpt.models import family
from minigpt.museum.checks import judged, limit_of, measure, random_batch
from minigpt.museum.oracles import compared

SIZES = {  # model_type -> a small config of it, whose sizes differ
    "gpt_neo": {
        "vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 6, "num_layers": 3, "num_heads": 2,
        "window_size": 2, "intermediate_size": 10,
    },
}  # fmt: skip


def random_family(model_type, dtype=np.float64, std=0.5, **changes):
    """A small model of a family with weights of O(1)."""
    kind = family(model_type)
    model = kind(kind.config_class(**SIZES[model_type] | changes), dtype=dtype)
    model.store.vector[:] = std * np.random.default_rng(1).standard_normal(model.num_parameters)
    return model


def family_check(model_type, batch=None, **changes):
    """The gradient check of a family's small model, every parameter, with dropout; batch: nothing
    to a batch of named arrays, ids and targets unless given.
    """

    def check(method="complex"):
        dtype = np.float64 if method == "complex" else np.float32
        model = random_family(model_type, dtype, **{"dropout": 0.2} | changes)
        named = dict(zip(("ids", "targets"), random_batch())) if batch is None else batch()
        losses = Losses(model, named, dropout_seed=5)
        arrays = {name: value.copy() for name, value in model.parameters.items()}
        errors = measure(losses.loss, arrays, losses.gradients(arrays), method)
        return judged(errors, limit_of(method), nearest_to_loss=True)

    return check


gpt_neo_gradients = family_check("gpt_neo")

# of golden_family by transformers in float64; a parity test remakes them
GOLDEN = {"gpt_neo": {"loss": 3.2859784934965997}}


def golden_family(model_type):
    """A model whose weights are a formula, ids and targets."""
    model, ids = random_family(model_type), np.arange(14).reshape(2, 7) * 3 % 11
    model.store.vector[:] = np.sin(np.arange(model.num_parameters, dtype=np.float64) ** 2)
    return model, ids, (ids * 2 + 1) % 11


@compared()
def golden_gpt_neo():
    """The loss of golden_family against the value on record."""
    model, ids, targets = golden_family("gpt_neo")
    return {"loss": (model.loss(ids, targets), GOLDEN["gpt_neo"]["loss"])}


@compared(limit=0)
def gpt_neo_numbers():
    """How many numbers EleutherAI's smallest GPT-Neo learns, as transformers counts them; and a
    block with an MLP of 10 channels inside, by hand.
    """
    kind = family("gpt_neo")
    whole = kind.config_class(50257, 2048, 768, 12, 12).num_parameters
    narrow = kind.config_class(11, 7, 6, 1, 2, intermediate_size=10).num_parameters
    by_hand = (11 + 7) * 6 + (3 * 36 + 36 + 6) + (60 + 10 + 60 + 6) + 3 * 12
    return {"gpt-neo-125m": (whole, 125_198_592), "a narrow MLP": (narrow, by_hand)}


@compared(limit=0.15)
def gpt_neo_initial_weights():
    """Standard deviation of all weights, 0.02, those that write into the residual stream too."""
    kind = family("gpt_neo")
    p = kind(kind.config_class(11, 7, 32, 8, 2), dtype=np.float64).parameters
    return {"c_proj": (p["h.3.mlp.c_proj.weight"].std(), 0.02), "c_fc": (p["h.3.mlp.c_fc.weight"].std(), 0.02)}
