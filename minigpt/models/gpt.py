"""GPT-2: a causal decoder (Radford et al. 2019, "Language models are unsupervised multitask
learners").

Shapes: B batch, T time, C channels, V vocabulary.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from minigpt.checks import check_fields, setting
from minigpt.errors import MinigptError
from minigpt.layers import (
    MLP,
    Attention,
    Embedding,
    LayerNorm,
    LearnedPositions,
    Linear,
    PreNormBlock,
    TiedHead,
    stack_backward,
    stack_forward,
)
from minigpt.layers.block import PreNormCache
from minigpt.layers.recompute import RecomputedCache
from minigpt.layers.shared import NOTHING_SHARED
from minigpt.models.base import count_parameters
from minigpt.models.causal import CausalModel
from minigpt.models.fast_decoding import FastDecoder
from minigpt.ops.activations import ACTIVATIONS
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.embedding import EmbeddingCache, UnembeddingCache
from minigpt.ops.linear import LinearCache
from minigpt.ops.normalization import LayerNormCache
from minigpt.ops.positions import PositionsCache


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. MinigptError for a value out of its range."""

    vocab_size: int = setting("tokens that the model knows")
    block_size: int = setting("tokens that the model sees at a time")
    n_layer: int = setting("blocks")
    n_head: int = setting("attention heads of a block")
    n_embd: int = setting("channels, a multiple of n_head")
    dropout: float = setting(
        "probability to drop an embedding, an attention weight, an output of attention or MLP in training", 0.0
    )
    bias: bool = setting("biases in linear maps and LayerNorms", True)
    tie_embeddings: bool = setting("the head is the token table, not a matrix of its own", True)
    activation: str = setting("nonlinearity of the MLP", "gelu_tanh")

    def __post_init__(self):
        check_fields(
            self,
            sizes=("vocab_size", "block_size", "n_layer", "n_head", "n_embd"),
            fractions=("dropout",),
            flags=("bias", "tie_embeddings"),
            choices={"activation": tuple(ACTIVATIONS)},
        )
        if self.n_embd % self.n_head:
            raise MinigptError(f"n_embd is {self.n_embd}, it must be a multiple of n_head, which is {self.n_head}")

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns: 12 C^2 a block in matrices, and
        embeddings, norms, biases and head.
        """
        return count_parameters(lambda n: GPT.wire(replace(self, n_layer=n)), self.n_layer)


class GPTCache(NamedTuple):
    wte: EmbeddingCache
    wpe: PositionsCache
    drop: DropoutCache
    blocks: list[PreNormCache | RecomputedCache | None]
    ln_f: LayerNormCache
    head: UnembeddingCache | LinearCache | None


class GPT(CausalModel):
    """Token and position embeddings, n_layer pre-norm blocks, a final LayerNorm and a head.

    Names and layout of the parameters are GPT-2's. Weights are drawn from normal(0, 0.02), those
    that write into the residual stream from normal(0, 0.02 / sqrt(2 n_layer)), so that its variance
    does not grow with depth (section 2.3 of the report).
    """

    model_type, config_class = "gpt", GPTConfig
    fast_decoder = FastDecoder

    @staticmethod
    def wire(config):
        """The layers, in store order."""
        c = config
        more = {"bias": c.bias, "dropout": c.dropout, "residual_std": 0.02 / math.sqrt(2 * c.n_layer)}
        wte = Embedding("wte", c.vocab_size, c.n_embd)
        wpe = LearnedPositions("wpe", c.block_size, c.n_embd)
        blocks = [
            PreNormBlock(
                LayerNorm(f"h.{i}.ln_1", c.n_embd, bias=c.bias),
                Attention(f"h.{i}.attn", c.n_embd, c.n_head, causal=True, **more),
                LayerNorm(f"h.{i}.ln_2", c.n_embd, bias=c.bias),
                MLP(f"h.{i}.mlp", c.n_embd, 4 * c.n_embd, activation=c.activation, **more),
            )
            for i in range(c.n_layer)
        ]
        ln_f = LayerNorm("ln_f", c.n_embd, bias=c.bias)
        head = (
            TiedHead("head", wte)
            if c.tie_embeddings
            else Linear("lm_head", c.n_embd, c.vocab_size, bias=False, role="head")
        )
        return {"wte": wte, "wpe": wpe, "blocks": blocks, "ln_f": ln_f, "head": head}

    def hidden(self, ids, rng=None, *, shared=NOTHING_SHARED, position_ids=None, state=None, keep="activations"):
        """Everything below the head, without checks: ids (B, T) -> h (B, T, C), GPTCache without
        its head.
        """
        p = self.store
        x, wte = self.wte.forward(p, ids)
        x, wpe = self.wpe.forward(p, x, position_ids)
        x, drop = dropout_forward(x, self.config.dropout, rng)
        x, blocks = stack_forward(self.blocks, p, x, rng, shared=shared, kv=state and state.kv, keep=keep)
        x, ln_f = self.ln_f.forward(p, x)
        return x, GPTCache(wte, wpe, drop, blocks, ln_f, head=None)

    def add_backward(self, g, dlogits, cache):
        """Add the gradients of forward into a store; dlogits (B, T, V)."""
        dx = self.head.backward(g, dlogits, cache.head)
        dx = self.ln_f.backward(g, dx, cache.ln_f)
        dx = stack_backward(self.blocks, g, dx, cache.blocks)
        dx = dropout_backward(dx, cache.drop)
        dx = self.wpe.backward(g, dx, cache.wpe)
        self.wte.backward(g, dx, cache.wte)
