"""GPT-2: a causal decoder (Radford et al. 2019, "Language models are unsupervised multitask learners").

Shapes: B batch, T time, C channels, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minigpt.checks import check_fields
from minigpt.errors import MinigptError
from minigpt.layers import (
    MLP,
    Attention,
    Embedding,
    KVCache,
    LayerNorm,
    LearnedPositions,
    Linear,
    PreNormBlock,
    RecomputedCache,
    Smear,
    TiedHead,
    recomputed_backward,
    recomputed_forward,
)
from minigpt.models.base import Model, as_array, check_ids, check_targets
from minigpt.ops.activations import ACTIVATIONS
from minigpt.ops.dropout import dropout_backward, dropout_forward
from minigpt.ops.loss import cross_entropy_backward, cross_entropy_forward
from minigpt.ops.positions import rotary_table
from minigpt.sampling import decode, left_pad, window_start


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. MinigptError for a value out of its range."""

    vocab_size: int  # tokens that the model knows
    block_size: int  # tokens that it can see at a time
    n_layer: int  # blocks
    n_head: int  # attention heads of a block
    n_embd: int  # channels, a multiple of n_head
    dropout: float = 0.0  # on embeddings, attention weights and both residual branches
    bias: bool = True  # in linear maps and LayerNorms
    tie_embeddings: bool = True  # the head is the token table; otherwise a matrix of its own
    activation: str = "gelu_tanh"  # or "gelu", "relu", "silu"
    positions: str = "learned"  # a vector a position, as in GPT-2; or "rotary": queries and keys turned by it, no parameters
    qk_norm: bool = False  # queries and keys scaled to root mean square 1, head by head
    smear: bool = False  # each token's vector takes in something of the one before it

    def __post_init__(self):
        check_fields(
            self,
            sizes=("vocab_size", "block_size", "n_layer", "n_head", "n_embd"),
            fractions=("dropout",),
            flags=("bias", "tie_embeddings", "qk_norm", "smear"),
            choices={"activation": tuple(ACTIVATIONS), "positions": ("learned", "rotary")},
        )
        if self.n_embd % self.n_head:
            raise MinigptError(f"n_embd is {self.n_embd}, it must be a multiple of n_head, which is {self.n_head}")
        if self.positions == "rotary" and self.n_embd // self.n_head % 2:
            raise MinigptError(f"n_embd / n_head is {self.n_embd // self.n_head}, it must be even for rotary positions, which turn pairs of channels")

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns: 12 L C^2 for the blocks' matrices, and embeddings, norms, biases and head."""
        C, L, tokens = self.n_embd, self.n_layer, self.vocab_size * (1 if self.tie_embeddings else 2)
        vectors = L * 13 * C + 2 * C if self.bias else L * 2 * C + C  # 9C of biases and 4C of norms a block
        positions = self.block_size if self.positions == "learned" else 0
        return (tokens + positions + self.smear) * C + 12 * L * C * C + vectors


class GPTCache(NamedTuple):
    wte: tuple
    smear: tuple | None
    wpe: tuple | None  # of learned positions
    drop: tuple
    blocks: list  # of BlockCache, or of RecomputedCache
    ln_f: tuple
    head: tuple


class GPT(Model):
    """Token and position embeddings, n_layer pre-norm blocks, a final LayerNorm and a head; with rotary positions, no position embeddings.

    Names and layout of the parameters are GPT-2's. Weights are drawn from normal(0, 0.02), those that write into the residual stream
    from normal(0, 0.02 / sqrt(2 n_layer)), so that its variance does not grow with depth (section 2.3 of the report).
    """

    model_type = "gpt"
    config_class = GPTConfig

    def layers(self):
        """Make the layers and list them in store order."""
        c = self.config
        residual_std = 0.02 / math.sqrt(2 * c.n_layer)
        self.wte = Embedding("wte", c.vocab_size, c.n_embd)
        self.smear = Smear("smear", c.n_embd) if c.smear else None
        self.wpe = LearnedPositions("wpe", c.block_size, c.n_embd) if c.positions == "learned" else None
        self.blocks = [
            PreNormBlock(
                LayerNorm(f"h.{i}.ln_1", c.n_embd, c.bias),
                Attention(
                    f"h.{i}.attn", c.n_embd, c.n_head, causal=True, bias=c.bias, dropout=c.dropout, residual_std=residual_std, qk_norm=c.qk_norm
                ),
                LayerNorm(f"h.{i}.ln_2", c.n_embd, c.bias),
                MLP(f"h.{i}.mlp", c.n_embd, 4 * c.n_embd, c.activation, c.bias, c.dropout, residual_std=residual_std),
            )
            for i in range(c.n_layer)
        ]
        self.ln_f = LayerNorm("ln_f", c.n_embd, c.bias)
        self.head = TiedHead(self.wte) if c.tie_embeddings else Linear("lm_head", c.n_embd, c.vocab_size, bias=False, matrices=0)
        return [layer for layer in (self.wte, self.smear, self.wpe, *self.blocks, self.ln_f, self.head) if layer is not None]

    def forward(self, ids, rng=None, attention_mask=None, position_ids=None, recompute=False):
        """Logits of the next token at every position.

        ids (B, T) int, T at most block_size; rng a numpy Generator for dropout, None for none; attention_mask (B, T), 0 at padding;
        position_ids (T,) or (B, T), 0 .. T-1 unless given; recompute: keep each block's input alone for backward, which then runs the block
        again -> logits (B, T, V), GPTCache. MinigptError for ids or masks that do not fit.
        """
        ids = check_ids(ids, self.config.vocab_size, self.config.block_size)
        if attention_mask is not None:
            attention_mask = np.asarray(attention_mask)
            if attention_mask.shape != ids.shape:
                raise MinigptError(f"attention_mask: shape is {attention_mask.shape}, that of ids is {ids.shape}")
            attention_mask = attention_mask.astype(bool)
        if position_ids is not None:
            position_ids = np.asarray(position_ids)
            if position_ids.shape not in (ids.shape, ids.shape[1:]):
                raise MinigptError(f"position_ids: shape is {position_ids.shape}, it must be {ids.shape} or {ids.shape[1:]}")
            check_ids(np.atleast_2d(position_ids), self.config.block_size, self.config.block_size, "position_ids")
        h, *caches = self.hidden(ids, rng, attention_mask, position_ids, recompute=recompute)
        logits, head = self.head.forward(self.store, h)
        return logits, GPTCache(*caches, head)

    def hidden(self, ids, rng=None, key_mask=None, position_ids=None, kv=None, recompute=False):
        """Everything below the head, without checks: -> h (B, T, C) after the last LayerNorm, then the caches of GPTCache but the last.

        kv: a list of one KVCache a block, where ids are the newest tokens of a text in decoding; key_mask then covers all of its tokens. Once
        it holds tokens, ids begin with the last of these, whose vector the first new one takes in.
        """
        p = self.store
        x, c1 = self.wte.forward(p, ids)
        c2 = c3 = rotary = None
        new = slice(1 if kv and kv[0].length else 0, None)  # tokens that the KV cache lacks
        if self.smear is not None:
            x, c2 = self.smear.forward(p, x, None if key_mask is None else key_mask[:, -ids.shape[1] :])
        x, ids = x[:, new], ids[:, new]
        if self.wpe is not None:
            x, c3 = self.wpe.forward(p, x, position_ids)
        else:
            rotary = self.rotary(np.arange(ids.shape[1]) if position_ids is None else position_ids)
        x, c4 = dropout_forward(x, self.config.dropout, rng)
        c5 = []
        for i, block in enumerate(self.blocks):
            if recompute:
                x, c = recomputed_forward(block, p, x, rng, key_mask=key_mask, rotary=rotary)
            else:
                x, c = block.forward(p, x, rng, key_mask=key_mask, kv=kv[i] if kv else None, rotary=rotary)
            c5.append(c)
        x, c6 = self.ln_f.forward(p, x)
        return x, c1, c2, c3, c4, c5, c6

    def rotary(self, position_ids):
        """Rows of the rotary table for position_ids (T,) or (B, T) -> (T, D) or (B, T, D) each."""
        c = self.config
        return tuple(table[position_ids] for table in rotary_table(c.block_size, c.n_embd // c.n_head))

    def backward(self, dlogits, cache):
        """Gradients of forward: dlogits (B, T, V), GPTCache -> a fresh dict of gradients, keys and shapes of `parameters`."""
        grads = self.store.zeros_like()
        self.add_backward(grads, dlogits, cache)
        return dict(grads)

    def add_backward(self, g, dlogits, cache):
        """backward, adding into a store of gradients."""
        dx = self.head.backward(g, dlogits, cache.head)
        dx = self.ln_f.backward(g, dx, cache.ln_f)
        for block, c in zip(reversed(self.blocks), reversed(cache.blocks)):
            dx = recomputed_backward(block, g, dx, c) if isinstance(c, RecomputedCache) else block.backward(g, dx, c)
        dx = dropout_backward(dx, cache.drop)
        if self.wpe is not None:
            dx = self.wpe.backward(g, dx, cache.wpe)
        if self.smear is not None:
            dx = self.smear.backward(g, dx, cache.smear)
        self.wte.backward(g, dx, cache.wte)

    def logits(self, ids, attention_mask=None, position_ids=None):
        """forward without its cache: ids (B, T) -> logits (B, T, V)."""
        return self.forward(ids, None, attention_mask, position_ids, recompute=True)[0]  # so that each block's cache goes when the block is done

    def loss(self, ids, targets, rng=None, count=None):
        """Mean cross-entropy of the next token, in nats: ops.cross_entropy_forward has the formula.

        ids and targets (B, T) int; a target of -100 is ignored; count is the number of targets to divide by, this call's unless given.
        MinigptError for ids or targets out of range, of a wrong dtype or shape, or where no target counts and no count is given.
        """
        targets = check_targets(targets, ids, self.config.vocab_size, count)
        return cross_entropy_forward(self.forward(ids, rng, recompute=True)[0], targets, count)[0]

    def add_gradients(self, g, ids, targets, rng=None, count=None, recompute=False):
        """Add the loss's gradients into a store g -> the loss; recompute as for `forward`, other arguments and errors as for `loss`."""
        targets = check_targets(targets, ids, self.config.vocab_size, count)
        logits, cache = self.forward(ids, rng, recompute=recompute)
        loss, loss_cache = cross_entropy_forward(logits, targets, count)
        self.add_backward(g, cross_entropy_backward(1.0, loss_cache), cache)
        return loss

    def generate(self, ids, max_new_tokens=100, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0, use_cache=True,
                 attention_mask=None):  # fmt: skip
        """Continue a text token by token.

        ids (B, T) int -> (B, T + new) int, prompt included; new is less than max_new_tokens where every row met a stop id, and a row that
        met one repeats it. With prompts of unequal length, ids is a list of B sequences and so is the result, or ids is padded and
        attention_mask (B, T) is 0 at the padding. temperature 0 is greedy; sampling.token_probabilities explains the other settings.
        seed: int or numpy Generator. use_cache=False computes every step anew, to the same tokens. Past block_size the context follows
        sampling.window_start. MinigptError for settings or ids out of range.
        """
        new = list(self.stream(ids, max_new_tokens, temperature, top_k, top_p, stop, seed, use_cache, attention_mask))
        new = np.stack(new, axis=1) if new else np.zeros((len(ids), 0), np.int64)
        if is_ragged(ids):
            return [np.concatenate([np.asarray(row, np.int64), n]) for row, n in zip(ids, new)]
        return np.concatenate([np.asarray(ids, np.int64), new], axis=1)

    def stream(self, ids, max_new_tokens=100, temperature=1.0, top_k=None, top_p=None, stop=None, seed=0, use_cache=True,
               attention_mask=None):  # fmt: skip
        """generate as an iterator: yields the new ids (B,) of each step as soon as they are drawn."""
        rows = self.prompts(ids, attention_mask)
        next_logits = CachedLogits(self) if use_cache else self.uncached_logits
        yield from decode(next_logits, rows, max_new_tokens, temperature, top_k, top_p, stop, seed)

    def prompts(self, ids, attention_mask=None):
        """Prompts as a list of B integer arrays without padding. MinigptError for an empty or impossible one."""
        if attention_mask is not None:
            ids, attention_mask = as_array(ids, "ids"), as_array(attention_mask, "attention_mask")
            if ids.ndim != 2 or ids.shape != attention_mask.shape:
                raise MinigptError(f"attention_mask: shape is {attention_mask.shape}, that of ids is {ids.shape}, both must be (batch, time)")
            ids = [row[keep.astype(bool)] for row, keep in zip(ids, attention_mask)]
        elif is_ragged(ids):
            if any(np.ndim(row) != 1 for row in ids):
                raise MinigptError(f"ids: shapes are {[np.shape(row) for row in ids]}, each prompt must be one sequence of ids")
        elif np.ndim(ids) != 2:
            raise MinigptError(f"ids: shape is {np.shape(ids)}, prompts must be (batch, time)")
        if len(ids) == 0 or any(len(row) == 0 for row in ids):
            raise MinigptError("the prompt is empty, it must have at least 1 token")
        return [check_ids(np.asarray(row)[None], self.config.vocab_size, len(row), "prompt")[0] for row in ids]

    def contexts(self, rows):
        """The part of each row that the model sees."""
        return [row[window_start(len(row), self.config.block_size) :] for row in rows]

    def uncached_logits(self, rows):
        """Logits (B, V) of each row's next token, computed from the whole context."""
        ids, mask, position_ids = left_pad(self.contexts(rows))
        h, *_ = self.hidden(ids, None, mask, position_ids)
        return self.head.forward(self.store, h[:, -1:])[0][:, -1]


class CachedLogits:
    """GPT.uncached_logits with a KV cache: each call computes the newest token alone, or the whole context after the window has jumped.

    Its buffers are taken at the first call, with room for the whole window.
    """

    def __init__(self, model):
        self.model = model
        self.starts = self.kv = None

    def __call__(self, rows):
        """Rows so far, each one token longer than at the last call -> logits (B, V)."""
        model, c = self.model, self.model.config
        if self.kv is None:
            self.kv = [KVCache(len(rows), c.n_head, c.block_size, c.n_embd // c.n_head, model.dtype) for _ in range(c.n_layer)]
            self.visible = np.empty((len(rows), c.block_size), bool)
        starts = [window_start(len(row), c.block_size) for row in rows]
        if starts != self.starts:
            ids, mask, position_ids = left_pad(model.contexts(rows))
            self.starts, self.padded, length = starts, mask is not None, ids.shape[1]
            self.visible[:, :length] = True if mask is None else mask
            self.visible[:, length:] = True
            for kv in self.kv:
                kv.length = 0
        else:
            ids = np.array([row[-2:] for row in rows])
            position_ids = np.array([[len(row) - start - 1] for row, start in zip(rows, starts)])
            length = self.kv[0].length + 1
        h, *_ = model.hidden(ids, None, self.visible[:, :length] if self.padded else None, position_ids, self.kv)
        return model.head.forward(model.store, h[:, -1:])[0][:, -1]


def is_ragged(ids):
    """Whether ids are sequences of unequal length."""
    return isinstance(ids, list | tuple) and len({np.shape(row) for row in ids}) > 1
