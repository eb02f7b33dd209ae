"""Checks of the models of two stacks: gradients of T5, values on record, invariances, numbers.

Shapes: B batch, S tokens of the source, T of the target, C channels.
"""

import math

import numpy as np

from minigpt.models import family
from minigpt.models.encoder_decoder import shift_right
from minigpt.museum.families import GOLDEN, batch_for, family_check, random_family
from minigpt.museum.oracles import compared
from minigpt.ops.loss import IGNORED
from minigpt.ops.relative import relative_buckets

SMALLEST = {"num_layers": 1, "num_decoder_layers": 1, "d_model": 5, "d_kv": 2, "d_ff": 4, "num_heads": 2}
GATED = {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}  # v1.1
t5_gradients = family_check("t5", **SMALLEST)
gated_t5_gradients = family_check("t5", **SMALLEST, **GATED)


def golden_t5(**changes):
    """A model whose weights are a formula, norms' added to what they start at, and a batch."""
    model = random_family("t5", **changes)
    model.store.vector[:] = np.sin(np.arange(model.num_parameters, dtype=np.float64) ** 2)
    for name, parameter in model.store.parameters.items():
        model.store[name] += parameter.mean
    return model, batch_for(model)


@compared()
def golden_t5_losses():
    """The loss of golden_t5 in both versions against the values on record."""
    found = {}
    for version, changes in (("v1.0", {}), ("v1.1", GATED)):
        model, batch = golden_t5(**changes)
        found[version] = model.loss(batch), GOLDEN["t5"][version]
    return found


@compared(limit=0)
def who_hears_whom():
    """Which outputs change where an input does: in the encoder all, whichever token changes; in the
    decoder those from it on; and all of the decoder's, whichever vector of the memory changes.
    """
    model = random_family("t5", num_layers=1, num_decoder_layers=1)
    ids = batch_for(model)["ids"]
    ids, decoder_ids = ids[:1], ids[2:, :5]
    memory, _ = model.encode(ids)

    def heard(forward, x):
        """Which of forward(x) change with which of x, (1, S) or (1, S, C) -> (T, S)"""
        before, out = forward(x), []
        for s in range(x.shape[1]):
            changed = x.copy()
            changed[0, s] = changed[0, s] % 10 + 1
            out.append((forward(changed) != before).any(axis=-1)[0])
        return np.stack(out, axis=1)

    return {
        "encoder": (heard(lambda x: model.encode(x)[0], ids), np.ones((7, 7))),
        "decoder": (heard(lambda x: model.decode(x, memory)[0], decoder_ids), np.tri(5)),
        "memory": (heard(lambda x: model.decode(decoder_ids, x)[0], memory), np.ones((5, 7))),
    }


@compared()
def source_padding():
    """Of a short source in a padded batch what the encoder gives, and the target's loss, against
    the same source alone.
    """
    model = random_family("t5", num_layers=2, num_decoder_layers=1)
    batch = {name: value[1:2] for name, value in batch_for(model).items()}
    n = int(batch["attention_mask"].sum())
    alone = {"ids": batch["ids"][:, :n], "targets": batch["targets"]}
    memory, _ = model.encode(batch["ids"], batch["attention_mask"].astype(bool))
    return {"memory": (memory[:, :n], model.encode(alone["ids"])[0]), "loss": (model.loss(batch), model.loss(alone))}


@compared()
def decoding_is_forward():
    """Logits of the newest token, with keys and values kept, against those of the whole target."""
    model = random_family("t5", num_layers=1, num_decoder_layers=2)
    batch = batch_for(model)
    ids, mask, targets = batch["ids"], batch["attention_mask"], batch["targets"]
    decoder_ids = shift_right(targets, 0, 0)
    whole, T = model.logits(ids, decoder_ids, mask), decoder_ids.shape[1]
    memory, _ = model.encode(ids, mask.astype(bool))
    state, new = model.decoding_state(len(ids), ids.shape[1], T), []
    for t in range(T):
        given = memory if t == 0 else None
        h, _ = model.decode(decoder_ids[:, t : t + 1], given, mask.astype(bool), state=state, keep="nothing")
        new.append(model.head_forward(h)[0][:, 0])
    return {"first token": (new[0], whole[:, 0]), "later tokens": (np.stack(new[1:], 1), whole[:, 1:])}


@compared(limit=0)
def decoder_inputs():
    """What the decoder is fed, target by target: the one before it, the start token at first, and
    padding after one that is ignored.
    """
    targets = np.array([[4, 5, 6, 1, IGNORED], [7, IGNORED, 8, 9, 1]])
    found, right = shift_right(targets, 3, 2), np.full(targets.shape, 3)
    for b, t in np.ndindex(2, 4):
        right[b, t + 1] = 2 if targets[b, t] == IGNORED else targets[b, t]
    ignored = right == 2
    return {
        "start": (found[:, 0], right[:, 0]),
        "tokens": (np.where(ignored, 0, found), np.where(ignored, 0, right)),
        "ignored": (found[ignored], right[ignored]),
    }


def bucket(distance, buckets, farthest, both):
    """The bucket of one distance by T5's formula, in plain numbers."""
    start = 0
    if both:
        buckets //= 2
        start = buckets if distance > 0 else 0
        far = abs(distance)
    else:
        far = -distance if distance < 0 else 0
    exact = buckets // 2
    if far < exact:
        return start + far
    return start + min(buckets - 1, exact + int(math.log(far / exact) / math.log(farthest / exact) * (buckets - exact)))


@compared(limit=0)
def buckets_by_loops():
    """Buckets of all distances up to 300, near and far ones, on both sides and on one."""
    distances = np.arange(-300, 301)
    beyond = abs(distances) >= 128
    found = {}
    for side, both in (("both sides", True), ("one side", False)):
        near = abs(distances) < (8 if both else 16)  # these have a bucket each
        got = relative_buckets(distances, 32, 128, both)
        right = np.array([bucket(int(n), 32, 128, both) for n in distances])
        for name, where in (("near", near), ("far", ~near & ~beyond), ("beyond", beyond)):
            found[f"{side} {name}"] = got[where], right[where]
    return found


@compared(limit=0)
def t5_numbers():
    """How many numbers Google's t5-small and t5-3b learn, whose heads are wider than their share of
    d_model, as transformers counts them.
    """
    config = family("t5").config_class
    small = config(32128).num_parameters
    wide = config(32128, d_model=1024, d_kv=128, d_ff=16384, num_layers=24, num_heads=32).num_parameters
    return {"t5-small": (small, 60_506_624), "t5-3b": (wide, 2_851_598_336)}


@compared(limit=0.15)
def t5_initial_weights():
    """Standard deviations: of the tokens 1, of queries (C D)^-1/2, of keys and values C^-1/2, and
    of what writes into the residual stream by what it sums over.
    """
    model = family("t5")(family("t5").config_class(40, 32, 8, 48, 2, num_heads=6), dtype=np.float64)
    p = model.parameters
    q, k, v = np.split(p["encoder.h.1.attn.c_attn.weight"], 3, axis=1)
    return {
        "tokens": (p["wte.weight"].std(), 1),
        "queries": (q.std(), (32 * 8) ** -0.5),
        "keys and values": ([k.std(), v.std()], [32**-0.5] * 2),
        "heads": (p["encoder.h.1.attn.c_proj.weight"].std(), 48**-0.5),
    }


@compared()
def queries_learn_slowly():
    """How far one step of Muon moves queries, keys and values where all gradients are 1: the
    queries by D^-1/2 of the others.
    """
    from minigpt.optim import Muon

    model = random_family("t5", num_layers=1)
    before, ones = model.store.vector.copy(), model.store.like(np.ones(model.num_parameters))
    Muon(model.store).step(model.store, ones)
    moved = model.store.like(before - model.store.vector)
    q, k, v = np.split(moved["decoder.h.0.attn.c_attn.weight"], 3, axis=1)
    cross, D = moved["decoder.h.0.cross.q_attn.weight"], model.config.d_kv
    return {"self-attention": (q / k, D**-0.5 * v / k), "cross-attention": (cross[0, 0], D**-0.5 * k[0, 0])}
