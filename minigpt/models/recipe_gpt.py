"""The model of this library's own training recipe: GPT-2 with rotary positions, QK-norm and smear.
docs/RECIPE.md has what each is worth.

Shapes: B batch, T time, C channels, V vocabulary, D channels of a head.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from minigpt.checks import check_fields, config_from_dict, setting
from minigpt.errors import MinigptError
from minigpt.layers import (
    MLP,
    Attention,
    Embedding,
    LayerNorm,
    LearnedPositions,
    Linear,
    PreNormBlock,
    Smear,
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
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.embedding import EmbeddingCache, UnembeddingCache
from minigpt.ops.linear import LinearCache
from minigpt.ops.normalization import LayerNormCache
from minigpt.ops.positions import PositionsCache, rotary_table
from minigpt.ops.smear import SmearCache


@dataclass(frozen=True)
class RecipeGPTConfig(GPTConfig):
    """The shape of a RecipeGPT. MinigptError for a value out of its range."""

    positions: str = setting(
        "rotary: queries and keys turned by their position, no parameters; learned: a vector a position", "rotary"
    )
    qk_norm: bool = setting("scale queries and keys of each head to root mean square 1", True)
    smear: bool = setting("add to each token's vector a learned share of the one before it", True)

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, flags=("qk_norm", "smear"), choices={"positions": ("learned", "rotary")})
        channels = self.n_embd // self.n_head
        if self.positions == "rotary" and channels % 2:
            raise MinigptError(
                f"n_embd / n_head is {channels}, it must be even for rotary positions, which turn pairs of channels"
            )

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns."""
        return count_parameters(lambda n: RecipeGPT.wire(replace(self, n_layer=n)), self.n_layer)


class RecipeGPTCache(NamedTuple):
    wte: EmbeddingCache
    smear: SmearCache | None
    wpe: PositionsCache | None  # of learned positions
    drop: DropoutCache
    blocks: list[PreNormCache | RecomputedCache | None]
    ln_f: LayerNormCache
    head: UnembeddingCache | LinearCache | None


class RecipeGPT(CausalModel):
    """GPT, with three changes that learn faster and can each be switched off: positions, qk_norm
    and smear of its config.

    RoFormer (Su et al. 2021, arXiv:2104.09864); QK-norm (Henry et al. 2020, arXiv:2010.04245);
    smear, after modded-nanogpt.
    """

    model_type, config_class = "recipe_gpt", RecipeGPTConfig
    fast_decoder = FastDecoder

    @staticmethod
    def wire(config):
        """The layers, in store order; None for one that is switched off."""
        c = config
        more = {"bias": c.bias, "dropout": c.dropout, "residual_std": 0.02 / math.sqrt(2 * c.n_layer)}
        wte = Embedding("wte", c.vocab_size, c.n_embd)
        smear = Smear("smear", c.n_embd) if c.smear else None
        wpe = LearnedPositions("wpe", c.block_size, c.n_embd) if c.positions == "learned" else None
        blocks = [
            PreNormBlock(
                LayerNorm(f"h.{i}.ln_1", c.n_embd, bias=c.bias),
                Attention(f"h.{i}.attn", c.n_embd, c.n_head, causal=True, qk_norm=c.qk_norm, **more),
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
        return {"wte": wte, "smear": smear, "wpe": wpe, "blocks": blocks, "ln_f": ln_f, "head": head}

    def hidden(self, ids, rng=None, *, shared=NOTHING_SHARED, position_ids=None, state=None, keep="activations"):
        """Everything below the head, without checks: ids (B, T) -> h (B, T, C), RecipeGPTCache
        without its head.
        """
        p = self.store
        smear = wpe = None
        x, wte = self.wte.forward(p, ids)
        if self.smear is not None:
            x, smear = self.smear_forward(x, shared.key_mask, state)
        if self.wpe is not None:
            x, wpe = self.wpe.forward(p, x, position_ids)
        else:
            shared = shared._replace(
                rotary=self.rotary(np.arange(ids.shape[1]) if position_ids is None else position_ids)
            )
        x, drop = dropout_forward(x, self.config.dropout, rng)
        x, blocks = stack_forward(self.blocks, p, x, rng, shared=shared, kv=state and state.kv, keep=keep)
        x, ln_f = self.ln_f.forward(p, x)
        return x, RecipeGPTCache(wte, smear, wpe, drop, blocks, ln_f, head=None)

    def add_backward(self, g, dlogits, cache):
        """Add the gradients of forward into a store; dlogits (B, T, V)."""
        dx = self.head.backward(g, dlogits, cache.head)
        dx = self.ln_f.backward(g, dx, cache.ln_f)
        dx = stack_backward(self.blocks, g, dx, cache.blocks)
        dx = dropout_backward(dx, cache.drop)
        if self.wpe is not None:
            dx = self.wpe.backward(g, dx, cache.wpe)
        if self.smear is not None:
            dx = self.smear.backward(g, dx, cache.smear)
        self.wte.backward(g, dx, cache.wte)

    def smear_forward(self, x, key_mask, state):
        """Smear, which in decoding looks back at the newest token of the state's texts, and leaves
        its own newest there.
        """
        visible = None if key_mask is None else key_mask[:, -x.shape[1] :]
        y, cache = self.smear.forward(self.store, x, visible, state and state.previous)
        if state is not None:
            state.previous = x[:, -1:]
        return y, cache

    def rotary(self, position_ids):
        """Rows of the rotary table for position_ids (T,) or (B, T) -> (T, D) or (B, T, D) each."""
        c = self.config
        return tuple(table[position_ids] for table in rotary_table(c.block_size, c.n_embd // c.n_head))


SWITCHED_OFF = {"positions": "learned", "qk_norm": False, "smear": False}  # where a RecipeGPT is a GPT


def gpt_or_recipe(fields):
    """Family and config for the fields of a config: a RecipeGPT where they switch on what a GPT has
    not, else a GPT.

    Runs are started with such fields, and checkpoints of earlier versions hold them under the name
    of gpt. MinigptError as for config_from_dict.
    """
    if any(fields.get(name, off) != off for name, off in SWITCHED_OFF.items()):
        return RecipeGPT, config_from_dict(RecipeGPTConfig, SWITCHED_OFF | fields)
    return GPT, config_from_dict(GPTConfig, {name: value for name, value in fields.items() if name not in SWITCHED_OFF})
