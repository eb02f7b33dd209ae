"""The objective of a model that reads one text and writes another: translation, and whatever else
is a pair of texts.

Shapes: B rows, S source, T target.
"""

from types import MappingProxyType

import numpy as np

from minigpt.checks import whole
from minigpt.data.text_pairs import TextPairs
from minigpt.errors import MinigptError
from minigpt.objectives.batch import Batch
from minigpt.objectives.masked_lm import check_vocabulary
from minigpt.objectives.shown import spelt
from minigpt.ops.loss import IGNORED

POOL = 8  # batches that are drawn for each one that is taken of them


class Pairs:
    """Sources, and the targets that a model is to write for them, each up to its end (Sutskever et
    al. 2014, arXiv:1409.3215, section 2; Raffel et al. 2020, arXiv:1910.10683, section 2.4).

    Its data are TextPairs. Its batches hold

        ids (B, S), attention_mask (B, S)                          source </s>, then padding
        decoder_input_ids (B, T), decoder_attention_mask (B, T)    <pad> target
        targets (B, T)                                             target </s>, -100 at padding

    so that the decoder reads each token of the target one place later than it is to say it.

    Rows of a batch have about the same length, which saves padding: `pool` times as many pairs are
    drawn, sorted by length and cut into batches, and one of these is taken at random. Every pair is
    as likely as any other.
    """

    name = "pairs"
    terms = MappingProxyType({})  # its loss has one term, and no name for it but "loss"

    def __init__(self, tokenizer, source_length=64, target_length=None, *, pool=POOL):
        """tokenizer: gives pad_id, which also starts the decoder, and eos_id; source_length,
        target_length (the same unless given): tokens that a text may have, its end included.
        MinigptError for lengths without room for a text, and a tokenizer that lacks one of both
        tokens.
        """
        self.tokenizer = tokenizer
        self.source_length = whole("source length", source_length, at_least=2)
        target_length = source_length if target_length is None else target_length
        self.target_length = whole("target length", target_length, at_least=2)
        self.pool = whole("pool", pool, at_least=1)
        for token, use in (("pad", "that fills a row, such as <pad>"), ("eos", "that ends a text, such as </s>")):
            if getattr(tokenizer, f"{token}_id") is None:
                raise MinigptError(f"the tokenizer has no token {use}")

    @property
    def length(self):
        """Tokens of a row at most, source and target."""
        return self.source_length + self.target_length

    @property
    def settings(self):
        """What a run with this objective has to keep, to be resumed -> dict for JSON."""
        own = {"source_length": self.source_length, "target_length": self.target_length, "pool": self.pool}
        return {"objective": self.name} | own

    def check(self, pairs, vocab_size, name="pairs"):
        """MinigptError where there is no pair, a text of one is empty or too long, or a token is
        not of the vocabulary.
        """
        if not len(pairs):
            raise MinigptError(f"{name}: there is no pair of texts")
        for side, limit in (("source", self.source_length), ("target", self.target_length)):
            lengths = getattr(pairs, f"{side}_lengths")
            if lengths.min() < 2:
                raise MinigptError(f"{name}: the {side} of pair {int(lengths.argmin())} is empty")
            if lengths.max() > limit:
                first = int(np.argmax(lengths > limit))
                found = f"the {side} of pair {first} has {lengths[first]} tokens with its end"
                raise MinigptError(f"{name}: {found}, {side} length is {limit}")
            check_vocabulary(getattr(pairs, f"{side}s"), vocab_size, self.tokenizer, name)

    def at(self, progress):
        """The objective that draws the batches of a step, progress (0 to 1) of a run being done."""
        return self

    def draw(self, pairs, rows, rng):
        """A batch of pairs drawn at random; rng: a numpy Generator."""
        chosen = rng.integers(0, len(pairs), rows * self.pool)
        if self.pool > 1:
            first = rows * rng.integers(0, self.pool)
            chosen = by_length(pairs, chosen)[first : first + rows]
        return self.batch(pairs, chosen)

    def walk(self, pairs, rows):
        """Each pair once, the longest first, for which memory must do; yields batches of at most
        `rows`, the same at every walk.
        """
        chosen = by_length(pairs, np.arange(len(pairs)))[::-1]
        for first in range(0, len(chosen), rows):
            yield self.batch(pairs, chosen[first : first + rows])

    def batch(self, pairs, chosen):
        """The Batch of some pairs (B,)."""
        ids, mask, targets, target_mask = pairs.rows(chosen, self.tokenizer.pad_id)
        start = np.full((len(targets), 1), self.tokenizer.pad_id)
        return Batch(
            {
                "ids": ids,
                "attention_mask": mask,
                "decoder_input_ids": np.concatenate([start, targets[:, :-1]], axis=1),
                "decoder_attention_mask": target_mask,  # of what it reads at a place where it has something to say
                "targets": np.where(target_mask == 1, targets, IGNORED),
            }
        )

    def show(self, source, target):
        """What the objective makes of a pair, as text. MinigptError where one of both is empty."""
        pairs = TextPairs.of([(source, target)], self.tokenizer)
        if min(pairs.source_lengths[0], pairs.target_lengths[0]) < 2:
            raise MinigptError("a text of the pair is empty, there is nothing to learn of it")
        batch = self.batch(pairs, np.array([0]))
        names = {"source": "ids", "decoder reads": "decoder_input_ids", "decoder says": "targets"}
        return "\n".join(f"{what:<15}{spelt(self.tokenizer, batch[name][0])}" for what, name in names.items())


def by_length(pairs, chosen):
    """Some pairs in the order of their lengths, source and target together, and of their places
    where these are equal.
    """
    lengths = (pairs.source_lengths + pairs.target_lengths)[chosen]
    return chosen[np.lexsort([chosen, lengths])]
