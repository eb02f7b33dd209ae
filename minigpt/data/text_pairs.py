"""Pairs of texts as token ids, end to end, so that a batch is gathered in one step.

Shapes: P pairs, N tokens of all sources, M of all targets, B rows, T time.
"""

from dataclasses import dataclass

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError


@dataclass(frozen=True)
class TextPairs:
    """Token ids of sources and of targets, each with the end-of-text token behind it."""

    sources: np.ndarray  # (N,)
    source_starts: np.ndarray  # (P + 1,), where each source begins, and behind the last
    targets: np.ndarray  # (M,)
    target_starts: np.ndarray  # (P + 1,)

    @classmethod
    def of(cls, pairs, tokenizer):
        """The TextPairs of (source, target) texts. The spelling of a special token in them is text
        like any other.

        tokenizer: gives encode, vocab_size and eos_id. MinigptError names the first that is no pair
        of texts, and a tokenizer without an end.
        """
        pairs = list(pairs)
        for i, pair in enumerate(pairs):
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)):
                raise MinigptError(f"pair {i} is {shortened(pair)}, it must be a source and a target, two texts")
        if tokenizer.eos_id is None:
            raise MinigptError("the tokenizer has no token that ends a text, such as </s>")
        sources, targets = ([tokenizer.encode(pair[side]) for pair in pairs] for side in (0, 1))
        return cls(*end_to_end(sources, tokenizer), *end_to_end(targets, tokenizer))

    def __len__(self):
        """How many pairs."""
        return len(self.source_starts) - 1

    @property
    def source_lengths(self):
        """(P,) tokens of each source, its end included."""
        return np.diff(self.source_starts)

    @property
    def target_lengths(self):
        """(P,) tokens of each target, its end included."""
        return np.diff(self.target_starts)

    def rows(self, chosen, fill):
        """Sources and targets of some pairs (B,), `fill` behind the shorter ones -> ids (B, T),
        mask (B, T) of 1 where there is a token, twice.
        """
        return (
            *gather(self.sources, self.source_starts, chosen, fill),
            *gather(self.targets, self.target_starts, chosen, fill),
        )


def end_to_end(texts, tokenizer):
    """Rows of ids with the end behind each -> all ids (N,), where each begins (P + 1,)."""
    kind = np.min_scalar_type(tokenizer.vocab_size - 1)
    end = [tokenizer.eos_id]
    tokens = np.concatenate([part for ids in texts for part in (ids, end)] or [[]]).astype(kind)
    return tokens, np.concatenate([[0], np.cumsum([len(ids) + 1 for ids in texts], dtype=np.int64)])


def gather(tokens, starts, chosen, fill):
    """Some of the rows that lie end to end, as a padded array -> ids (B, T), mask (B, T)."""
    lengths = starts[chosen + 1] - starts[chosen]
    time = np.arange(lengths.max())
    mask = time < lengths[:, None]
    ids = tokens[np.where(mask, starts[chosen][:, None] + time, 0)].astype(np.int64)
    return np.where(mask, ids, fill), mask.astype(np.int64)
