"""Oracles, invariances and accounting of training and sampling: each is a function of nothing to a
Finding.
"""

import math

import numpy as np

from minigpt.layers import Parameter, Store
from minigpt.museum.checks import random_batch, random_model
from minigpt.museum.oracles import compared


@compared()
def micro_batches():
    """Gradients of two micro-batches added into one store against the sum of the two apart."""
    model, (ids, targets) = random_model(), random_batch()
    together, apart = model.store.zeros_like(), [model.store.zeros_like() for _ in range(2)]
    for part, rows in zip(apart, (slice(0, 2), slice(2, 3))):
        for g in (together, part):
            model.add_gradients(g, ids[rows], targets[rows], counts={"targets": 10})
    return {"gradient": (together.vector, apart[0].vector + apart[1].vector)}


def small_trainer(**settings):
    """A Trainer whose run is never started: batches of 5 rows in 2 shards, which are then of
    unequal size.
    """
    from minigpt.training import TrainConfig, Trainer

    tokens = np.random.default_rng(14).integers(0, 11, 200)
    config = TrainConfig(steps=10, **{"batch_size": 5, "shards": 2, "accumulate": 2, "optimizer": "adamw"} | settings)
    return Trainer(random_model(), tokens[:150], tokens[150:], config=config, out="unused", threads=1, bar=False)


@compared()
def shards_are_the_whole():
    """Loss and gradient of micro-batches and shards against those of all their rows at once, two
    steps running.
    """
    trainer, losses, vectors = small_trainer(), [], []
    for trainer.step in range(2):
        loss_of_parts = trainer.compute_gradients()
        batches = [part.batch for part in trainer.parts()]
        ids, targets = (np.concatenate([batch[name] for batch in batches]) for name in ("ids", "targets"))
        whole, grads = trainer.model.loss_and_grads(ids, targets)
        losses.append((loss_of_parts, whole))
        vectors.append((trainer.gradients[0].vector.copy(), np.concatenate([g.ravel() for g in grads.values()])))
    return {"loss": tuple(zip(*losses)), "gradient": tuple(np.stack(part) for part in zip(*vectors))}


@compared()
def validation_loss():
    """Validation loss in batches of unequal size against the mean over windows, one by one."""
    from minigpt.objectives import NextToken
    from minigpt.training import Workers, evaluate

    model, tokens = random_model(), np.random.default_rng(15).integers(0, 11, 60)
    windows = [model.loss(tokens[i : i + 7][None], tokens[i + 1 : i + 8][None]) for i in range(0, 56, 7)]
    return {"loss": (evaluate(model, NextToken(7).walk(tokens, 3), Workers(1)), sum(windows) / len(windows))}


@compared(limit=0)
def random_streams():
    """Every place in a run (step, micro-batch, batch or dropout of a shard) has random numbers of
    its own: how many different first draws.
    """
    from minigpt.training.step import generator

    trainer, draws = small_trainer(), []
    for trainer.step in range(2):
        draws.append(
            {
                float(generator(trainer.config, trainer.step, micro, stream).random())
                for micro in range(2)
                for stream in range(3)
            }
        )
    return {"streams of a step": (len(draws[0]), 6), "streams of two steps": (len(draws[0] | draws[1]), 12)}


@compared(limit=0)
def data_accounting():
    """Targets follow their ids, all windows are drawn, validation takes each target once, and the
    two splits share no token.
    """
    from minigpt.data import batches

    tokens, rng = np.arange(40), np.random.default_rng(16)
    ids, targets = (np.concatenate(part) for part in zip(*(batches.draw_batch(tokens, 8, 7, rng) for _ in range(50))))
    seen = np.concatenate([y.ravel() for _, y in batches.consecutive_batches(tokens, 2, 7)])
    train, val = batches.split(tokens)
    return {
        "targets": (targets, ids + 1),
        "starts": (np.unique(ids[:, 0]), np.arange(33)),
        "validation targets": (seen, np.arange(1, 36)),
        "shared tokens": (len(np.intersect1d(train, val)) + 1, 1),
    }


def stores(seed):
    """Parameters and two gradients, a matrix that is wider, one that is taller, three side by side,
    and a vector.
    """
    parameters = [
        Parameter("wide", (3, 5), "hidden"),
        Parameter("tall", (5, 3), "hidden"),
        Parameter("qkv", (4, 12), "hidden", parts=3),
        Parameter("bias", (7,), "vector"),
    ]
    rng = np.random.default_rng(seed)
    return [Store(parameters, rng.standard_normal(15 + 15 + 48 + 7)) for _ in range(3)]


@compared()
def adamw_oracle():
    """Two steps of AdamW by its formula, number by number."""
    from minigpt.optim import AdamW

    p, *gs = stores(17)
    right = {name: value.copy() for name, value in p.items()}
    optimizer = AdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)
    for g in gs:
        optimizer.step(p, g.like(g.vector.copy()), factor=0.5)
    for name, value in right.items():
        for at in np.ndindex(value.shape):
            m = v = 0.0
            for t, g in enumerate((float(g[name][at]) for g in gs), 1):
                m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
                value[at] *= 1 - 0.05 * 0.2 * (value.ndim >= 2)
                value[at] -= 0.05 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-3)
    return {"matrices": (p["wide"], right["wide"]), "vectors": (p["bias"], right["bias"])}


def singular_polynomial(x, steps):
    """Newton-Schulz by the singular value decomposition: each singular value goes through the
    polynomial.
    """
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / (math.sqrt((s * s).sum()) + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ vt


@compared(limit=1e-7)
def muon_oracle():
    """Two steps of Muon by singular value decompositions, and Newton-Schulz of a batch of matrices
    of different sizes.
    """
    from minigpt.optim import Muon, newton_schulz

    p, *gs = stores(18)
    right = {name: value.copy() for name, value in p.items()}
    optimizer = Muon(p, muon_lr=0.1)
    for g in gs:
        optimizer.step(p, g)
    for name, columns in {"wide": 5, "tall": 3, "qkv": 4}.items():
        for start in range(0, right[name].shape[1], columns):
            at, m = (slice(None), slice(start, start + columns)), 0.0
            for g in gs:
                m = 0.95 * m + 0.05 * g[name][at]
                scale = math.sqrt(max(1, columns / len(g[name])))
                right[name][at] -= 0.1 * scale * singular_polynomial(0.05 * g[name][at] + 0.95 * m, 5)
    batch = np.random.default_rng(19).standard_normal((2, 3, 5)) * np.array([1, 10])[:, None, None]
    orthogonal = newton_schulz(batch), np.stack([singular_polynomial(x, 5) for x in batch])
    return {name: (p[name], right[name]) for name in ("wide", "tall", "qkv")} | {"newton_schulz": orthogonal}


@compared()
def clipping():
    """A long gradient keeps its direction and gets the limit's length; a short one stays as it
    is.
    """
    from minigpt.optim import clip_by_norm

    g = stores(20)[0].vector
    out = {}
    for name, length, right in (("long", 5, 2), ("short", 1.5, 1.5)):
        g = g / math.sqrt(sum(a * a for a in g))
        store = Store([Parameter("g", g.shape, "vector")], length * g)
        clip_by_norm(store, 2.0)
        out[name] = store.vector, right * g
    return out


@compared()
def schedule_oracle():
    """Factors of 11 steps, 4 of them warm-up: up in equal parts from one fifth, then to 0.1 along a
    line or half a cosine.
    """
    from minigpt.optim import cosine, linear

    up = [0.2, 0.4, 0.6, 0.8]
    line = [1 - 0.9 * i / 6 for i in range(7)]
    wave = [0.55 + 0.45 * math.cos(math.pi * i / 6) for i in range(7)]
    schedules = (("linear", linear, line), ("cosine", cosine, wave))
    return {name: ([schedule(i, 11, 4) for i in range(11)], up + down) for name, schedule, down in schedules}


@compared()
def sampling_oracle():
    """Probabilities after temperature, top-k and top-p, by sorting lists."""
    from minigpt.sampling import token_probabilities

    logits = np.log(np.array([0.05, 0.4, 0.15, 0.3, 0.1]))

    def right(temperature=1.0, top_k=5, top_p=2.0):
        p = [math.exp(a / temperature) for a in logits]
        kept, total = [], 0.0
        for i in sorted(range(5), key=lambda i: -p[i])[:top_k]:
            kept.append(i)
            total += p[i] / sum(sorted(p)[-top_k:])
            if total >= top_p:
                break
        return [p[i] / sum(p[j] for j in kept) if i in kept else 0.0 for i in range(5)]

    cases = {"plain": {}, "temperature": {"temperature": 0.5}, "top_k": {"top_k": 2}, "top_p": {"top_p": 0.6}}
    return {name: (token_probabilities(logits[None], **case)[0], right(**case)) for name, case in cases.items()}
