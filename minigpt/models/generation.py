"""From a model's next logits to a text: what is kept of the texts so far, and the window that
slides over them.

Shapes: B batch, T time, V vocabulary.
"""

from functools import partial

import numpy as np

from minigpt.beams import beam_search
from minigpt.models.inputs import check_prompts, is_ragged
from minigpt.observe import THREAD
from minigpt.sampling import decode, left_pad, window_start


class DecodingState:
    """What a model keeps of the texts that it continues, so that it is fed each token once.

    kv: a KVCache for each block; memory_kv: where blocks read a memory, one more each, which holds
    the memory's keys and values; previous: the vector (B, 1, C) of the newest token for a layer
    that looks one back, such as Smear, or None.
    """

    def __init__(self, kv, memory_kv=None):
        self.kv, self.memory_kv = kv, memory_kv
        self.previous = None

    @property
    def length(self):
        """How many tokens each text has, padding included."""
        return self.kv[0].length

    @property
    def rows(self):
        """How many texts there are."""
        return len(self.kv[0].keys)

    @property
    def room(self):
        """How many tokens each text has room for."""
        return self.kv[0].keys.shape[2]

    def make_room(self, size):
        """Have room for `size` tokens of each text."""
        for kv in self.kv:
            kv.make_room(size)

    def reorder(self, origins):
        """Let text i go on from what text origins[i] (an integer array) is; there may be more or
        fewer than before.
        """
        if self.memory_kv is not None and len(origins) != self.rows:
            still_read = self.memory_rows(origins)
            for kv in self.memory_kv:
                kv.reorder(still_read)
        for kv in self.kv:
            kv.reorder(origins)
        if self.previous is not None:
            self.previous = self.previous[origins]

    def memory_rows(self, origins):
        """Which rows of the memory are read after reorder: each is read by equally many texts side
        by side, which stay together.
        """
        return np.unique(origins * len(self.memory_kv[0].keys) // self.rows)

    def forget(self):
        """Begin the texts anew, in the same buffers; a memory stays."""
        self.previous = None
        for kv in self.kv:
            kv.length = 0


class CachedLogits:
    """uncached_logits with a DecodingState: each call computes the newest token alone, or the whole
    context after the window has jumped.
    """

    def __init__(self, model):
        self.model = model
        self.state = self.starts = None

    def __call__(self, rows, origins=None):
        """Rows so far -> logits (B, V). Each is a token longer than it was at the last call, or,
        with origins, than row origins[i] was.
        """
        block_size = self.model.config.block_size
        if self.state is None:
            self.state = self.model.decoding_state(len(rows))
            self.next_logits = decoder(self.model, self.state)
            self.visible = np.empty((len(rows), block_size), bool)
        elif origins is not None:
            self.reorder(origins)
        starts = [window_start(len(row), block_size) for row in rows]
        if starts != self.starts:
            self.state.forget()
            ids, mask, position_ids = left_pad([row[start:] for row, start in zip(rows, starts)])
            self.starts, self.padded = starts, mask is not None
            self.visible[:] = True
            if self.padded:
                self.visible[:, : ids.shape[1]] = mask
        else:
            ids = np.array([row[-1:] for row in rows])
            position_ids = np.array([[len(row) - start - 1] for row, start in zip(rows, starts)])
        key_mask = self.visible[:, : self.state.length + ids.shape[1]] if self.padded else None
        return self.next_logits(ids, key_mask=key_mask, position_ids=position_ids)

    def reorder(self, origins):
        """Go on with row origins[i] in place of row i."""
        rows = len(self.starts)
        self.starts, self.visible = [self.starts[i] for i in origins], self.visible[origins]
        self.state.reorder(origins)
        if len(origins) != rows:
            self.next_logits = decoder(self.model, self.state)
        if self.padded and not self.visible[:, 0].any():  # the longest text is gone: its columns would take up room
            self.starts = None


def decoder(model, state):
    """What computes next_logits on a state, called without it: the family's fast decoder, or the
    model itself.

    A class that is made of a family computes as it says itself, complex numbers have no maximum,
    and an observer is to see every op.
    """
    if vars(type(model)).get("fast_decoder") and model.dtype.kind == "f" and THREAD.observer is None:
        return model.fast_decoder(model, state)
    return partial(model.next_logits, state=state)


def uncached_logits(model, rows):
    """Logits (B, V) of each row's next token, computed from the whole context that the window
    leaves of it.
    """
    ids, mask, position_ids = left_pad(contexts(rows, model.config.block_size))
    return model.next_logits(ids, key_mask=mask, position_ids=position_ids)


def contexts(rows, block_size):
    """The part of each row that a model with a window of block_size tokens sees."""
    return [row[window_start(len(row), block_size) :] for row in rows]


def stream(model, ids, max_new_tokens, sampling, *, copies=1, use_cache, attention_mask):
    """CausalModel.stream, of `copies` texts that begin with each prompt."""
    rows = repeated(check_prompts(ids, model.config.vocab_size, attention_mask), copies)
    yield from decode(next_logits_of(model, use_cache), rows, max_new_tokens, sampling)


def search(model, ids, max_new_tokens, beams, *, use_cache, attention_mask):
    """CausalModel.generate with beams."""
    rows = check_prompts(ids, model.config.vocab_size, attention_mask)
    best = beam_search(next_logits_of(model, use_cache), rows, max_new_tokens, beams)
    return with_prompts(repeated(ids, beams.num_return_sequences), list(side_by_side(best).T))


def next_logits_of(model, use_cache):
    """A function of the rows so far, and of where they come from, to their next logits: with a
    cache or without.
    """
    return CachedLogits(model) if use_cache else lambda rows, origins=None: uncached_logits(model, rows)


def side_by_side(best, fill=None):
    """The new ids of what beam_search found, one row each: (rows, n). One that ended earlier than
    the longest goes on with the id `fill`, or repeats its last where that is None.
    """
    new = [one.ids for of_text in best for one in of_text]
    n = max(map(len, new))
    return np.stack([np.append(ids, np.full(n - len(ids), ids[-1] if fill is None else fill)) for ids in new])


def repeated(ids, n):
    """Prompts, each n times, one after the other."""
    return ids if n == 1 else [row for row in ids for _ in range(n)]


def with_prompts(ids, new):
    """Prompts as they were given, and the new ids (B,) of each step behind them: what generate
    returns.
    """
    new = np.stack(new, axis=1) if new else np.zeros((len(ids), 0), np.int64)
    if is_ragged(ids):
        return [np.concatenate([np.asarray(row, np.int64), n]) for row, n in zip(ids, new)]
    return np.concatenate([np.asarray(ids, np.int64), new], axis=1)
