"""The prefix language model as an objective: how a text goes on.

Shapes: B rows, L tokens of text.
"""

import numpy as np

from minigpt.objectives.shown import spelt
from minigpt.objectives.source_target import SourceTarget


class PrefixLM(SourceTarget):
    """Windows of text cut at a random place: the source is what comes before, the target the rest
    (Raffel et al. 2019, section 3.3.1: "prefix language modeling"). Each has a token at least.

        source  Thank you for inviting </s>
        target  me to your party last week . </s>
    """

    name = "prefix_lm"
    numbers = 1

    def __init__(self, tokenizer, length):
        """MinigptError as for SourceTarget."""
        super().__init__(tokenizer, length, at_least=2)

    @property
    def settings(self):
        """What a run with this objective has to keep, to be resumed -> dict for JSON."""
        return {"objective": self.name, "sequence_length": self.length}

    def source_target(self, text, numbers, *, held_out=False):
        """See SourceTarget.source_target; 1 to L - 1 tokens are equally likely to be the source."""
        cut = 1 + (numbers * (text.shape[1] - 1)).astype(np.int64)  # (B, 1)
        first = np.arange(text.shape[1]) < cut
        return (text, first), (text, ~first)

    def show(self, text, seed=0):
        """What the objective makes of a sentence, as text. MinigptError for one that is too
        short.
        """
        batch = self.batch(self.text_of(text), np.random.default_rng(seed).random((1, 1)))
        rows = (("source", "ids"), ("target", "targets"))
        return "\n".join(f"{name:<8} {spelt(self.tokenizer, batch[array][0])}" for name, array in rows)
