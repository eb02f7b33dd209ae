"""What models of two stacks share: logits of a text's next token given another text, their loss and
gradients, and the states of decoding.

Shapes: B batch, S tokens of the source, T of the target, C channels, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from minigpt.beams import Beams, beams_asked
from minigpt.errors import MinigptError
from minigpt.models import seq2seq
from minigpt.models.base import Model
from minigpt.models.generation import DecodingState
from minigpt.models.inputs import (
    as_array,
    check_ids,
    check_labels,
    check_logit_gradient,
    check_mask,
    check_names,
    check_rng,
    count_of,
)
from minigpt.ops.embedding import UnembeddingCache
from minigpt.ops.linear import LinearCache
from minigpt.ops.loss import IGNORED, cross_entropy_backward, cross_entropy_forward
from minigpt.sampling import Sampling


class EncoderDecoderCache(NamedTuple):
    encoder: NamedTuple  # of the family's encode
    decoder: NamedTuple  # of its decode
    head: UnembeddingCache | LinearCache
    blank: np.ndarray | None  # (B,) bool: rows whose source or target is padding alone, where there are some


class EncoderDecoderModel(Model):
    """A model that reads one text and writes another.

    A family gives `wire`, with `encoder` and `decoder`, two lists of blocks, and `head` among its
    layers; `encode` and `decode`, everything below the head, and their backwards; and what stands
    between decoder and logits, `head_forward` and `head_backward`. Its config has vocab_size,
    pad_token_id and decoder_start_token_id. Texts may have any length. One that is wired as
    FastT5Decoder expects names it.
    """

    fast_decoder = None  # or models.fast_seq2seq.FastT5Decoder

    def encode(self, ids, key_mask=None, rng=None, *, keep="activations"):
        """Read the source, without checks: ids (B, S), key_mask (B, S) bool, False at padding ->
        memory (B, S, C), cache. keep: what of the blocks, one of layers.stack.KEEP.
        """
        raise NotImplementedError

    def encode_backward(self, g, dmemory, cache):
        """Add the gradients of encode into a store; dmemory (B, S, C)."""
        raise NotImplementedError

    def decode(self, ids, memory, memory_mask=None, key_mask=None, rng=None, *, state=None, keep="activations"):
        """Everything of the target below the head, without checks: ids (B, T) -> h (B, T, C),
        cache.

        memory (B, S, C) of encode, memory_mask (B, S) and key_mask (B, T) bool, False at padding.
        state: a DecodingState, where ids are the newest tokens of its texts: key_mask then covers
        all tokens so far, and memory is read at the first call alone and may be None later.
        """
        raise NotImplementedError

    def decode_backward(self, g, dh, cache):
        """Add the gradients of decode into a store; dh (B, T, C) -> dmemory (B, S, C)."""
        raise NotImplementedError

    def head_forward(self, h):
        """Logits from what the decoder gives: h (..., C) -> logits (..., V), cache."""
        raise NotImplementedError

    def head_backward(self, g, dlogits, cache):
        """Add the head's gradients into a store; dlogits (..., V) -> dh (..., C)."""
        raise NotImplementedError

    def forward(
        self, ids, decoder_input_ids, attention_mask=None, decoder_attention_mask=None, rng=None, *, keep="activations"
    ):
        """Logits of the target's next token at every position.

        ids (B, S) int, decoder_input_ids (B, T) int, beginning with the start token; masks of the
        same shapes, 0 at padding; rng a numpy Generator for dropout, None for none; keep: "inputs"
        keeps each block's input alone, and backward runs the block again; "nothing" says that no
        backward will follow -> logits (B, T, V), EncoderDecoderCache. A row whose source or target
        is padding alone gives zeros. MinigptError for ids or masks that do not fit.
        """
        check_rng(rng)
        ids, mask = self.check_source(ids, attention_mask)
        decoder_ids, decoder_mask = self.check_target(decoder_input_ids, decoder_attention_mask, len(ids))
        memory, encoder = self.encode(ids, mask, rng, keep=keep)
        h, decoder = self.decode(decoder_ids, memory, mask, decoder_mask, rng, keep=keep)
        logits, head = self.head_forward(h)
        blank = blank_rows(mask, decoder_mask)
        return without(blank, logits), EncoderDecoderCache(encoder, decoder, head, blank)

    def backward(self, dlogits, cache):
        """Gradients of forward: dlogits (B, T, V), its cache -> a fresh dict of gradients, keys and
        shapes of `parameters`. MinigptError for a gradient of another shape than the logits.
        """
        dlogits, grads = check_logit_gradient(dlogits, cache), self.store.zeros_like()
        self.add_backward(grads, without(cache.blank, dlogits), cache)
        return dict(grads)

    def add_backward(self, g, dlogits, cache):
        """backward, adding into a store of gradients; it adds nothing for a name that the store
        lacks.
        """
        dh = self.head_backward(g, dlogits, cache.head)
        self.encode_backward(g, self.decode_backward(g, dh, cache.decoder), cache.encoder)

    def logits(self, ids, decoder_input_ids, attention_mask=None, decoder_attention_mask=None):
        """forward without its cache: -> logits (B, T, V)."""
        return self.forward(ids, decoder_input_ids, attention_mask, decoder_attention_mask, keep="nothing")[0]

    def loss(self, batch, rng=None, *, counts=None):
        """Mean cross-entropy of the target's tokens, in nats: ops.cross_entropy_forward has the
        formula.

        batch: named arrays, ids (B, S) and targets (B, T) int and, where given, attention_mask,
        decoder_attention_mask and decoder_input_ids, which are the targets moved to the right
        unless given (shift_right). A target of -100 is ignored; counts is a dict whose "targets" is
        the number of targets to divide by, this call's unless given, so that parts of a batch add
        up to the whole with objectives.Batch.counts of the whole.

        MinigptError for an array that is missing or not read, of a wrong dtype or shape, a value
        out of range, a text of padding alone, and where nothing counts and no counts are given.
        """
        return self.loss_forward(batch, rng, counts=counts, keep="nothing")[0]

    def loss_and_grads(self, batch, rng=None, only=None):
        """Loss and a fresh dict of gradients, with the keys and shapes of `parameters`; arguments
        and errors as for `loss`. only: names of the parameters whose gradients are wanted; products
        for the others are not computed.
        """
        return super().loss_and_grads(batch, rng=rng, only=only)

    def loss_terms(self, batch, rng=None, *, counts=None):
        """The terms whose sum is the loss, each by the array that it compares with: here one, of
        the targets.
        """
        return {"targets": self.loss(batch, rng, counts=counts)}

    def loss_forward(self, batch, rng=None, *, counts=None, keep="activations"):
        """loss and what its backward needs: -> loss, cache of forward, cache of the loss."""
        batch = self.check_batch(batch)
        count = count_of("targets", batch["targets"], counts)
        inputs = [batch[name] for name in ("ids", "decoder_input_ids", "attention_mask", "decoder_attention_mask")]
        logits, cache = self.forward(*inputs, rng, keep=keep)
        loss, loss_cache = cross_entropy_forward(logits, batch["targets"], count)
        return loss, cache, loss_cache

    def add_gradients(self, g, batch, targets=None, rng=None, *, counts=None, keep="activations"):
        """Add the loss's gradients into a store g -> the loss; keep as for `forward`, other
        arguments and errors as for `loss`. targets: refused, the batch has its own.
        """
        if targets is not None:
            raise MinigptError("targets: a batch of named arrays holds its own; further arguments go by name, as rng=")
        loss, cache, loss_cache = self.loss_forward(batch, rng, counts=counts, keep=keep)
        self.add_backward(g, cross_entropy_backward(1.0, loss_cache), cache)
        return loss

    def check_source(self, ids, mask):
        """The encoder's ids (B, S) as an integer array and their mask as bools or None.
        MinigptError as for `forward`.
        """
        if ids is None:
            raise MinigptError("ids are missing: a decoder reads what the encoder makes of them")
        ids = check_ids(ids, self.config.vocab_size, None)
        return ids, check_mask(mask, ids)

    def check_target(self, ids, mask, rows):
        """The decoder's ids (B, T) and their mask, as check_source; rows: how many the source
        has.
        """
        if ids is None:
            raise MinigptError("decoder_input_ids are missing: the target so far, its first id the start token's")
        ids = check_ids(ids, self.config.vocab_size, None, name="decoder_input_ids")
        if len(ids) != rows:
            raise MinigptError(f"decoder_input_ids: {len(ids)} rows, ids have {rows}")
        return ids, check_mask(mask, ids, name="decoder_attention_mask", of="decoder_input_ids")

    def check_batch(self, batch):
        """What a loss is asked for: -> dict of arrays, those that may be missing included, masks
        as bools or None. MinigptError as for `loss`.
        """
        c = self.config
        check_names(batch, ("ids", "targets"), ("attention_mask", "decoder_input_ids", "decoder_attention_mask"))
        ids, mask = self.check_source(batch["ids"], batch.get("attention_mask"))
        targets, decoder_ids = as_array(batch["targets"], "targets"), batch.get("decoder_input_ids")
        if targets.ndim != 2 or targets.size == 0:
            raise MinigptError(f"targets: shape is {targets.shape}, it must be (batch, time) with at least one of each")
        targets = check_labels("targets", targets, targets.shape, c.vocab_size)
        if len(targets) != len(ids):
            raise MinigptError(f"targets: {len(targets)} rows, ids have {len(ids)}")
        if decoder_ids is None:
            decoder_ids = shift_right(targets, c.decoder_start_token_id, c.pad_token_id)
        decoder_ids, decoder_mask = self.check_target(decoder_ids, batch.get("decoder_attention_mask"), len(ids))
        if decoder_ids.shape != targets.shape:
            raise MinigptError(f"decoder_input_ids: shape is {decoder_ids.shape}, that of targets is {targets.shape}")
        for name, found in (("attention_mask", mask), ("decoder_attention_mask", decoder_mask)):
            if found is not None and not found.any(axis=1).all():
                row = int(np.argmin(found.any(axis=1)))
                raise MinigptError(f"{name}: row {row} is padding alone, a loss needs at least 1 token")
        found = {"ids": ids, "attention_mask": mask, "targets": targets}
        return found | {"decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}

    def random_batch(self, rng, rows=2, length=16):
        """A batch of random texts and targets, for a gradient check: the first source is padded,
        its target is shorter than the others.
        """
        ids = rng.integers(0, self.config.vocab_size, (rows, length))
        targets = rng.integers(0, self.config.vocab_size, (rows, max(1, 3 * length // 4)))
        mask = np.ones(ids.shape, np.int64)
        mask[0, 1 + length // 2 :] = 0
        targets[0, 1 + targets.shape[1] // 2 :] = IGNORED
        return {"ids": ids, "attention_mask": mask, "targets": targets}

    def decoding_state(self, rows, source, target, *, sources=None):
        """What is kept of `rows` targets while they are written, with room for `target` tokens each
        and for the keys and values of a memory of `source` tokens: a DecodingState.

        sources: how many rows the memory has, one a target unless given; each is read by rows /
        sources targets side by side.
        """
        sources = rows if sources is None else sources
        own = [block.attn.kv_cache(rows, target, self.dtype) for block in self.decoder]
        return DecodingState(own, [block.cross.kv_cache(sources, source, self.dtype) for block in self.decoder])

    def next_logits(self, ids, state=None, *, memory=None, memory_mask=None, key_mask=None):
        """Logits of the token that follows: ids (B, T), the newest tokens of a state's targets or
        the whole targets -> (B, V). Other arguments as for `decode`.
        """
        h, _ = self.decode(ids, memory, memory_mask, key_mask, state=state, keep="nothing")
        return self.head_forward(h[:, -1:])[0][:, 0]

    def generate(self, ids, max_new_tokens=100, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0,
                 use_cache=True, attention_mask=None, *, num_beams=1, length_penalty=1.0, early_stopping=False,
                 repetition_penalty=1.0, num_return_sequences=1):  # fmt: skip
        """Write a text for each source, token by token.

        ids (B, S) int, what the encoder reads, with attention_mask (B, S), 0 at padding, or a list
        of B sequences of unequal length -> (B, 1 + new) int, what the decoder writes, its start
        token first. A text ends at the stop id, eos_token_id unless given ([] for none), or after
        max_new_tokens, and new is less than those where all have ended; one that ended sooner is
        filled up with pad_token_id (of beams, where that is 0, with the stop id, as transformers
        does). The encoder runs once.

        temperature 0 is greedy; sampling.token_probabilities explains the other settings,
        sampling.penalised repetition_penalty, which counts what was written, start token included.
        num_beams above 1 searches for the likeliest texts (minigpt.beams), and draws nothing:
        sampling settings are refused. num_return_sequences of each source are returned, one after
        the other: the best first, or, where tokens are drawn, each drawn apart. use_cache=False
        computes every step anew, to the same tokens. MinigptError for settings or ids out of range.
        """
        more = {"use_cache": use_cache, "attention_mask": attention_mask}
        stop = self.config.eos_token_id if stop is None else stop
        beams = Beams(num_beams, length_penalty, early_stopping, num_return_sequences, stop, repetition_penalty)
        sampling = Sampling(temperature, top_k, top_p, stop, seed, repetition_penalty)
        if beams_asked(beams, sampling):
            new = seq2seq.search(self, ids, max_new_tokens, beams, **more)
        else:
            steps = seq2seq.stream(self, ids, max_new_tokens, sampling, copies=num_return_sequences, **more)
            new = np.array(list(steps), np.int64).T
        rows = len(new) or len(ids) * num_return_sequences  # no step, no row
        return np.insert(new.reshape(rows, -1), 0, self.config.decoder_start_token_id, axis=1)

    def stream(self, ids, max_new_tokens=100, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0,
               use_cache=True, attention_mask=None, *, repetition_penalty=1.0):  # fmt: skip
        """generate without beams as an iterator: yields the new ids (B,) of each step as they are
        drawn, without the start token.
        """
        stop = self.config.eos_token_id if stop is None else stop
        sampling = Sampling(temperature, top_k, top_p, stop, seed, repetition_penalty)
        return seq2seq.stream(self, ids, max_new_tokens, sampling, use_cache=use_cache, attention_mask=attention_mask)


def shift_right(targets, start, pad):
    """What the decoder is fed to write targets (B, T): the token before each, start before the
    first, pad where the one before is ignored (-100) -> (B, T) int64, as targets of few bytes may
    have no room for these.
    """
    targets = targets.astype(np.int64)
    moved = np.roll(targets, 1, axis=1)
    moved[:, 0] = start
    return np.where(moved == IGNORED, pad, moved)


def blank_rows(*masks):
    """Rows of which at least one mask (B, ...) is False throughout: (B,) bool, or None where no row
    is; None is a mask without padding.
    """
    blank = [~mask.any(axis=1) for mask in masks if mask is not None]
    return np.any(blank, axis=0) if np.any(blank) else None


def without(blank, x):
    """A copy of x with zeros in the rows where blank (B,) is True; x itself where it is None."""
    if blank is None:
        return x
    x = x.copy()
    x[blank] = 0
    return x
