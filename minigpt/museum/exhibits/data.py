"""Mistakes planted in token files, batches and splits."""

from minigpt.museum.planting import Edit, other
from minigpt.museum.training_oracles import data_accounting

EXHIBITS = [
    other(
        "data: targets not shifted",
        Edit("data.batches", "draw_batch", "windows[:, 1:]", "windows[:, :-1]"),
        "accounting: targets follow ids", data_accounting, "targets",
        "the loss falls to 0 at once: the model learns to copy; samples repeat one letter",
    ),
    other(
        "data: targets shifted by two",
        Edit(
            "data.batches", "draw_batch",
            "windows[:, :-1], windows[:, 1:]",
            "windows[:, :-1], tokens[(starts[:, None] + np.arange(2, block_size + 2)) % len(tokens)]",
        ),
        "accounting: targets follow ids", data_accounting, "targets",
        "the loss stops far too high; samples skip letters",
    ),
    other(
        "data: the last window never drawn",
        Edit("data.batches", "draw_batch", "len(tokens) - block_size,", "len(tokens) - block_size - 1,"),
        "accounting: every window once", data_accounting, "starts",
        "none",
    ),
    other(
        "data: validation windows overlap",
        Edit("data.batches", "consecutive_batches", "windows)) * block_size", "windows)) * (block_size - 1)"),
        "accounting: every window once", data_accounting, "validation targets",
        "validation loss a little off: some tokens count twice, the end never",
    ),
    other(
        "data: the training split holds the validation split",
        Edit("data.batches", "split", "return tokens[:cut], tokens[cut:]", "return tokens, tokens[cut:]"),
        "accounting: splits apart", data_accounting, "shared tokens",
        "validation loss follows training loss all the way down: too good to be true",
    ),
]  # fmt: skip
