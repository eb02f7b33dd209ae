"""The mathematics: pure functions, each forward directly above its backward. Only NumPy is imported
here.
"""

from minigpt.ops.activations import (
    ACTIVATIONS,
    gelu_backward,
    gelu_forward,
    gelu_tanh_backward,
    gelu_tanh_forward,
    relu_backward,
    relu_forward,
    silu_backward,
    silu_forward,
    tanh_backward,
    tanh_forward,
)
from minigpt.ops.attention import Mask, attention_backward, attention_forward, reference_attention
from minigpt.ops.dropout import dropout_backward, dropout_forward
from minigpt.ops.embedding import embedding_backward, embedding_forward, unembedding_backward, unembedding_forward
from minigpt.ops.gating import gate_backward, gate_forward
from minigpt.ops.lean_attention import lean_attention_backward, lean_attention_forward
from minigpt.ops.linear import linear_backward, linear_forward
from minigpt.ops.loss import IGNORED, count_targets, cross_entropy_backward, cross_entropy_forward
from minigpt.ops.normalization import layernorm_backward, layernorm_forward, rmsnorm_backward, rmsnorm_forward
from minigpt.ops.positions import (
    learned_positions_backward,
    learned_positions_forward,
    rotary_backward,
    rotary_forward,
    rotary_table,
    sinusoidal_positions,
)
from minigpt.ops.relative import relative_bias_backward, relative_bias_forward, relative_buckets
from minigpt.ops.smear import smear_backward, smear_forward
from minigpt.ops.softmax import softmax_backward, softmax_forward

__all__ = [
    "ACTIVATIONS",
    "IGNORED",
    "Mask",
    "attention_backward",
    "attention_forward",
    "count_targets",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "gate_backward",
    "gate_forward",
    "gelu_backward",
    "gelu_forward",
    "gelu_tanh_backward",
    "gelu_tanh_forward",
    "layernorm_backward",
    "layernorm_forward",
    "lean_attention_backward",
    "lean_attention_forward",
    "learned_positions_backward",
    "learned_positions_forward",
    "linear_backward",
    "linear_forward",
    "reference_attention",
    "relative_bias_backward",
    "relative_bias_forward",
    "relative_buckets",
    "relu_backward",
    "relu_forward",
    "rmsnorm_backward",
    "rmsnorm_forward",
    "rotary_backward",
    "rotary_forward",
    "rotary_table",
    "silu_backward",
    "silu_forward",
    "sinusoidal_positions",
    "smear_backward",
    "smear_forward",
    "softmax_backward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
    "unembedding_backward",
    "unembedding_forward",
]
