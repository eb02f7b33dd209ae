"""Wiring and names: layers that read their numbers from a store and add their gradients into another."""

from minigpt.layers.attention import Attention, KVCache
from minigpt.layers.block import PostNormBlock, PreNormBlock
from minigpt.layers.embedding import Embedding, LearnedPositions, Smear, TiedHead
from minigpt.layers.linear import Linear
from minigpt.layers.mlp import MLP
from minigpt.layers.norm import LayerNorm, RMSNorm
from minigpt.layers.recompute import RecomputedCache, recomputed_activations, recomputed_backward, recomputed_forward
from minigpt.layers.store import Parameter, Store

__all__ = [
    "MLP",
    "Attention",
    "Embedding",
    "KVCache",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "Parameter",
    "PostNormBlock",
    "PreNormBlock",
    "RMSNorm",
    "RecomputedCache",
    "Smear",
    "Store",
    "TiedHead",
    "recomputed_activations",
    "recomputed_backward",
    "recomputed_forward",
]
