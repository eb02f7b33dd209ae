"""The objective of a language model: each token is to be predicted from those before it."""

from types import MappingProxyType

from minigpt.data.batches import check_length, consecutive_batches, draw_batch
from minigpt.errors import MinigptError
from minigpt.objectives.batch import Batch


class NextToken:
    """Windows of block_size tokens, and as their targets the tokens that follow each.

    Its batches hold ids (B, T) and targets (B, T), where T is block_size.
    """

    terms = MappingProxyType({})  # its loss has one term, and no name for it but "loss"
    settings = MappingProxyType({})  # that a run has to keep: the model's config has the length

    def __init__(self, block_size):
        self.block_size = self.length = block_size

    def check(self, tokens, vocab_size, name="text"):
        """MinigptError where tokens (N,) are too few for a single window, or one is not a token of
        the vocabulary.
        """
        check_length(tokens, self.block_size, name)
        if int(tokens.max()) >= vocab_size:
            raise MinigptError(f"{name}: token id {int(tokens.max())}, the model's vocab_size is {vocab_size}")

    def at(self, progress):
        """The objective that draws the batches of a step, progress (0 to 1) of a run being done."""
        return self

    def draw(self, tokens, rows, rng):
        """A batch of windows at random places of tokens (N,); rng: a numpy Generator."""
        ids, targets = draw_batch(tokens, rows, self.block_size, rng)
        return Batch({"ids": ids, "targets": targets})

    def walk(self, tokens, rows):
        """All windows of tokens (N,) side by side, each once, without overlap; yields batches of at
        most `rows`.

        A last incomplete window is left out.
        """
        for ids, targets in consecutive_batches(tokens, rows, self.block_size):
            yield Batch({"ids": ids, "targets": targets})
