"""One step of training: batches, their gradient on several threads, and what it all takes.

Every random choice is drawn from a generator made for its place in the run, from (seed, step,
micro-batch, shard): no generator is saved, and a run that was stopped and resumed draws the same
batches and dropout masks as one that was not.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from minigpt.errors import MinigptError
from minigpt.machine import usable_threads
from minigpt.objectives import Batch
from minigpt.optim import SGD, AdamW, Muon
from minigpt.optim.base import slices


class Part(NamedTuple):
    """What one thread works on at a time."""

    micro: int  # number of the micro-batch in its step
    shard: int  # ... and of the shard in the micro-batch
    batch: Batch  # of the shard's rows


def make_optimizer(model, config):
    """The optimizer that a TrainConfig names, for a model."""
    if config.optimizer == "sgd":
        return SGD(model.store, config.lr, config.beta1, config.weight_decay)
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        return AdamW(model.store, config.lr, betas, weight_decay=config.weight_decay)
    return Muon(
        model.store,
        config.lr,
        config.muon_lr,
        newton_schulz_steps=config.newton_schulz_steps,
        betas=betas,
        weight_decay=config.weight_decay,
    )


def generator(config, step, micro, stream):
    """The generator of one place in a run: stream 0 draws a batch, stream s + 1 is dropout in shard
    s.
    """
    return np.random.default_rng([config.seed, step, micro, stream])


def draw_parts(objective, tokens, config, step):
    """The batches of a step, cut into shards -> list of Part."""
    parts, objective = [], objective.at(step / config.steps)
    for micro in range(config.accumulate):
        batch = objective.draw(tokens, config.batch_size, generator(config, step, micro, 0))
        parts += [Part(micro, shard, rows) for shard, rows in enumerate(batch.split(config.shards))]
    return parts


def counts_of(batches):
    """What the terms of the losses of some batches are divided by, so that they add up to the mean
    over all: the sums of their counts.
    """
    counts = Counter()
    for batch in batches:
        counts.update(batch.counts)
    return dict(counts)


def divisors_of(batches):
    """counts_of, but 1 where nothing counts, as in a step of unknown tokens: that term is 0."""
    return {name: max(count, 1) for name, count in counts_of(batches).items()}


def add_gradients(model, gradient, part, config, *, step, counts, recompute):
    """Add the gradient of one part of a step into a store -> its share of the loss."""
    rng = generator(config, step, part.micro, part.shard + 1)
    keep = "inputs" if recompute else "activations"
    return model.add_gradients(gradient, part.batch, rng=rng, counts=counts, keep=keep)


def compute_gradients(model, parts, gradients, *, config, step, workers):
    """Mean loss of the parts of a step; its gradient is left in gradients[0].

    gradients: a store a shard, which is worked on by one thread at a time, its micro-batches in
    turn: no two threads add into the same numbers, and shards add up in one order, whatever the
    threads. -> float
    """
    counts = divisors_of(part.batch for part in parts)

    def work(shard):
        gradients[shard].vector[:] = 0
        own = [part for part in parts if part.shard == shard]
        return sum(
            float(
                add_gradients(
                    model, gradients[shard], part, config, step=step, counts=counts, recompute=config.recompute
                )
            )
            for part in own
        )

    def add(numbers):
        for gradient in gradients[1:]:
            gradients[0].vector[numbers] += gradient.vector[numbers]

    loss = sum(workers.map(work, range(len(gradients))))
    workers.map(add, slices(gradients[0].vector.size, workers.threads))
    return loss


def evaluate(model, batches, workers):
    """Mean loss in nats over all targets of some batches, without dropout -> float: the sum of
    evaluate_terms, with its arguments and errors.
    """
    return sum(evaluate_terms(model, batches, workers).values())


def evaluate_terms(model, batches, workers):
    """The terms of the loss over some batches, without dropout: name of the array that is compared
    with -> mean in nats over all that count in it.

    batches: an iterable of Batch, such as an objective's walk; workers: a Workers, whose threads
    take a batch each. MinigptError where there is nothing to average over.
    """

    def work(batch):
        own = divisors_of([batch])
        terms = model.loss_terms(batch, counts=own)
        return {name: float(term) * own[name] for name, term in terms.items()}

    batches = list(batches)
    counts = counts_of(batches)
    if not counts or not all(counts.values()):
        raise MinigptError(
            "there is no target to take a loss of: the text is shorter than a window, or all are ignored"
        )
    with workers.one_blas_thread():
        sums = workers.map(work, batches)
    return {name: sum(terms[name] for terms in sums) / count for name, count in counts.items()}


def training_memory(model, config, length, threads="auto"):
    """A lower bound of the bytes that a step on rows of `length` tokens takes: weights, a gradient
    a shard, a moment, the batches of all its micro-batches, and the activations of the shards at
    work at a time.
    """
    at_work = min(usable_threads() if threads == "auto" else threads, config.shards)
    tokens = at_work * -(-config.batch_size // config.shards) * length
    activations = model.activation_memory(tokens, keep="inputs" if config.recompute else "activations")
    batches = 8 * config.accumulate * config.batch_size * length  # token ids are of 8 bytes
    return model.dtype.itemsize * model.num_parameters * (2 + config.shards) + batches + activations
