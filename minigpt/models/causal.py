"""What the causal decoders share: logits of the next token, their loss and gradients, and the
continuation of a text.

Shapes: B batch, T time, C channels, V vocabulary.
"""

from minigpt.beams import Beams, beams_asked
from minigpt.layers.shared import NOTHING_SHARED, Shared
from minigpt.models import generation
from minigpt.models.base import Model
from minigpt.models.inputs import (
    check_ids,
    check_logit_gradient,
    check_mask,
    check_positions,
    check_rng,
    count_of,
    next_token_batch,
)
from minigpt.ops.loss import cross_entropy_backward, cross_entropy_forward
from minigpt.sampling import Sampling


class CausalModel(Model):
    """A model that predicts each token from those before it.

    A family gives `wire`, with `blocks` and `head` among its layers; `hidden`, everything below the
    head; and `add_backward`, head included. Its config has vocab_size and block_size, the most
    tokens that it sees at a time. One that is wired as FastDecoder expects names it.
    """

    fast_decoder = None  # or models.fast_decoding.FastDecoder

    def hidden(self, ids, rng=None, *, shared=NOTHING_SHARED, position_ids=None, state=None, keep="activations"):
        """Everything below the head, without checks: ids (B, T) -> h (B, T, C), the family's cache
        without its head.

        state: a DecodingState, where ids are the newest tokens of its texts; keep: what of the
        blocks, one of layers.stack.KEEP.
        """
        raise NotImplementedError

    def add_backward(self, g, dlogits, cache):
        """backward, adding into a store of gradients; it adds nothing for a name that the store
        lacks.
        """
        raise NotImplementedError

    def forward(self, ids, rng=None, attention_mask=None, position_ids=None, *, keep="activations"):
        """Logits of the next token at every position.

        ids (B, T) int, T at most block_size; rng a numpy Generator for dropout, None for none;
        attention_mask (B, T), 0 at padding; position_ids (T,) or (B, T), 0 .. T-1 unless given;
        keep: "inputs" keeps each block's input alone, and backward runs the block again; "nothing"
        says that no backward will follow -> logits (B, T, V), the family's cache. MinigptError for
        ids, masks or positions that do not fit.
        """
        check_rng(rng)
        ids = check_ids(ids, self.config.vocab_size, self.config.block_size)
        shared = Shared(key_mask=check_mask(attention_mask, ids))
        position_ids = check_positions(position_ids, ids, self.config.block_size)
        h, cache = self.hidden(ids, rng, shared=shared, position_ids=position_ids, keep=keep)
        logits, head = self.head.forward(self.store, h)
        return logits, cache._replace(head=head)

    def backward(self, dlogits, cache):
        """Gradients of forward: dlogits (B, T, V), its cache -> a fresh dict of gradients, keys and
        shapes of `parameters`. MinigptError for a gradient of another shape than the logits.
        """
        dlogits, grads = check_logit_gradient(dlogits, cache), self.store.zeros_like()
        self.add_backward(grads, dlogits, cache)
        return dict(grads)

    def logits(self, ids, attention_mask=None, position_ids=None):
        """forward without its cache: ids (B, T) -> logits (B, T, V)."""
        return self.forward(ids, None, attention_mask, position_ids, keep="nothing")[0]

    def loss(self, batch, targets=None, rng=None, *, counts=None):
        """Mean cross-entropy of the next token, in nats: ops.cross_entropy_forward has the formula.

        batch: named arrays, ids and targets (B, T) int and, where given, attention_mask and
        position_ids; or ids alone, and targets after them. A target of -100 is ignored; counts is
        a dict whose "targets" is the number of targets to divide by, this call's unless given, so
        that parts of a batch add up to the whole with objectives.Batch.counts of the whole.
        MinigptError for ids or targets out of range, of a wrong dtype or shape, or where no target
        counts and no counts are given.
        """
        return self.loss_forward(batch, targets, rng, counts=counts, keep="nothing")[0]

    def loss_terms(self, batch, targets=None, rng=None, *, counts=None):
        """The terms whose sum is the loss, each by the array that it compares with: here one, of
        the targets.
        """
        return {"targets": self.loss(batch, targets, rng, counts=counts)}

    def loss_forward(self, batch, targets=None, rng=None, *, counts=None, keep="activations"):
        """loss and what its backward needs: -> loss, cache of forward, cache of the loss."""
        batch = next_token_batch(batch, targets, self.config.vocab_size)
        count = count_of("targets", batch["targets"], counts)
        logits, cache = self.forward(
            batch["ids"], rng, batch.get("attention_mask"), batch.get("position_ids"), keep=keep
        )
        loss, loss_cache = cross_entropy_forward(logits, batch["targets"], count)
        return loss, cache, loss_cache

    def add_gradients(self, g, batch, targets=None, rng=None, *, counts=None, keep="activations"):
        """Add the loss's gradients into a store g -> the loss; keep as for `forward`, other
        arguments and errors as for `loss`.
        """
        loss, cache, loss_cache = self.loss_forward(batch, targets, rng, counts=counts, keep=keep)
        self.add_backward(g, cross_entropy_backward(1.0, loss_cache), cache)
        return loss

    def random_batch(self, rng, rows=2, length=16):
        """A batch of random texts and targets, for a gradient check."""
        ids, targets = rng.integers(0, self.config.vocab_size, (2, rows, min(self.config.block_size, length)))
        return {"ids": ids, "targets": targets}

    def activation_memory(self, tokens, *, keep="activations"):
        """A lower bound of the bytes that a forward pass over so many tokens keeps for backward.

        22 C numbers a token and layer: less than any attention, MLP and normalisation keep
        (measured at 6 layers of 384 channels, T=256: 24). A block of which the input alone is kept
        has C, and one block at a time is run again.
        """
        channels = next(p.shape[1] for p in self.store.parameters.values() if p.role == "embedding")
        layers = len(self.blocks) + 22 if keep == "inputs" else len(self.blocks) * 22  # in units of C numbers a token
        return self.dtype.itemsize * tokens * (layers * channels + 2 * self.config.vocab_size)

    def decoding_state(self, rows):
        """What is kept of `rows` texts while they are continued, with room for block_size tokens
        each: a DecodingState.
        """
        kv = [block.attn.kv_cache(rows, self.config.block_size, self.dtype) for block in self.blocks]
        return generation.DecodingState(kv)

    def next_logits(self, ids, state=None, *, key_mask=None, position_ids=None):
        """Logits of the token that follows: ids (B, T), the newest tokens of a state's texts or the
        whole texts -> (B, V).

        key_mask (B, S) bool covers all tokens of the texts so far; position_ids (T,) or (B, T) are
        those of ids.
        """
        h, _ = self.hidden(
            ids, shared=Shared(key_mask=key_mask), position_ids=position_ids, state=state, keep="nothing"
        )
        return self.head.forward(self.store, h[:, -1:])[0][:, 0]

    def generate(self, ids, max_new_tokens=100, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0,
                 use_cache=True, attention_mask=None, *, num_beams=1, length_penalty=1.0, early_stopping=False,
                 repetition_penalty=1.0, num_return_sequences=1):  # fmt: skip
        """Continue a text token by token.

        ids (B, T) int -> (B, T + new) int, prompt included; new is less than max_new_tokens where
        every row met a stop id, and a row that met one repeats it. With prompts of unequal length,
        ids is a list of B sequences and so is the result, or ids is padded and attention_mask (B,
        T) is 0 at the padding. temperature 0 is greedy; sampling.token_probabilities explains the
        other settings, sampling.penalised repetition_penalty. seed: int or numpy Generator.
        use_cache=False computes every step anew, to the same tokens. Past block_size the context
        follows sampling.window_start.

        num_beams above 1 searches for the likeliest texts (minigpt.beams), and draws nothing:
        sampling settings are refused. num_return_sequences of each text are returned, one after
        the other: the best first, or, where tokens are drawn, each drawn apart. MinigptError for
        settings or ids out of range.
        """
        more = {"use_cache": use_cache, "attention_mask": attention_mask}
        beams = Beams(num_beams, length_penalty, early_stopping, num_return_sequences, stop, repetition_penalty)
        sampling = Sampling(temperature, top_k, top_p, stop, seed, repetition_penalty)
        if beams_asked(beams, sampling):
            return generation.search(self, ids, max_new_tokens, beams, **more)
        new = list(generation.stream(self, ids, max_new_tokens, sampling, copies=num_return_sequences, **more))
        return generation.with_prompts(generation.repeated(ids, num_return_sequences), new)

    def stream(self, ids, max_new_tokens=100, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0,
               use_cache=True, attention_mask=None, *, repetition_penalty=1.0):  # fmt: skip
        """generate without beams as an iterator: yields the new ids (B,) of each step as they are
        drawn.
        """
        sampling = Sampling(temperature, top_k, top_p, stop, seed, repetition_penalty)
        return generation.stream(
            self, ids, max_new_tokens, sampling, use_cache=use_cache, attention_mask=attention_mask
        )
