"""Windows of text as a source, which an encoder reads, and a target, which a decoder writes.

Shapes: B rows, L tokens of text, S tokens of the longest source, T of the longest target.
"""

from types import MappingProxyType

import numpy as np

from minigpt.checks import whole
from minigpt.errors import MinigptError
from minigpt.objectives.batch import Batch
from minigpt.objectives.masked_lm import HELD_OUT_SEED, check_vocabulary, numbers_of_places
from minigpt.ops.loss import IGNORED


class SourceTarget:
    """Windows of `length` tokens of a text, of which a kind makes sources and targets.

    A batch holds ids (B, S) and attention_mask, the source with </s> behind it and padding;
    targets (B, T) with </s> behind it, -100 at the padding; decoder_input_ids (B, T), the targets
    one place later, the start token before them; decoder_attention_mask (B, T).

    A kind gives `name`, `settings`, `numbers`, how many random numbers a row takes, and
    `source_target`. A run's draws take new ones, a walk always those of a window's place.
    """

    name = None  # of the objective, saved with a run
    terms = MappingProxyType({})  # its loss has one term, and no name for it but "loss"

    def __init__(self, tokenizer, length, *, at_least):
        """tokenizer: gives pad_id, which is also the decoder's start token as in T5, eos_id,
        special_ids and sentinel_ids; length: L, tokens of text in a row, at_least so many.
        MinigptError for a length without room, or a tokenizer without these tokens.
        """
        self.tokenizer = tokenizer
        self.length = whole("sequence length", length, at_least=at_least)
        for token, name in ((tokenizer.pad_id, "padding token"), (tokenizer.eos_id, "token that ends a text (</s>)")):
            if token is None:
                raise MinigptError(f"the tokenizer has no {name}, which a source and its target need")

    def source_target(self, text, numbers, *, held_out=False):
        """Rows of text (B, L) and numbers (B, self.numbers) from 0 to 1 -> source, target, each as
        values (B, W) and which of them are kept, bool. held_out: with the settings of a walk.
        """
        raise NotImplementedError

    def check(self, tokens, vocab_size, name="text"):
        """MinigptError where tokens (N,) are too few for a window, or one of them or of the
        tokenizer's is not of the vocabulary.
        """
        if len(tokens) < self.length:
            raise MinigptError(f"{name}: {len(tokens)} tokens, at least {self.length} are needed for a row")
        check_vocabulary(tokens, vocab_size, self.tokenizer, name)

    def at(self, progress):
        """The objective that draws the batches of a step, progress (0 to 1) of a run being done."""
        return self

    def draw(self, tokens, rows, rng):
        """A batch of windows at random places of tokens (N,); rng: a numpy Generator."""
        places = rng.integers(0, len(tokens) - self.length + 1, rows)
        return self.batch(self.windows(tokens, places), rng.random((rows, self.numbers)))

    def walk(self, tokens, rows):
        """Windows of tokens side by side, each once, without overlap; yields batches of at most
        `rows`, the same at every walk.
        """
        places = np.arange(0, len(tokens) - self.length + 1, self.length)
        for first in range(0, len(places), rows):
            some = places[first : first + rows]
            numbers = numbers_of_places(HELD_OUT_SEED, some, self.numbers)
            yield self.batch(self.windows(tokens, some), numbers, held_out=True)

    def windows(self, tokens, places):
        """The windows that begin at places (B,) -> (B, L)."""
        return tokens[places[:, None] + np.arange(self.length)].astype(np.int64)

    def batch(self, text, numbers, *, held_out=False):
        """The Batch of rows of text (B, L)."""
        source, target = self.source_target(text, numbers, held_out=held_out)
        return source_target_batch(source, target, pad=self.tokenizer.pad_id, eos=self.tokenizer.eos_id)

    def text_of(self, text):
        """A sentence for `show` -> ids (1, N). MinigptError where it is too short."""
        ids = self.tokenizer.encode(text)
        if len(ids) < 2:
            raise MinigptError(f"the sentence has {len(ids)} tokens, at least 2 are needed for a source and a target")
        return ids[None]


def source_target_batch(source, target, *, pad, eos):
    """A Batch of what is kept of values, row by row: source and target are values (B, W) and which
    of them are kept (B, W) bool; pad, eos: token ids, pad also begins what a decoder reads.
    """
    ids, mask = packed(*source, pad=pad, eos=eos)
    targets, target_mask = packed(*target, pad=pad, eos=eos)
    start = np.full((len(targets), 1), pad)
    return Batch(
        {
            "ids": ids,
            "attention_mask": mask.astype(np.int64),
            "targets": np.where(target_mask, targets, IGNORED),
            "decoder_input_ids": np.concatenate([start, targets[:, :-1]], axis=1),
            "decoder_attention_mask": target_mask.astype(np.int64),
        }
    )


def packed(values, kept, *, pad, eos):
    """The values (B, W) that are kept, row by row side by side, eos behind them and pad to the
    longest row -> (B, S) int64, (B, S) bool, False at the padding.

    >>> packed(np.array([[7, 8, 9]]), np.array([[True, False, True]]), pad=0, eos=1)[0].tolist()
    [[7, 9, 1]]
    """
    lengths, place = kept.sum(axis=1)[:, None], np.arange(kept.sum(axis=1).max() + 1)
    rows = np.full((len(values), len(place)), pad)
    rows[place < lengths] = values[kept]
    rows[np.arange(len(rows)), lengths[:, 0]] = eos
    return rows, place <= lengths
