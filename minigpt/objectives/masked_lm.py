"""The objective of a masked language model: hidden tokens are to be found again from all others.

Shapes: B rows, T time.
"""

from types import MappingProxyType

import numpy as np

from minigpt.checks import flag, number, whole
from minigpt.errors import MinigptError
from minigpt.objectives.batch import Batch
from minigpt.objectives.masking import RATE, Masking
from minigpt.objectives.shown import shown

HELD_OUT_SEED = 0  # of the masks of a walk: those of all runs are the same, so that their losses can be compared


class MaskedLM:
    """Windows of text between the tokens that stand around one, some of their tokens hidden
    (Devlin et al. 2018, section 3.1; RoBERTa's full sentences, Liu et al. 2019, arXiv:1907.11692,
    section 4.2).

    Its batches hold ids (B, T) and targets (B, T), the hidden tokens, -100 elsewhere. A row is
    [CLS] text [SEP], RoBERTa's <s> text </s>. The text of many documents is one row of tokens with
    a separator between two: a window may reach over it, as RoBERTa's do.

    A run may begin with short rows, and many of them, as BERT's did (appendix A.2), here in stages
    of twice the length of the one before: in short rows attention soon learns which positions lie
    side by side, in long ones it takes many more steps.

    Each window that is drawn gets new masks (dynamic), or, static, windows stand side by side and
    each has the same masks whenever it is drawn, those of its place and `seed`. A walk's masks are
    always the same, at the paper's rate.
    """

    name = "masked_lm"
    terms = MappingProxyType({"targets": "masked_lm"})  # array of a batch -> what its part of the loss is called
    around = 2  # tokens of a row that are none of its text
    decisions = 0  # random numbers that a row takes beside its masks

    def __init__(self, tokenizer, length, *, mask_rate=RATE, whole_words=False, static=False,
                 short_length=None, short_share=0.0, seed=0):  # fmt: skip
        """tokenizer: gives cls_id, sep_id and what Masking needs; length: T, with the tokens around
        the text; short_share: of a run's steps, which come first, and in equal parts take rows of
        short_length, of twice that, and so on below length.
        MinigptError for a length without room for a text, and as for Masking.
        """
        self.tokenizer, self.static = tokenizer, flag("static", static)
        self.seed = whole("seed", seed, at_least=0)
        self.length = whole("sequence length", length, at_least=self.around + 2)
        self.room = self.length - self.around  # tokens of text in a row
        self.masking = Masking(tokenizer, mask_rate, whole_words=whole_words)
        self.held_out_masking = Masking(tokenizer, whole_words=whole_words)
        self.short_share = number("short share", short_share, at_least=0, at_most=1)
        self.times, self.stages = 1, []  # rows drawn for each one asked for; what draws the short ones
        if self.short_share:
            self.add_stages(whole("short length", short_length, at_most=length), mask_rate=mask_rate)
        if tokenizer.cls_id is None or tokenizer.sep_id is None:
            raise MinigptError("the tokenizer has no tokens to stand around a text ([CLS] and [SEP], or <s> and </s>)")

    def add_stages(self, length, **options):
        """Make the objectives of the short rows, from a length on."""
        options |= {"whole_words": self.masking.continues is not None, "static": self.static, "seed": self.seed}
        while length < self.length or not self.stages:
            self.stages.append(type(self)(self.tokenizer, length, **options))
            self.stages[-1].times = self.length // length
            length *= 2

    @property
    def settings(self):
        """What a run with this objective has to keep, to be resumed -> dict for JSON."""
        return {
            "objective": self.name,
            "sequence_length": self.length,
            "mask_rate": self.masking.rate,
            "whole_words": self.masking.continues is not None,
            "static": self.static,
            "short_length": self.stages[0].length if self.stages else None,
            "short_share": self.short_share,
        }

    def check(self, tokens, vocab_size, name="text"):
        """MinigptError where tokens (N,) are too few for a window, one is not of the vocabulary, or
        there is none that may be hidden.
        """
        if len(tokens) < self.room:
            raise MinigptError(
                f"{name}: {len(tokens)} tokens, at least {self.room} are needed for a sequence of {self.length}"
            )
        check_vocabulary(tokens, vocab_size, self.tokenizer, name)
        self.check_ordinary(tokens, name)

    def check_ordinary(self, tokens, name):
        """MinigptError where no window has a token that may be hidden: its loss would be a mean of
        nothing.
        """
        if not any(batch.counts["targets"] for batch in self.walk(tokens, 32)):
            raise MinigptError(f"{name}: all tokens are special, such as the unknown one: none of them can be hidden")

    def at(self, progress):
        """The objective that draws the batches of a step, progress (0 to 1) of a run being done."""
        if progress < self.short_share:
            stage = int(progress / self.short_share * len(self.stages))
            return self.stages[min(stage, len(self.stages) - 1)]
        return self

    def draw(self, tokens, rows, rng):
        """A batch of windows at random places of tokens; rng: a numpy Generator. Short ones come
        so many times that they have about the tokens of as many long ones.
        """
        rows *= self.times
        if self.static:
            side_by_side = self.side_by_side(tokens)
            places = side_by_side[rng.integers(0, len(side_by_side), rows)]
            numbers = numbers_of_places(self.seed, places, self.numbers)
        else:
            places = self.any_places(tokens, rows, rng)
            numbers = rng.random((rows, self.numbers))
        return self.batch(tokens, places, numbers, self.masking)

    def walk(self, tokens, rows):
        """Windows of tokens side by side, each once, without overlap; yields batches of at most
        `rows`, the same at every walk.
        """
        places = self.side_by_side(tokens)
        for first in range(0, len(places), rows):
            some = places[first : first + rows]
            numbers = numbers_of_places(HELD_OUT_SEED, some, self.numbers)
            yield self.batch(tokens, some, numbers, self.held_out_masking)

    @property
    def numbers(self):
        """How many random numbers a row takes."""
        return self.decisions + Masking.numbers(self.length)

    def any_places(self, tokens, rows, rng):
        """Where so many windows begin, drawn at random -> (rows,) array."""
        return rng.integers(0, len(tokens) - self.room + 1, rows)

    def side_by_side(self, tokens):
        """Where windows that lie side by side begin -> (W,) array."""
        return np.arange(0, len(tokens) - self.room + 1, self.room)

    def batch(self, tokens, places, numbers, masking):
        """The Batch of windows that begin at places (B,), from numbers (B, N) between 0 and 1."""
        rows = self.rows(tokens, places, numbers[:, : self.decisions])
        masked = masking.apply(rows["ids"], numbers[:, self.decisions :])
        return Batch(rows | masked._asdict())

    def rows(self, tokens, places, decisions):
        """Rows before their tokens are hidden -> dict of arrays, ids (B, T) among them."""
        text = tokens[places[:, None] + np.arange(self.room)].astype(np.int64)
        around = np.ones((len(places), 1), np.int64)
        return {"ids": np.concatenate([self.tokenizer.cls_id * around, text, self.tokenizer.sep_id * around], axis=1)}

    def show(self, text, seed=0):
        """What the objective makes of a sentence, as text. MinigptError for an empty one."""
        ids = self.tokenizer.encode(text)
        if not len(ids):
            raise MinigptError("the sentence is empty, there is nothing to hide in it")
        row = np.concatenate([[self.tokenizer.cls_id], ids, [self.tokenizer.sep_id]])[None]
        return self.show_row({"ids": row}, seed)

    def show_row(self, row, seed):
        """show, of a row of one text or two as `rows` makes it."""
        numbers = np.random.default_rng(seed).random((1, Masking.numbers(row["ids"].shape[1])))
        masked = self.masking.apply(row["ids"], numbers)
        return shown(self.tokenizer, row, masked)


def numbers_of_places(seed, places, count):
    """Random numbers that belong to places: the same for a place whenever it is asked for ->
    (B, count) from 0 to 1.
    """
    return np.stack([np.random.default_rng([seed, int(place)]).random(count) for place in places])


def check_vocabulary(tokens, vocab_size, tokenizer, name):
    """MinigptError for a token that is not of the model's vocabulary, or a tokenizer of another."""
    if int(tokens.max()) >= vocab_size:
        raise MinigptError(f"{name}: token id {int(tokens.max())}, the model's vocab_size is {vocab_size}")
    if tokenizer.vocab_size > vocab_size:
        raise MinigptError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model's vocab_size is {vocab_size}")
