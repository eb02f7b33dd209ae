"""Checks of the families beside GPT-2: gradients of whole models, values on record, counts.

Shapes: B batch, T time, V vocabulary.
"""

import math

import numpy as np

from minigpt.gradcheck import Losses
from minigpt.gradcheck.numeric import DERIVATIVES
from minigpt.models import family
from minigpt.models.encoder import HEADS
from minigpt.museum.checks import FLOAT32_STEP, judged, limit_of, random_batch
from minigpt.museum.oracles import compared
from minigpt.ops.loss import IGNORED

SIZES = {  # model_type -> a small config of it, whose sizes differ
    "gpt_neo": {
        "vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 6, "num_layers": 3, "num_heads": 2,
        "window_size": 2, "intermediate_size": 10,
    },
    "bert": {
        "vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 10, "num_labels": 4,
    },
    "roberta": {
        "vocab_size": 11, "max_position_embeddings": 9, "hidden_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 10, "num_labels": 4,
    },
    "t5": {
        "vocab_size": 11, "d_model": 6, "d_kv": 4, "d_ff": 10, "num_layers": 2, "num_heads": 2,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6,
    },
}  # fmt: skip


def random_family(model_type, dtype=np.float64, std=0.5, **changes):
    """A small model of a family with weights of O(1); those of norms about what they start at."""
    kind = family(model_type)
    model = kind(kind.config_class(**SIZES[model_type] | changes), dtype=dtype)
    model.store.vector[:] = std * np.random.default_rng(1).standard_normal(model.num_parameters)
    for name, parameter in model.store.parameters.items():
        model.store[name] += parameter.mean
    return model


def batch_for(model):
    """A batch for a model's loss: of an encoder with padding, two kinds of token and the arrays
    that its head compares with; of two stacks with padding and a target that is shorter.
    """
    ids, targets = random_batch(7)
    batch = {"ids": ids, "targets": targets}
    mask = np.arange(ids.shape[1]) < np.array([[7], [5], [7]])
    if hasattr(model.config, "decoder_start_token_id"):
        return {"ids": ids * mask, "attention_mask": mask.astype(int), "targets": targets[::-1, :5]}
    head = getattr(model.config, "head", "")
    if head == "":
        return batch
    rng, (B, T) = np.random.default_rng(6), ids.shape
    compared = {
        "targets": np.where(mask & (rng.random((B, T)) < 0.5), targets, IGNORED),
        "next_sentence": np.array([0, 1, 1]),
        "labels": rng.integers(0, 4, (B, T) if head == "token_classification" else B),
        "starts": np.array([1, 2, IGNORED]),
        "ends": np.array([3, 4, 6]),
    }
    pad = model.config.pad_token_id
    ids = np.where(mask, np.where(ids == pad, 3, ids), pad)
    kinds = np.arange(T) // 3 % model.config.type_vocab_size * np.ones((B, 1), int)
    batch = {"ids": ids, "attention_mask": mask.astype(int), "token_type_ids": kinds}
    return batch | {name: compared[name] for name in HEADS[head]}


def family_check(model_type, *, zero=(), **changes):
    """The gradient check of a family's small model, every parameter but those of `zero`, whose
    gradient is zero in theory and rounding in practice; with dropout.
    """

    def check(method="complex"):
        dtype = np.float64 if method == "complex" else np.float32
        model = random_family(model_type, dtype, **{"dropout": 0.2} | changes)
        losses = Losses(model, batch_for(model), dropout_seed=5)
        arrays = {name: value.copy() for name, value in model.parameters.items()}
        errors = along_directions(losses.loss, arrays, losses.gradients(arrays), method)
        errors = {name: error for name, error in errors.items() if name not in zero}
        return judged(errors, limit_of(method), nearest_to_loss=True)

    return check


def along_directions(objective, arrays, gradients, method):
    """Name -> error of an array's gradient along two random directions, which see every entry: a
    sixth of the evaluations that single entries take. As measure has it otherwise.
    """
    rng, errors = np.random.default_rng(3), {}
    norms = {name: math.sqrt((g * g).sum()) for name, g in gradients.items()}
    for name, g in gradients.items():
        gaps = []
        for _ in range(2):
            v = rng.standard_normal(g.shape)
            if method == "complex":
                found = DERIVATIVES["complex"](objective, arrays, name, v)
            else:
                single = {n: x.astype(np.float32) for n, x in arrays.items()}
                v = v.astype(np.float32)
                found = DERIVATIVES["central"](objective, single, name, v, np.float32(FLOAT32_STEP))
            gaps.append(abs(found - (g * v).sum()))
        errors[name] = float(max(gaps)) / max(norms[name], 1e-3 * max(norms.values()))
    return errors


gpt_neo_gradients = family_check("gpt_neo", num_layers=2)

# of golden_family by transformers in float64; a parity test remakes them
GOLDEN = {
    "gpt_neo": {"loss": 3.2859784934965997},
    "bert": {"targets": 2.8975165067080724, "next_sentence": 0.6759242289209392},
    "roberta": {"targets": 3.105201393587341},
    "t5": {"v1.0": 2.5689075067661973, "v1.1": 4.040974497376243},
}


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
