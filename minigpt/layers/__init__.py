"""Wiring and names: layers that read their numbers from a store and add their gradients into
another.
"""

from minigpt.layers.attention import Attention
from minigpt.layers.block import DecoderBlock, PostNormBlock, PreNormBlock
from minigpt.layers.cross_attention import CrossAttention
from minigpt.layers.embedding import Embedding, LearnedPositions, Smear, TiedHead
from minigpt.layers.heads import Classifier, FirstTokenClassifier, MaskedLMHead, Pooler
from minigpt.layers.kv_cache import KVCache
from minigpt.layers.linear import Linear
from minigpt.layers.mlp import MLP, GatedMLP
from minigpt.layers.norm import LayerNorm, RMSNorm
from minigpt.layers.recompute import RecomputedCache, recomputed_activations, recomputed_backward, recomputed_forward
from minigpt.layers.relative import RelativeBias
from minigpt.layers.shared import Shared, SharedGradients
from minigpt.layers.stack import stack_backward, stack_forward
from minigpt.layers.store import Parameter, Store

__all__ = [
    "MLP",
    "Attention",
    "Classifier",
    "CrossAttention",
    "DecoderBlock",
    "Embedding",
    "FirstTokenClassifier",
    "GatedMLP",
    "KVCache",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "MaskedLMHead",
    "Parameter",
    "Pooler",
    "PostNormBlock",
    "PreNormBlock",
    "RMSNorm",
    "RecomputedCache",
    "RelativeBias",
    "Shared",
    "SharedGradients",
    "Smear",
    "Store",
    "TiedHead",
    "recomputed_activations",
    "recomputed_backward",
    "recomputed_forward",
    "stack_backward",
    "stack_forward",
]
