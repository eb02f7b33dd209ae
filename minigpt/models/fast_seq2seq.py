"""The fast path of decoding with T5: models.fast_decoding for a decoder that reads a memory.

The rows of one source stand side by side: their queries meet its keys in one product. The first
token, and all of the source, are computed by the plain path.

Shapes: M sources, B = M K rows, one new token each, C channels, H heads, D channels of a head, F
hidden channels, S tokens of the source, V vocabulary; (B, C) stands for (C,) where B is 1.
"""

import math

import numpy as np
from numpy import add, copyto, divide, exp, matmul, maximum, multiply, sqrt, subtract

from minigpt.layers.mlp import GatedMLP
from minigpt.models.fast_decoding import (
    Buffers,
    FastAttention,
    FastGeluTanh,
    FastLinear,
    FastMLP,
    FastQKV,
    head_product,
)
from minigpt.ops.activations import ACTIVATIONS
from minigpt.ops.reductions import averaging


class FastT5Decoder:
    """EncoderDecoderModel.next_logits for T5."""

    def __init__(self, model, state):
        self.model, self.state = model, state
        p, rows, size = model.store, state.rows, state.room
        self.buffer = Buffers(rows, model.dtype, newest=True)
        self.wte, self.x = p[model.wte.weight.name], self.buffer("x", model.config.d_model)
        qkv = FastQKV(model.decoder[0].attn, self.buffer)
        self.blocks = [
            FastReadingBlock(p, block, *kv, self.buffer, qkv=qkv)
            for block, *kv in zip(model.decoder, state.kv, state.memory_kv)
        ]
        self.ln_f = FastRMSNorm(p, model.decoder_ln_f, self.buffer)
        head = p[model.head.weight.name]
        self.head = head.T if model.head.weight is model.wte.weight else head  # (C, V)
        self.scale = np.array(model.config.output_scale, model.dtype)
        bias, _ = model.decoder_bias.forward(p, 1, size)  # (1, H, 1, size): the last key is the query's own
        self.bias = np.ascontiguousarray(bias[0])

    def __call__(self, ids, *, memory=None, memory_mask=None):
        """ids (B, 1), the newest tokens of the state's rows; memory (M, S, C), which is read at the
        first call alone; memory_mask (M, S) bool or None -> logits (B, V) of the next token, a new
        array.
        """
        if self.state.length == 0:
            return self.model.next_logits(ids, self.state, memory=memory, memory_mask=memory_mask)
        x = self.x
        x[...] = self.wte[ids].reshape(x.shape)
        bias = self.bias[:, :, self.state.room - self.state.length - 1 :]  # (H, 1, length + 1)
        for block in self.blocks:
            block(x, bias, memory_mask)
        x = self.ln_f(x)
        return head_product(multiply(x, self.scale, x), self.head)


class FastReadingBlock:
    """layers.DecoderBlock: x (B, C), in place."""

    def __init__(self, p, block, kv, memory_kv, buffer, *, qkv):
        self.ln_1, self.ln_cross, self.ln_2 = (
            FastRMSNorm(p, norm, buffer) for norm in (block.ln_1, block.ln_cross, block.ln_2)
        )
        self.attn = FastAttention(p, block.attn, kv, buffer, qkv=qkv, rotary=None)
        self.cross = FastCrossAttention(p, block.cross, memory_kv, buffer)
        self.mlp = (FastGatedMLP if isinstance(block.mlp, GatedMLP) else FastMLP)(p, block.mlp, buffer)

    def __call__(self, x, bias, memory_mask):
        add(x, self.attn(self.ln_1(x), None, bias), x)
        add(x, self.cross(self.ln_cross(x), memory_mask), x)
        add(x, self.mlp(self.ln_2(x)), x)


class FastRMSNorm:
    """layers.RMSNorm: x (B, C) -> y (B, C), a buffer."""

    def __init__(self, p, norm, buffer):
        self.weight, self.eps = p[norm.weight.name], norm.eps
        self.averaging = averaging(len(self.weight), self.weight.dtype)
        self.y, self.rms = buffer("normalised", len(self.weight)), np.empty(buffer.rows, buffer.dtype)
        self.column = self.rms[:, None] if buffer.rows else self.rms

    def __call__(self, x):
        y, rms = self.y, self.rms
        if y.ndim == 1:  # Python's floats: an array operation on one number takes 0.7 us
            rms[()] = math.sqrt(x.dot(x) / len(x) + self.eps)
        else:
            multiply(x, x, y)
            y.dot(self.averaging, rms)
            add(rms, self.eps, rms)
            sqrt(rms, rms)
        divide(x, self.column, y)
        return multiply(y, self.weight, y)


class FastCrossAttention:
    """layers.CrossAttention without a scale, of keys and values that are there: x (B, C) -> y (B,
    C), a buffer.
    """

    def __init__(self, p, cross, kv, buffer):
        (M, H, S, D), dtype, N = kv.keys.shape, buffer.dtype, buffer.N
        self.kv, K = kv, N // M
        y, C = buffer("heads", H * D), p[cross.c_proj.weight.name].shape[1]
        self.q_attn, self.c_proj = (
            FastLinear(p, cross.q_attn, buffer("q", H * D)),
            FastLinear(p, cross.c_proj, buffer("out", C)),
        )
        self.q, self.y = (rows.reshape(M, K, H, D).swapaxes(1, 2) for rows in (self.q_attn.y, y))  # (M, H, K, D)
        self.y_rows, self.weights = y, np.empty((M, H, K, S), dtype)
        self.top, self.total = np.empty((2, M, H, K, 1), dtype)
        self.ones = np.ones(S, dtype)

    def __call__(self, x, memory_mask):
        self.q_attn(x)
        weights, total = self.weights, self.total
        matmul(self.q, self.kv.keys.swapaxes(2, 3), weights)
        if memory_mask is not None:
            copyto(weights, -np.inf, where=~memory_mask[:, None, None])
        maximum.reduce(weights, 3, None, self.top, True)  # finite: a source has a token
        subtract(weights, self.top, weights)
        exp(weights, weights)
        weights.reshape(-1, weights.shape[3]).dot(self.ones, total.reshape(-1))
        matmul(weights, self.kv.values, self.y)
        divide(self.y, total, self.y)
        return self.c_proj(self.y_rows)


class FastGatedMLP:
    """layers.GatedMLP: x (B, C) -> y (B, C), a buffer."""

    def __init__(self, p, mlp, buffer):
        C, F = p[mlp.c_fc.weight.name].shape
        self.c_gate, self.c_fc, self.c_proj = (
            FastLinear(p, linear, buffer(name, width))
            for linear, name, width in (
                (mlp.c_gate, "gate", F), (mlp.c_fc, "hidden", F), (mlp.c_proj, "out", C),
            )
        )  # fmt: skip
        plain, self.y = ACTIVATIONS[mlp.activation][0], buffer("activated", F)
        self.activation = FastGeluTanh(self.y) if mlp.activation == "gelu_tanh" else lambda h: plain(h)[0]

    def __call__(self, x):
        return self.c_proj(multiply(self.activation(self.c_gate(x)), self.c_fc(x), self.y))
