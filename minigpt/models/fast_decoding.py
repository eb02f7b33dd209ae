"""The fast path of decoding: next logits of a pre-norm decoder in as few NumPy calls, and as few
new arrays, as it takes.

models.generation uses it for families that offer it; the plain path, `CausalModel.next_logits`,
computes the same on the same state, and tests hold the two together. A small model's token is not
arithmetic but calls, of which a third make what backward would need, or new arrays; its prompt
spends as long on pages that the system hands out anew as on products. So here no cache is made,
results go into buffers that are taken once, and operands have one shape or none: NumPy adds two
rows in 0.2 us, a row and a Python number in 0.6, a matrix and a column in 1.0. A single row has no
axis of its own for that reason.

Weights are live views of the store: nothing is copied or folded, and a FastDecoder lives no longer
than its state.

Shapes: B texts, T new tokens, N = B T rows, C channels, H heads, D channels of a head, F hidden
channels, S tokens so far, V vocabulary; (N, C) stands for (C,) where N is 1.
"""

import math
from threading import Thread

import numpy as np
from numpy import add, copyto, divide, exp, matmul, maximum, multiply, sqrt, subtract, tanh

from minigpt.layers.attention import merge_heads, split_heads
from minigpt.machine import usable_threads
from minigpt.ops.activations import ACTIVATIONS, SQRT_2_OVER_PI
from minigpt.ops.attend import attend
from minigpt.ops.attention import Mask
from minigpt.ops.positions import rotary_table
from minigpt.ops.reductions import averaging
from minigpt.ops.smear import smear_forward

RMS_EPS = 1e-6  # of ops.rmsnorm_forward
FEW_ROWS = 32  # up to so many, and from a table of LARGE_TABLE numbers on, few_rows_product is the faster one
FEWER_ROWS = 16  # up to so many a FastLinear cuts its matrix; more are done faster on two threads, which OpenBLAS has
LARGE_TABLE = 1 << 19
ONE_THREAD = 1 << 18  # multiplications up to which OpenBLAS gives a product to no other thread
AS_IT_LIES = 3 << 18  # multiplications up to which it takes a product as it lies, where it has kernels for that
ONE_CORE = 1 << 20  # numbers of a matrix up to which one core had better read it alone, for a few rows
QUICK = 1 << 23  # multiplications up to which starting a thread takes longer than it saves


class FastDecoder:
    """CausalModel.next_logits for a model with `wte`, `wpe` or rotary positions, `smear` or none,
    pre-norm blocks of LayerNorm, Attention and MLP, `ln_f` and a head, named as in GPT and
    RecipeGPT.
    """

    def __init__(self, model, state):
        self.model, self.state = model, state
        self.newest = FastTrunk(model, state, 1, newest=True)
        self.ln_f = FastNorm(model.store, model.ln_f, self.newest.buffer)
        head = model.store[model.head.weight.name]
        self.head = head.T if model.head.weight is model.wte.weight else head  # (C, V)

    def __call__(self, ids, *, key_mask=None, position_ids):
        """ids (B, T), the newest tokens of the state's texts; key_mask (B, S) bool or None;
        position_ids (T,) or (B, T) -> logits (B, V) of the next token, a new array.
        """
        if position_ids.shape != ids.shape:
            position_ids = np.broadcast_to(position_ids, ids.shape)
        if ids.shape[1] > 1:
            self.remember(ids[:, :-1], key_mask, position_ids[:, :-1])
            ids, position_ids = ids[:, -1:], position_ids[:, -1:]
        x = self.newest.embed(ids, None, position_ids)
        for block in self.newest.blocks:
            block(x, key_mask)
        return head_product(self.ln_f(x), self.head)

    def remember(self, ids, key_mask, position_ids):
        """Append the keys and values of all tokens of a prompt but its newest: of the last block
        nothing else is computed.
        """
        T = ids.shape[1]
        if key_mask is not None:
            key_mask = key_mask[:, :-1]
        many = FastTrunk(self.model, self.state, T, newest=False)
        x = many.embed(ids, key_mask, position_ids)
        for block in many.blocks[:-1]:
            block(x, key_mask)
        many.blocks[-1].remember(x)


class FastTrunk:
    """Embedding and blocks for T tokens of each text, the newest ones or others: x (N, C) is a
    buffer that the blocks work on.
    """

    def __init__(self, model, state, T, *, newest):
        p, B = model.store, len(state.kv[0].keys)
        wpe, smear, attn = getattr(model, "wpe", None), getattr(model, "smear", None), model.blocks[0].attn
        self.state, self.buffer = state, Buffers(B * T, model.dtype, newest)
        self.wte, self.wpe = p[model.wte.weight.name], vector(p, wpe and wpe.weight)
        self.smear = vector(p, smear and smear.weight)
        self.x = self.buffer("x", self.wte.shape[1])
        qkv = FastQKV(attn, self.buffer)
        self.rotary = FastRotary(qkv, model.config.block_size) if wpe is None else None
        self.blocks = [
            FastBlock(p, block, kv, self.buffer, qkv=qkv, rotary=self.rotary)
            for block, kv in zip(model.blocks, state.kv)
        ]

    def embed(self, ids, visible, position_ids):
        """ids (B, T), visible (B, T) bool or None, position_ids (B, T) -> x (N, C)."""
        x, embedded, positions = self.x, self.wte[ids], position_ids.reshape(self.buffer.rows)  # (B, T, C), (N,)
        if self.smear is not None:
            newest = embedded[:, -1:]
            embedded, _ = smear_forward(embedded, self.smear, visible, self.state.previous)
            self.state.previous = newest if visible is None else newest * visible[:, -1:, None]
        if self.wpe is None:
            x[...] = embedded.reshape(x.shape)
            self.rotary.move_to(positions)
        else:
            add(embedded.reshape(x.shape), self.wpe[positions], x)
        return x


class Buffers:
    """Arrays (N, width) by name, for all blocks in turn; newest: whether the rows are the newest
    tokens, one of each text.
    """

    def __init__(self, N, dtype, newest):
        self.N, self.dtype, self.newest = N, dtype, newest
        self.rows = () if N == 1 else (N,)
        self.arrays = {}

    def __call__(self, name, width):
        if name not in self.arrays:
            self.arrays[name] = np.empty((*self.rows, width), self.dtype)
        return self.arrays[name]


class FastBlock:
    """layers.PreNormBlock: x (N, C), in place."""

    def __init__(self, p, block, kv, buffer, *, qkv, rotary):
        self.ln_1, self.ln_2 = FastNorm(p, block.ln_1, buffer), FastNorm(p, block.ln_2, buffer)
        self.attn = FastAttention(p, block.attn, kv, buffer, qkv=qkv, rotary=rotary)
        self.mlp = FastMLP(p, block.mlp, buffer)

    def __call__(self, x, key_mask):
        add(x, self.attn(self.ln_1(x), key_mask), x)
        add(x, self.mlp(self.ln_2(x)), x)

    def remember(self, x):
        """Its keys and values of x alone."""
        self.attn.append(self.ln_1(x))


class FastLinear:
    """layers.Linear: x (N, inputs) -> y (N, outputs), a buffer. For a few rows a large matrix is
    cut into columns, as few_rows_product explains: 25 us in place of 120 for 4 rows and (256,
    1024), 64 in place of 60 without AVX-512 (one thread).
    """

    def __init__(self, p, linear, y):
        self.weight, self.bias, self.y = p[linear.weight.name], vector(p, linear.bias), y
        (C, F), N = self.weight.shape, len(y) if y.ndim == 2 else 1
        n = AS_IT_LIES // (N * C) // 32 * 32  # columns
        cut = 0 < n < F and 1 < N <= FEWER_ROWS and C * F <= ONE_CORE
        self.parts = [(self.weight[:, i : i + n], y[:, i : i + n]) for i in range(0, F, n)] if cut else None

    def __call__(self, x):
        if self.parts is None:
            x.dot(self.weight, self.y)
        else:
            for weight, y in self.parts:
                matmul(x, weight, y)
        return self.y if self.bias is None else add(self.y, self.bias, self.y)


class FastNorm:
    """layers.LayerNorm: x (N, C) -> y (N, C), a buffer."""

    def __init__(self, p, norm, buffer):
        self.weight, self.bias, self.eps = p[norm.weight.name], vector(p, norm.bias), norm.eps
        self.averaging = averaging(len(self.weight), self.weight.dtype)
        self.y = buffer("normalised", len(self.weight))
        self.mean, self.rstd = (np.empty(buffer.rows, buffer.dtype) for _ in range(2))
        self.mean_column, self.rstd_column = (x[:, None] if buffer.rows else x for x in (self.mean, self.rstd))

    def __call__(self, x):
        y = self.y
        x.dot(self.averaging, self.mean)
        subtract(x, self.mean_column, y)
        if y.ndim == 1:  # Python's floats: an array operation on one number takes 0.7 us
            self.rstd[()] = 1 / math.sqrt(y.dot(y) / len(y) + self.eps)
        else:
            self.rstd[...] = 1 / sqrt((y * y).dot(self.averaging) + self.eps)
        multiply(y, self.rstd_column, y)
        multiply(y, self.weight, y)
        return y if self.bias is None else add(y, self.bias, y)


class FastAttention:
    """layers.Attention of tokens that are appended to a KVCache: x (N, C) -> y (N, C), a buffer."""

    def __init__(self, p, attn, kv, buffer, *, qkv, rotary):
        (B, H, _, D), self.kv, self.rotary = kv.keys.shape, kv, rotary
        C = p[attn.c_proj.weight.name].shape[1]
        self.c_attn, self.c_proj = FastLinear(p, attn.c_attn, qkv.y), FastLinear(p, attn.c_proj, buffer("out", C))
        self.norm = FastRMSNorm(qkv) if attn.qk_norm else None
        self.q, self.k, self.v = split_heads(qkv.y.reshape(B, -1, 3 * H * D), H, D)  # (B, H, T, D) of the new tokens
        self.causal, self.window, self.scale = attn.causal, attn.window, attn.scale
        self.of_newest = FastNewestAttention(attn, kv, buffer) if buffer.newest else None

    def __call__(self, x, key_mask, bias=None):
        keys, values = self.append(x)
        if self.of_newest is not None:
            return self.c_proj(self.of_newest(self.q, keys, values, key_mask, bias))
        y, _ = attend(self.q, keys, values, mask=Mask(self.causal, self.window, key_mask), scale=self.scale)
        return self.c_proj(merge_heads(y).reshape(x.shape))

    def append(self, x):
        """Queries, keys and values of x -> the keys and values of all tokens so far, (B, H, S, D)
        each.
        """
        self.c_attn(x)
        if self.norm is not None:
            self.norm()
        if self.rotary is not None:
            self.rotary()
        return self.kv.append(self.k, self.v)


class FastNewestAttention:
    """ops.newest_attention: q (B, H, 1, D), keys and values (B, H, S, D), bias (H, 1, S) or None ->
    y (N, HD), a buffer.
    """

    def __init__(self, attn, kv, buffer):
        (B, H, size, D), dtype, self.window = kv.keys.shape, kv.keys.dtype, attn.window
        self.scale = np.array(1 / math.sqrt(D) if attn.scale is None else attn.scale, dtype)
        self.weights, self.ones = kv.scores_buffer, np.ones(size, dtype)
        self.top, self.total = np.empty((B, H, 1, 1), dtype), np.empty(B * H, dtype)
        self.total_column = self.total.reshape(B, H, 1, 1)
        self.q, self.y = np.empty((B, H, 1, D), dtype), np.empty((B, H, 1, D), dtype)
        self.y_rows = self.y.reshape(*buffer.rows, H * D)

    def __call__(self, q, keys, values, key_mask, bias=None):
        multiply(q, self.scale, self.q)
        if self.window is not None:  # the last keys alone
            keys, values = keys[:, :, -self.window :], values[:, :, -self.window :]
            key_mask = None if key_mask is None else key_mask[:, -self.window :]
        B, H, S, _ = keys.shape
        weights = self.weights[: B * H * S].reshape(B, H, 1, S)
        matmul(self.q, keys.swapaxes(2, 3), weights)
        if bias is not None:
            add(weights, bias, weights)
        if key_mask is not None:
            copyto(weights, -np.inf, where=~key_mask[:, None, None])
        maximum.reduce(weights, 3, None, self.top, True)  # finite: the newest token is always visible
        subtract(weights, self.top, weights)
        exp(weights, weights)
        weights.reshape(B * H, S).dot(self.ones[:S], self.total)
        matmul(weights, values, self.y)
        divide(self.y, self.total_column, self.y)  # D numbers a head, not S
        return self.y_rows


class FastQKV:
    """The buffer (N, 3HD) of queries, keys and values, and views of the 2H heads of queries and
    keys.
    """

    def __init__(self, attn, buffer):
        H, D = attn.n_head, attn.head_channels
        self.y = buffer("qkv", 3 * H * D)
        self.heads = self.y.reshape(-1, 3 * H, D)[:, : 2 * H]  # (N, 2H, D)
        self.flat = self.heads.reshape(-1) if buffer.N == 1 else self.heads
        halves = self.y.reshape(-1, 3 * H, 2, D // 2)[:, : 2 * H] if D % 2 == 0 else None
        self.swapped = None if halves is None else halves[:, :, ::-1]  # (N, 2H, 2, D/2), halves of a head swapped


class FastRMSNorm:
    """ops.rmsnorm_forward of queries and keys, head by head and in place."""

    def __init__(self, qkv):
        self.heads, (N, heads, D), dtype = qkv.heads, qkv.heads.shape, qkv.y.dtype
        self.averaging, self.eps = averaging(D, dtype), np.array(RMS_EPS, dtype)
        self.squares, self.rms = np.empty((N * heads, D), dtype), np.empty(N * heads, dtype)
        self.squares_heads, self.rms_column = self.squares.reshape(N, heads, D), self.rms.reshape(N, heads, 1)

    def __call__(self):
        multiply(self.heads, self.heads, self.squares_heads)
        self.squares.dot(self.averaging, self.rms)
        add(self.rms, self.eps, self.rms)
        sqrt(self.rms, self.rms)
        divide(self.heads, self.rms_column, self.heads)


class FastRotary:
    """ops.rotary_forward of queries and keys, in place, with cosines and sines as wide as all of
    their heads.
    """

    def __init__(self, qkv, length):
        (N, heads, D), dtype = qkv.heads.shape, qkv.y.dtype
        cos, sin = rotary_table(length, D)
        self.cos_table, self.sin_table = cos.astype(dtype), sin.astype(dtype)
        self.sin_table[:, : D // 2] = -self.sin_table[:, : D // 2]  # a quarter turn takes the pair (a, b) to (-b, a)
        self.cos, self.sin, self.turned = (np.empty((N, heads, D), dtype) for _ in range(3))
        self.cos_flat, self.turned_flat = (x.reshape(qkv.flat.shape) for x in (self.cos, self.turned))
        self.sin_halves, self.turned_halves = (x.reshape(N, heads, 2, D // 2) for x in (self.sin, self.turned))
        self.flat, self.swapped = qkv.flat, qkv.swapped

    def move_to(self, positions):
        """positions (N,) of the tokens."""
        N, _, D = self.cos.shape
        self.cos[...] = self.cos_table[positions].reshape(N, 1, D)
        self.sin[...] = self.sin_table[positions].reshape(N, 1, D)

    def __call__(self):
        multiply(self.swapped, self.sin_halves, self.turned_halves)
        multiply(self.flat, self.cos_flat, self.flat)
        add(self.flat, self.turned_flat, self.flat)


class FastMLP:
    """layers.MLP: x (N, C) -> y (N, C), a buffer."""

    def __init__(self, p, mlp, buffer):
        C, F = p[mlp.c_fc.weight.name].shape
        self.c_fc, self.c_proj = (
            FastLinear(p, mlp.c_fc, buffer("hidden", F)),
            FastLinear(p, mlp.c_proj, buffer("out", C)),
        )
        plain, y = ACTIVATIONS[mlp.activation][0], buffer("activated", F)
        self.activation = FastGeluTanh(y) if mlp.activation == "gelu_tanh" else lambda h: plain(h)[0]

    def __call__(self, x):
        return self.c_proj(self.activation(self.c_fc(x)))


class FastGeluTanh:
    """ops.gelu_tanh_forward: x (N, F) -> y (N, F). Its constants are arrays: 2.4 us in place of 4
    at F = 512.
    """

    def __init__(self, y):
        self.y = y
        constants = 0.044715 * SQRT_2_OVER_PI, SQRT_2_OVER_PI, 1, 0.5
        self.cubic, self.linear, self.one, self.half = (np.array(number, y.dtype) for number in constants)

    def __call__(self, x):
        y = self.y
        multiply(x, x, y)
        multiply(y, self.cubic, y)
        add(y, self.linear, y)
        multiply(y, x, y)
        tanh(y, y)
        add(y, self.one, y)
        multiply(y, self.half, y)
        return multiply(y, x, y)


def vector(p, parameter):
    """A parameter's live view; None for None."""
    return None if parameter is None else p[parameter.name]


def head_product(x, head):
    """Logits of the newest tokens: x (B, C), or (C,) of one, head (C, V) -> (B, V), a new array."""
    if x.ndim == 2 and len(x) <= FEW_ROWS and head.size >= LARGE_TABLE:
        return few_rows_product(x, head)
    return np.atleast_2d(x.dot(head))


def few_rows_product(x, matrix):
    """x @ matrix for a few rows: x (B, C), matrix (C, V), the transpose of a large table -> (B, V),
    a new array.

    OpenBLAS copies a matrix into a better order before it multiplies, and for a few rows this is
    most of the work. Products as small as these it takes as they lie, where it has kernels for them
    (AVX-512), or copies within the cache; so the table is cut into blocks, and these are shared
    out: 8 rows of 768 with a table of 50257 in 8 ms in place of 16, in 11 in place of 14 without
    AVX-512; 4 rows of 256 with one of 8192 in 0.2 ms in place of 1.8, in 0.9 in place of 0.7.
    """
    (B, C), V = x.shape, matrix.shape[1]
    n = max(1, ONE_THREAD // (B * C))
    whole = V - V % n
    y = np.empty((B, V), x.dtype)
    blocks = matrix[:, :whole].reshape(C, -1, n).swapaxes(0, 1)  # (V // n, C, n), views
    products = y[:, :whole].reshape(B, -1, n).swapaxes(0, 1)  # (V // n, B, n)
    cuts = np.linspace(0, len(blocks), (usable_threads() if x.size * V > QUICK else 1) + 1).astype(int).tolist()
    first, *others = map(slice, cuts, cuts[1:])
    threads = [Thread(target=matmul, args=(x, blocks[part], products[part])) for part in others]
    for thread in threads:
        thread.start()
    matmul(x, blocks[first], products[first])
    matmul(x, matrix[:, whole:], y[:, whole:])
    for thread in threads:
        thread.join()
    return y
