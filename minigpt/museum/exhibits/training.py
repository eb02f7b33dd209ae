"""Mistakes planted in the trainer."""

from minigpt.museum.planting import Edit, other
from minigpt.museum.training_oracles import random_streams, shards_are_the_whole, validation_loss

EXHIBITS = [
    other(
        "trainer: shard means averaged though their token counts differ",
        Edit(
            "training.step", "compute_gradients",
            "counts=counts", "counts=counts_of([part.batch] * len(parts))",
        ),
        "invariance: shards = whole", shards_are_the_whole, "loss, gradient",
        "tokens of small shards weigh more: the result depends on how a batch is cut",
    ),
    other(
        "trainer: micro-batches added up without dividing",
        Edit(
            "training.step", "compute_gradients",
            "counts=counts", "counts=None",
        ),
        "invariance: shards = whole", shards_are_the_whole, "loss, gradient",
        "the gradient grows with accumulation and threads; clipping or Adam hides it, the printed loss does not",
    ),
    other(
        "trainer: gradients not set to zero between steps",
        Edit("training.step", "compute_gradients", "gradients[shard].vector[:] = 0", "pass"),
        "invariance: shards = whole", shards_are_the_whole, "gradient",
        "like momentum of 1: falls fast, then swings and diverges",
    ),
    other(
        "trainer: the last shard left out of the sum",
        Edit("training.step", "compute_gradients", "gradients[1:]", "gradients[1:-1]"),
        "invariance: shards = whole", shards_are_the_whole, "gradient",
        "learns from half of the data that it reads; the printed loss is right",
    ),
    other(
        "trainer: every step draws the same batch",
        Edit("training.step", "generator", "step, micro, stream]", "micro, stream]"),
        "accounting: random streams", random_streams, "streams of two steps",
        "training loss goes to zero, validation loss rises: one batch is learned by heart",
    ),
    other(
        "trainer: shards share one dropout stream",
        Edit("training.step", "generator", "micro, stream]", "micro, min(stream, 1)]"),
        "accounting: random streams", random_streams, "streams of a step, streams of two steps",
        "dropout's noise does not average out over shards",
    ),
    other(
        "validation: mean of the means of unequal batches",
        Edit(
            "training.step", "evaluate_terms",
            "* own[name]", "* counts[name] / len(batches)",
        ),
        "accounting: every window once", validation_loss, "loss",
        "validation loss changes with the batch size",
    ),
]  # fmt: skip
