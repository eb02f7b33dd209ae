"""GPT-Neo (Black et al. 2021, EleutherAI): a causal decoder whose layers see the whole text and its
last tokens by turns.

It has no paper: transformers' gpt_neo defines it. GPT-3's layers alternate in the same way (Brown
et al. 2020, arXiv:2005.14165, section 2.1).

Shapes: B batch, T time, C channels, V vocabulary.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from minigpt.checks import check_fields, one_of, setting, shortened
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
class GPTNeoConfig:
    """The shape of a GPTNeo, in Hugging Face's words. MinigptError for a value out of its range."""

    vocab_size: int = setting("tokens that the model knows")
    max_position_embeddings: int = setting("tokens that it can see at a time")
    hidden_size: int = setting("channels, a multiple of num_heads")
    num_layers: int = setting("blocks")
    num_heads: int = setting("attention heads of a block")
    intermediate_size: int | None = setting("channels inside of an MLP, 4 hidden_size unless given", default=None)
    window_size: int = setting("tokens that a local layer sees, the newest included", default=256)
    attention_layers: tuple | None = setting('"global" or "local" a block, by turns unless given', default=None)
    activation: str = setting("gelu_tanh, gelu, relu or silu", default="gelu_tanh")
    dropout: float = setting("on embeddings, attention weights and both residual branches", default=0.0)
    tie_embeddings: bool = setting("the head is the token table; otherwise a matrix of its own", default=True)

    def __post_init__(self):
        sizes = ["vocab_size", "max_position_embeddings", "hidden_size", "num_layers", "num_heads", "window_size"]
        check_fields(
            self,
            sizes=[*sizes, *(["intermediate_size"] if self.intermediate_size is not None else [])],
            fractions=("dropout",),
            flags=("tie_embeddings",),
            choices={"activation": tuple(ACTIVATIONS)},
        )
        if self.hidden_size % self.num_heads:
            limit = f"it must be a multiple of num_heads, which is {self.num_heads}"
            raise MinigptError(f"hidden_size is {self.hidden_size}, {limit}")
        if self.attention_layers is not None:
            kinds = self.attention_layers
            if not isinstance(kinds, list | tuple) or len(kinds) != self.num_layers:
                limit = f"it must be a list of num_layers = {self.num_layers} words, global or local"
                raise MinigptError(f"attention_layers is {shortened(kinds)}, {limit}")
            kinds = tuple(one_of(f"attention_layers[{i}]", kind, ("global", "local")) for i, kind in enumerate(kinds))
            object.__setattr__(self, "attention_layers", kinds)  # JSON has lists

    @property
    def block_size(self):
        """The most tokens that the model sees at a time, as all decoders here call it."""
        return self.max_position_embeddings

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns."""
        return count_parameters(
            lambda n: GPTNeo.wire(replace(self, num_layers=n, attention_layers=None)), self.num_layers
        )

    def window(self, layer):
        """How many tokens a layer sees, the newest included; None for all."""
        kind = ("global", "local")[layer % 2] if self.attention_layers is None else self.attention_layers[layer]
        return self.window_size if kind == "local" else None


class GPTNeoCache(NamedTuple):
    wte: EmbeddingCache
    wpe: PositionsCache
    drop: DropoutCache
    blocks: list[PreNormCache | RecomputedCache | None]
    ln_f: LayerNormCache
    head: UnembeddingCache | LinearCache | None


class GPTNeo(CausalModel):
    """GPT-2's wiring but for attention: layers that see a window alone, scores that are not divided
    by sqrt(D), and q, k and v without biases.

    Weights are drawn from normal(0, 0.02), all of them.
    """

    model_type, config_class = "gpt_neo", GPTNeoConfig
    fast_decoder = FastDecoder

    @staticmethod
    def wire(config):
        """The layers, in store order."""
        c, C, hidden = config, config.hidden_size, config.intermediate_size or 4 * config.hidden_size
        wte = Embedding("wte", c.vocab_size, C)
        wpe = LearnedPositions("wpe", c.max_position_embeddings, C)
        attention = {"causal": True, "scale": 1.0, "qkv_bias": False, "dropout": c.dropout}
        blocks = [
            PreNormBlock(
                LayerNorm(f"h.{i}.ln_1", C),
                Attention(f"h.{i}.attn", C, c.num_heads, window=c.window(i), **attention),
                LayerNorm(f"h.{i}.ln_2", C),
                MLP(f"h.{i}.mlp", C, hidden, activation=c.activation, dropout=c.dropout),
            )
            for i in range(c.num_layers)
        ]
        ln_f = LayerNorm("ln_f", C)
        head = (
            TiedHead("head", wte) if c.tie_embeddings else Linear("lm_head", C, c.vocab_size, bias=False, role="head")
        )
        return {"wte": wte, "wpe": wpe, "blocks": blocks, "ln_f": ln_f, "head": head}

    def hidden(self, ids, rng=None, *, shared=NOTHING_SHARED, position_ids=None, state=None, keep="activations"):
        """Everything below the head, without checks: ids (B, T) -> h (B, T, C), GPTNeoCache."""
        p = self.store
        x, wte = self.wte.forward(p, ids)
        x, wpe = self.wpe.forward(p, x, position_ids)
        x, drop = dropout_forward(x, self.config.dropout, rng)
        x, blocks = stack_forward(self.blocks, p, x, rng, shared=shared, kv=state and state.kv, keep=keep)
        x, ln_f = self.ln_f.forward(p, x)
        return x, GPTNeoCache(wte, wpe, drop, blocks, ln_f, head=None)

    def add_backward(self, g, dlogits, cache):
        """Add the gradients of forward into a store; dlogits (B, T, V)."""
        dx = self.head.backward(g, dlogits, cache.head)
        dx = self.ln_f.backward(g, dx, cache.ln_f)
        dx = stack_backward(self.blocks, g, dx, cache.blocks)
        dx = dropout_backward(dx, cache.drop)
        dx = self.wpe.backward(g, dx, cache.wpe)
        self.wte.backward(g, dx, cache.wte)
