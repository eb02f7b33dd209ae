"""Which tokens a masked language model is to find again, and what stands in their place.

Shapes: B rows, T time, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from minigpt.checks import flag, number
from minigpt.errors import MinigptError
from minigpt.ops.loss import IGNORED

RATE = 0.15  # of the tokens; Devlin et al. 2018, arXiv:1810.04805, section 3.1
MASKED, RANDOM = 0.8, 0.1  # of those: become the mask token, a random one; the others stay as they are


class Masked(NamedTuple):
    """What a model is shown, and what it is to say."""

    ids: np.ndarray  # (B, T)
    targets: np.ndarray  # (B, T), the hidden tokens, IGNORED elsewhere


class Masking:
    """BERT's masks (Devlin et al. 2018, section 3.1 and appendix A.1): `rate` of a row's tokens,
    and at least one, are its targets; 80% of these become the mask token, 10% a random token, 10%
    stay.

    Special tokens are never a target and never the random token. whole_words: a word's pieces are
    targets together (BERT's repository, "whole word masking"), with the same rate in the mean.
    """

    def __init__(self, tokenizer, rate=RATE, *, whole_words=False):
        """tokenizer: gives mask_id, special_ids, vocab_size and, for whole words, continues.
        MinigptError for one without a mask token, and a rate that is not between 0 and 1.
        """
        if tokenizer.mask_id is None:
            raise MinigptError("the tokenizer has no mask token, which a masked language model needs")
        self.rate, self.mask_id = number("mask rate", rate, at_least=0, below=1), tokenizer.mask_id
        self.special = np.zeros(tokenizer.vocab_size, bool)
        self.special[tokenizer.special_ids] = True
        self.ordinary = np.flatnonzero(~self.special)  # what a random token is drawn from
        self.continues = np.asarray(tokenizer.continues) if flag("whole words", whole_words) else None

    @staticmethod
    def numbers(length):
        """How many random numbers a row of `length` tokens takes."""
        return 1 + 3 * length

    def apply(self, ids, numbers):
        """ids (B, T); numbers (B, 1 + 3 T), uniform from 0 to 1 -> Masked.

        A row's words are taken in random order as long as the tokens before them, and a share of
        their own that is drawn once a row, are fewer than rate times the row's ordinary tokens. So
        the mean rate is exact, for words of any length. No numbers but these are drawn: the same
        ones give the same masks.
        """
        offset, order, fate, other = np.split(numbers, np.arange(1, numbers.shape[1], ids.shape[1]), axis=1)
        ordinary = ~self.special[ids]  # (B, T)
        chosen = np.zeros(ids.shape, bool)
        chosen[ordinary] = self.choose(ids, ordinary, order, offset[:, 0])
        shown = np.where(chosen & (fate < MASKED), self.mask_id, ids)
        random = self.ordinary[(other * len(self.ordinary)).astype(np.int64)]
        shown = np.where(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM), random, shown)
        return Masked(shown, np.where(chosen, ids, IGNORED))

    def choose(self, ids, ordinary, order, offset):
        """Whether each of a batch's M ordinary tokens is a target -> (M,) bool, row by row.

        ids, ordinary, order (B, T); offset (B,).
        """
        if not ordinary.any():
            return np.zeros(0, bool)
        first = ordinary.copy()  # of a word
        if self.continues is not None:
            first[:, 1:] &= ~(self.continues[ids[:, 1:]] & ordinary[:, :-1])
        word = np.cumsum(first.ravel())[ordinary.ravel()] - 1  # (M,), the number of a token's word in the batch
        rows, lengths = np.nonzero(first)[0], np.bincount(word)  # (W,) of the words
        words = np.argsort(rows + order[first])  # row by row, within one at random
        before = np.cumsum(lengths[words]) - lengths[words]  # tokens of the words taken before, (W,)
        begins = np.searchsorted(rows, np.arange(len(ids)))  # rows[words] is rows: where each row's words begin
        before -= before[np.minimum(begins, len(words) - 1)][rows]  # in its own row
        taken = before + offset[rows] * lengths[words] < self.rate * ordinary.sum(axis=1)[rows]
        targets = np.zeros(len(words), bool)
        targets[words] = taken | (before == 0)
        return targets[word]
