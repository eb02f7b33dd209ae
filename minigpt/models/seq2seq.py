"""From a model of two stacks to a text: the source is read once, the target written token by token,
drawn or searched for.

Shapes: M sources, B rows that are written, several side by side for each source where there are
beams, S tokens of a source, C channels, V vocabulary.
"""

import numpy as np

from minigpt.beams import beam_search
from minigpt.errors import MinigptError
from minigpt.models.generation import decoder, repeated, side_by_side
from minigpt.models.inputs import check_prompts
from minigpt.sampling import decode, stop_ids

ROOM = 64  # tokens that a state has room for at first; where they are too few it is doubled


class CachedTarget:
    """The next logits of rows that are written, with a DecodingState: each call computes the newest
    token alone, and the memory's keys and values are computed at the first one.
    """

    def __init__(self, model, memory, memory_mask):
        self.model, self.memory, self.memory_mask = model, memory, memory_mask
        self.state = None

    def __call__(self, rows, origins=None):
        """Rows so far, all of one length -> logits (B, V). Each is a token longer than it was at
        the last call, or, with origins, than row origins[i] was.
        """
        first = self.state is None
        if first:
            self.begin(len(rows))
        elif origins is not None:
            self.reorder(origins)
        if self.state.length == self.state.room:
            self.state.make_room(2 * self.state.room)
            self.next_logits = decoder(self.model, self.state)
        ids = np.array([row[-1:] for row in rows])
        return self.next_logits(ids, memory=self.memory if first else None, memory_mask=self.memory_mask)

    def begin(self, rows):
        """Take buffers: as many rows of the memory as there are sources, which rows side by side
        share.
        """
        sources, S, _ = self.memory.shape
        self.state = self.model.decoding_state(rows, S, ROOM, sources=sources)
        self.next_logits = decoder(self.model, self.state)

    def reorder(self, origins):
        """Go on with row origins[i] in place of row i; a source that none goes on with is left
        out.
        """
        if len(origins) != self.state.rows:
            still_read = self.state.memory_rows(origins)
            self.memory_mask = None if self.memory_mask is None else self.memory_mask[still_read]
            self.state.reorder(origins)
            self.next_logits = decoder(self.model, self.state)
        else:
            self.state.reorder(origins)


class UncachedTarget:
    """CachedTarget without a state: each call computes the rows from their beginning."""

    def __init__(self, model, memory, memory_mask):
        self.model, self.memory, self.memory_mask = model, memory, memory_mask
        self.sources = None  # which source a row is of

    def __call__(self, rows, origins=None):
        """Arguments and result of CachedTarget."""
        if self.sources is None:
            self.sources = np.arange(len(self.memory)).repeat(len(rows) // len(self.memory))
        elif origins is not None:
            self.sources = self.sources[origins]
        mask = None if self.memory_mask is None else self.memory_mask[self.sources]
        return self.model.next_logits(np.array(rows), memory=self.memory[self.sources], memory_mask=mask)


def check_sources(model, ids, attention_mask=None):
    """What is read: ids (M, S) int as they are, or sequences of unequal length, filled up at their
    right -> ids (M, S), mask (M, S) bool or None where nothing is padded.

    MinigptError for ids or masks that do not fit, and for a source of padding alone.
    """
    if ids is None:
        raise MinigptError("ids are missing: a decoder reads what the encoder makes of them")
    if attention_mask is None:
        rows = check_prompts(ids, model.config.vocab_size, name="source")
        S = max(map(len, rows))
        ids = np.stack([np.append(row, np.full(S - len(row), model.config.pad_token_id)) for row in rows])
        mask = np.arange(S) < np.array([[len(row)] for row in rows])
    else:
        ids, mask = model.check_source(ids, attention_mask)
        if not mask.any(axis=1).all():
            row = int(mask.any(axis=1).argmin())
            raise MinigptError(f"attention_mask: row {row} is padding alone, a source needs at least 1 token")
    return ids, None if mask.all() else mask


def read(model, ids, attention_mask, use_cache):
    """Run the encoder -> a function of the rows so far to their next logits, and the rows that the
    decoder begins with, of the start token alone.
    """
    ids, mask = check_sources(model, ids, attention_mask)
    memory, _ = model.encode(ids, mask, keep="nothing")
    start = np.array([model.config.decoder_start_token_id])
    return (CachedTarget if use_cache else UncachedTarget)(model, memory, mask), [start] * len(ids)


def stream(model, ids, max_new_tokens, sampling, *, copies=1, use_cache, attention_mask):
    """EncoderDecoderModel.stream, of `copies` texts for each source."""
    next_logits, rows = read(model, ids, attention_mask, use_cache)
    rows = repeated(rows, copies)
    yield from decode(next_logits, rows, max_new_tokens, sampling, fill=model.config.pad_token_id)


def search(model, ids, max_new_tokens, beams, *, use_cache, attention_mask):
    """EncoderDecoderModel.generate with beams: the new ids of the best, (M n, new).

    What fills up a row that ended is transformers': pad_token_id, or, where that is 0, the stop id.
    """
    next_logits, rows = read(model, ids, attention_mask, use_cache)
    best = beam_search(next_logits, rows, max_new_tokens, beams)
    return side_by_side(best, fill=model.config.pad_token_id or next(iter(stop_ids(beams.stop)), None))
