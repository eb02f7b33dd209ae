"""What the encoders share: the heads that stand on their hidden states, the loss of each, and its
gradients.

Shapes: B batch, T time, C channels, V vocabulary, L labels, n tokens with a target.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.layers.heads import ClassifierCache, FirstTokenClassifierCache, MaskedLMCache, PoolerCache
from minigpt.layers.shared import NOTHING_SHARED, Shared
from minigpt.models.base import Model
from minigpt.models.inputs import (
    as_array,
    check_ids,
    check_labels,
    check_mask,
    check_names,
    check_rng,
    check_token_types,
    count_of,
)
from minigpt.ops.linear import LinearCache
from minigpt.ops.loss import IGNORED, cross_entropy_backward, cross_entropy_forward

HEADS = {  # of config.head -> the arrays that its loss compares with, a term of the loss each
    "pretraining": ("targets", "next_sentence"),
    "masked_lm": ("targets",),
    "sequence_classification": ("labels",),
    "token_classification": ("labels",),
    "question_answering": ("starts", "ends"),
    None: (),
}
OUTPUTS = {  # array to compare with -> the output that is compared with it
    "targets": "masked_lm",
    "next_sentence": "next_sentence",
    "labels": "logits",
    "starts": "starts",
    "ends": "ends",
}
READ = ("ids", "attention_mask", "token_type_ids")


class EncoderOutput(NamedTuple):
    """What an encoder gives, or the gradients of that; None for what its head has not."""

    masked_lm: np.ndarray | None = None  # (B, T, V) logits of the token itself; in the loss (n, V)
    next_sentence: np.ndarray | None = None  # (B, 2) logits: 0, the second sentence follows the first; 1, it does not
    logits: np.ndarray | None = None  # (B, L) of the text's label, or (B, T, L) of each token's
    starts: np.ndarray | None = None  # (B, T) logits of the answer's first token being this one
    ends: np.ndarray | None = None  # (B, T) ... and of its last
    hidden: np.ndarray | None = None  # (B, T, C) of the last block
    pooled: np.ndarray | None = None  # (B, C) what the pooler makes of the first token's


class HeadsCache(NamedTuple):
    shape: tuple  # of hidden
    pooler: PoolerCache | None
    masked_lm: MaskedLMCache | None
    next_sentence: LinearCache | None
    classifier: ClassifierCache | FirstTokenClassifierCache | None
    spans: LinearCache | None


class EncoderModel(Model):
    """A model that reads a text in both directions.

    A family gives `wire`, with `blocks` and the heads (pooler, masked_lm, next_sentence,
    classifier, spans, None for those that it has not) among its layers; `hidden`, everything below
    the heads, whose cache has fields for theirs (`heads`) and for `blank`; and `hidden_backward`.
    Its config has vocab_size, hidden_size, type_vocab_size, block_size, head and num_labels.
    """

    def hidden(self, ids, token_type_ids, rng=None, *, shared=NOTHING_SHARED, keep="activations"):
        """Everything below the heads, without checks: ids, token_type_ids (B, T) -> h (B, T, C),
        the family's cache without its heads. keep: what of the blocks, one of layers.stack.KEEP.
        """
        raise NotImplementedError

    def hidden_backward(self, g, dh, cache):
        """Add the gradients of hidden into a store; dh (B, T, C)."""
        raise NotImplementedError

    def forward(self, ids, attention_mask=None, token_type_ids=None, rng=None, *, keep="activations"):
        """What the model's head makes of each text.

        ids (B, T) int, T at most block_size; attention_mask (B, T), 0 at padding; token_type_ids
        (B, T), 0 unless given; rng a numpy Generator for dropout, None for none; keep: "inputs"
        keeps each block's input alone, and backward runs the block again; "nothing" says that no
        backward will follow -> EncoderOutput, the family's cache. A text of padding alone gives
        zeros. MinigptError for ids, masks or token types that do not fit.
        """
        check_rng(rng)
        ids = check_ids(ids, self.config.vocab_size, self.config.block_size)
        mask = check_mask(attention_mask, ids)
        types = check_token_types(token_type_ids, ids, self.config.type_vocab_size)
        h, cache = self.hidden(ids, types, rng, shared=Shared(key_mask=mask), keep=keep)
        out, heads = self.heads(h, rng)
        blank = None if mask is None or mask.any(axis=1).all() else ~mask.any(axis=1)  # (B,) texts of padding alone
        if keep != "nothing":  # the caches hold these two: whoever writes into an output does not change a gradient
            out = out._replace(hidden=h.copy(), pooled=None if out.pooled is None else out.pooled.copy())
        return without(blank, out), cache._replace(heads=heads, blank=blank)

    def backward(self, dout, cache):
        """Gradients of forward: dout, an EncoderOutput of the gradients of its outputs, None for
        zero; its cache -> a fresh dict of gradients, keys and shapes of `parameters`.

        MinigptError for what is no EncoderOutput, for a gradient of an output that the model has
        not, or of another shape.
        """
        grads = self.store.zeros_like()
        self.add_backward(grads, without(cache.blank, self.check_gradient(dout, cache)), cache)
        return dict(grads)

    def add_backward(self, g, dout, cache):
        """backward, adding into a store of gradients; it adds nothing for a name that the store
        lacks.
        """
        self.hidden_backward(g, self.heads_backward(g, dout, cache.heads), cache)

    def heads(self, h, rng=None, *, at=None):
        """What stands on the hidden states: h (B, T, C) -> EncoderOutput, HeadsCache.

        at (n,): the tokens, counted through the batch, whose masked-LM logits (n, V) are wanted;
        all (B, T, V) unless given.
        """
        p = self.store
        pooled = masked_lm = next_sentence = logits = starts = ends = None
        pooler_cache = masked_cache = next_cache = classifier_cache = spans_cache = None
        if self.pooler is not None:
            pooled, pooler_cache = self.pooler.forward(p, h)
        if self.masked_lm is not None:
            masked_lm, masked_cache = self.masked_lm.forward(p, h, at)
        if self.next_sentence is not None:
            next_sentence, next_cache = self.next_sentence.forward(p, pooled)
        if self.classifier is not None:
            logits, classifier_cache = self.classifier.forward(p, h if pooled is None else pooled, rng)
        if self.spans is not None:
            spans, spans_cache = self.spans.forward(p, h)  # (B, T, 2)
            starts, ends = spans[..., 0], spans[..., 1]
        cache = HeadsCache(h.shape, pooler_cache, masked_cache, next_cache, classifier_cache, spans_cache)
        return EncoderOutput(masked_lm, next_sentence, logits, starts, ends, h, pooled), cache

    def heads_backward(self, g, dout, cache):
        """Add the gradients of heads into a store; dout an EncoderOutput, None for zero -> dh
        (B, T, C).
        """
        dh = np.zeros(cache.shape, self.dtype) if dout.hidden is None else dout.hidden
        dpooled = dout.pooled
        if dout.starts is not None or dout.ends is not None:
            dspans = np.zeros((*cache.shape[:-1], 2), self.dtype)  # (B, T, 2)
            for i, dpart in enumerate((dout.starts, dout.ends)):
                if dpart is not None:
                    dspans[..., i] = dpart
            dh = dh + self.spans.backward(g, dspans, cache.spans)
        if dout.logits is not None:
            dx = self.classifier.backward(g, dout.logits, cache.classifier)
            if self.pooler is None:
                dh = dh + dx
            else:
                dpooled = dx if dpooled is None else dpooled + dx
        if dout.next_sentence is not None:
            dx = self.next_sentence.backward(g, dout.next_sentence, cache.next_sentence)
            dpooled = dx if dpooled is None else dpooled + dx
        if dout.masked_lm is not None:
            dh = dh + self.masked_lm.backward(g, dout.masked_lm, cache.masked_lm)
        if dpooled is not None:
            dh = dh + self.pooler.backward(g, dpooled, cache.pooler)
        return dh

    def loss(self, batch, rng=None, *, counts=None):
        """The head's loss in nats, a sum of means (loss_terms).

        batch: named arrays: ids (B, T) and, where given, attention_mask and token_type_ids; and
        those that the head's loss compares with: targets (B, T), the tokens that masks hide;
        next_sentence (B,), 0 where the second sentence follows the first, else 1; labels (B,) or,
        a token each, (B, T); starts and ends (B,), the first and the last token of an answer. -100
        in them is ignored, also of an answer that lies outside of the text. counts: a dict of the
        numbers to divide by, this call's own unless given, so that parts of a batch add up to the
        whole with objectives.Batch.counts of the whole.

        MinigptError for an array that is missing or not read, of a wrong dtype or shape, a value
        out of range, a text of padding alone, and where nothing counts and no counts are given.
        """
        return sum_of(self.loss_terms(batch, rng, counts=counts))

    def loss_and_grads(self, batch, rng=None, only=None):
        """Loss and a fresh dict of gradients, with the keys and shapes of `parameters`; arguments
        and errors as for `loss`. only: names of the parameters whose gradients are wanted; products
        for the others are not computed.
        """
        return super().loss_and_grads(batch, rng=rng, only=only)

    def loss_terms(self, batch, rng=None, *, counts=None):
        """The terms whose sum is the loss: name of the array that is compared with -> a mean
        cross-entropy in nats (ops.cross_entropy_forward); of starts and ends half of it.
        """
        return self.loss_forward(batch, rng, counts=counts, keep="nothing")[0]

    def loss_forward(self, batch, rng=None, *, counts=None, keep="activations"):
        """loss_terms and what its backward needs: -> terms, their caches by the same names, the
        cache of forward.
        """
        check_rng(rng)
        batch, divisors = self.check_batch(batch, counts)
        compared, at = {name: batch[name] for name in HEADS[self.config.head]}, None
        if "targets" in compared:
            # (n,) the head at these alone: 15% of 2,048 tokens take a sixth of its time, a step of
            # 6 layers a fifth less (V = 8,192, C = 384)
            at = np.flatnonzero(batch["targets"] != IGNORED)
            compared["targets"] = batch["targets"].ravel()[at]
        shared = Shared(key_mask=batch["attention_mask"])
        h, cache = self.hidden(batch["ids"], batch["token_type_ids"], rng, shared=shared, keep=keep)
        out, heads = self.heads(h, rng, at=at)
        found = {
            name: cross_entropy_forward(getattr(out, OUTPUTS[name]), values, divisors[name])
            for name, values in compared.items()
        }
        terms, caches = ({name: pair[i] for name, pair in found.items()} for i in (0, 1))
        return terms, caches, cache._replace(heads=heads)

    def add_gradients(self, g, batch, targets=None, rng=None, *, counts=None, keep="activations"):
        """Add the loss's gradients into a store g -> the loss; keep as for `forward`, other
        arguments and errors as for `loss`. targets: refused, the batch has its own.
        """
        if targets is not None:
            raise MinigptError("targets: a batch of named arrays holds its own; further arguments go by name, as rng=")
        terms, caches, cache = self.loss_forward(batch, rng, counts=counts, keep=keep)
        dout = {OUTPUTS[name]: cross_entropy_backward(1.0, cached) for name, cached in caches.items()}
        self.add_backward(g, EncoderOutput(**dout), cache)
        return sum_of(terms)

    def check_batch(self, batch, counts=None):
        """What a loss is asked for: -> dict of arrays, the two that may be missing included; dict
        of what each term's mean is divided by. MinigptError as for `loss`.
        """
        names, c = HEADS[self.config.head], self.config
        if not names:
            raise MinigptError("head is None: the model gives hidden states and has no loss")
        check_names(batch, ("ids", *names), READ)
        ids = check_ids(batch["ids"], c.vocab_size, c.block_size)
        mask = check_mask(batch.get("attention_mask"), ids)
        if mask is not None and not mask.any(axis=1).all():
            row = int(np.argmin(mask.any(axis=1)))
            raise MinigptError(f"attention_mask: row {row} is padding alone, a loss needs at least 1 token in each")
        types = check_token_types(batch.get("token_type_ids"), ids, c.type_vocab_size)
        arrays = {"ids": ids, "attention_mask": mask, "token_type_ids": types}
        for name, (shape, limit) in self.targets_of(*ids.shape).items():
            arrays[name] = check_labels(name, batch[name], shape, limit)
        # the loss of a span is the mean of its two ends'
        halves = 2 if c.head == "question_answering" else 1
        return arrays, {name: halves * count_of(name, arrays[name], counts) for name in names}

    def targets_of(self, B, T):
        """What the loss of B texts of T tokens compares with: name -> shape, and how many values
        there are to choose from.
        """
        c = self.config
        known = {
            "targets": ((B, T), c.vocab_size),
            "next_sentence": ((B,), 2),
            "labels": ((B, T) if c.head == "token_classification" else (B,), c.num_labels),
            "starts": ((B,), T),
            "ends": ((B,), T),
        }
        return {name: known[name] for name in HEADS[c.head]}

    def random_batch(self, rng, rows=2, length=16):
        """A batch of random texts and targets, for a gradient check: the first text is padded."""
        length = min(length, self.config.block_size)
        ids = rng.integers(0, self.config.vocab_size, (rows, length))
        mask = np.ones(ids.shape, np.int64)
        mask[0, 1 + length // 2 :] = 0
        types = rng.integers(0, self.config.type_vocab_size, ids.shape)
        targets = {name: rng.integers(0, n, shape) for name, (shape, n) in self.targets_of(rows, length).items()}
        return {"ids": ids, "attention_mask": mask, "token_type_ids": types, **targets}

    def check_gradient(self, dout, cache):
        """An EncoderOutput of gradients as arrays. MinigptError as for `backward`."""
        if not isinstance(dout, EncoderOutput):
            raise MinigptError(f"dout is {shortened(dout)}, it must be an EncoderOutput of gradients, None for zero")
        B, T, C = cache.heads.shape
        c, shapes = self.config, {"hidden": (B, T, C), "pooled": (B, C)}
        shapes |= {"masked_lm": (B, T, c.vocab_size), "next_sentence": (B, 2), "starts": (B, T), "ends": (B, T)}
        shapes["logits"] = (B, T, c.num_labels) if c.head == "token_classification" else (B, c.num_labels)
        given = {OUTPUTS[name] for name in HEADS[c.head]} | {"hidden"} | ({"pooled"} if self.pooler else set())
        arrays = {}
        for name, value in dout._asdict().items():
            if value is not None:
                if name not in given:
                    raise MinigptError(f"dout: a gradient of {name}, which a model with head {c.head} does not give")
                arrays[name] = as_array(value, f"dout.{name}")
                if arrays[name].shape != shapes[name]:
                    found = f"shape is {arrays[name].shape}"
                    raise MinigptError(f"dout.{name}: {found}, it must be that of the output, {shapes[name]}")
        return EncoderOutput(**arrays)

    def activation_memory(self, tokens, *, keep="activations"):
        """A lower bound of the bytes that a forward pass over so many tokens keeps for backward; as
        of the decoders, but for the head, which runs at few of the tokens.
        """
        layers = len(self.blocks) + 22 if keep == "inputs" else len(self.blocks) * 22  # in units of C numbers a token
        return self.dtype.itemsize * tokens * layers * self.config.hidden_size


def sum_of(terms):
    """The sum of the terms of a loss, in their own dtype: sum() begins with an int, with which
    NumPy 1 makes float64 of float32.
    """
    return reduce(add, terms.values())


def without(blank, output):
    """An EncoderOutput with zeros in the rows where blank (B,) is True; itself where it is None."""
    if blank is None:
        return output
    arrays = {name: value.copy() for name, value in output._asdict().items() if value is not None}
    for value in arrays.values():
        value[blank] = 0
    return EncoderOutput(**arrays)
