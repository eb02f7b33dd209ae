"""Mutants of mutation_score that compute what the original does, with the reason: (module,
function, statement, change) -> why.
"""

AXES = "every array here has four axes, of which 2 and -2 are the same"
SPEED = "decides which of two equal computations runs, hence only the speed; tests hold that both give the same"
DIVISOR = "divides an exact 0 (a row without any visible entry): any divisor but 0 does"
SIGN = "sign is 1 or -1: to multiply by it is to divide by it"
PIECES = (
    "where two pieces of erf meet both are right to the last digit, the middle one beyond 6 too, where erf rounds to 1"
)
ROWS = "the logits are rows here: two axes, of which the last is 1"
SYMMETRIC_DOT = "a product of two numbers does not depend on their order"
SMALLER = "the smaller of two numbers does not depend on their order"
COMMUTES = "the sum and the product of two arrays do not depend on their order"
KEPT = "how many results are kept decides the time alone"
SYMMETRIC = "the common dtype does not depend on the order"
WITH_BIAS = "*(() if bias is None else (bias,))"

EQUIVALENT = {
    (
        "models/t5",
        "T5.activation_memory",
        "numbers = min(E * C, D * C + 2 * V) + source / 2",
        "min(E * C, D * C + 2 * V) -> min(D * C + 2 * V, E * C)",
    ): SMALLER,
    (
        "models/t5",
        "T5.activation_memory",
        "numbers = min(E * source + D * 2 * heads, D * target + 2 * V)",
        "min(E * source + D * 2 * heads, D * target + 2 * V) -> min(D * target + 2 * V, E * source + D * 2 * heads)",
    ): SMALLER,
    (
        "models/encoder_decoder",
        "EncoderDecoderModel.forward",
        "blank = blank_rows(mask, decoder_mask)",
        "blank_rows(mask, decoder_mask) -> blank_rows(decoder_mask, mask)",
    ): "a row is blank by either mask, whichever comes first",
    (
        "ops/relative",
        "relative_buckets",
        "log = np.log(np.maximum(far, exact).astype(np.float32) / exact)",
        "np.maximum(far, exact) -> np.maximum(exact, far)",
    ): "the larger of two numbers does not depend on their order",
    (
        "ops/relative",
        "relative_buckets",
        "return start + np.where(far < exact, far, np.minimum(shared, buckets - 1))",
        "far < exact -> far <= exact",
    ): "at that distance, where the logarithm is 0, both give this bucket",
    ("ops/relative", "diagonal_buckets", "functools.lru_cache(maxsize=16)", "16 -> 17"): KEPT,
    ("ops/attention", "reference_attention", "scores = scale * (q @ k.swapaxes(-1, -2))", "-2 -> 2"): AXES,
    ("ops/attention", "reference_attention", "weights = e / np.where(total.real == 0, 1, total)", "1 -> 2"): DIVISOR,
    ("ops/attention", "attention_backward", "dscores = v @ dy.swapaxes(-1, -2)", "-2 -> 2"): AXES,
    (
        "ops/attention",
        "attention_backward",
        "dbias = None if bias_shape is None else sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)",
        "-2 -> 2",
    ): AXES,
    ("ops/attention", "attention_backward", "np.matmul(dscores.swapaxes(-1, -2), k, out=dq)", "-2 -> 2"): AXES,
    ("ops/lean_attention", "", "QUERY_BLOCK = 64", "64 -> 65"): SPEED,
    ("ops/attention", "AttentionCache.weights", "return self.weights_kq.swapaxes(-1, -2)", "-2 -> 2"): AXES,
    ("ops/attention", "attention_forward", "np.matmul(dropped.swapaxes(-1, -2), v, out=y)", "-2 -> 2"): AXES,
    ("ops/attention", "scores_kq", "scores = k[:, :, keys] @ q[:, :, queries].swapaxes(-1, -2)", "-2 -> 2"): AXES,
    (
        "ops/attention",
        "scores_kq",
        "scores = scores + block_of_bias(bias, queries, keys).swapaxes(-1, -2)",
        "-2 -> 2",
    ): AXES,
    (
        "ops/attention",
        "softmax_over_keys",
        "top = scores.real.max(axis=-2, initial=np.finfo(scores.dtype).min, keepdims=True)",
        "-2 -> 2",
    ): AXES,
    (
        "ops/attention",
        "softmax_over_keys",
        "total = np.ones((1, weights.shape[-2]), weights.dtype) @ weights",
        "-2 -> 2",
    ): AXES,
    (
        "ops/attention",
        "attention_backward",
        "dscores -= row_dot(dy, y)[:, :, None, :]",
        "row_dot(dy, y) -> row_dot(y, dy)",
    ): SYMMETRIC_DOT,
    (
        "ops/attention",
        "position_penalty",
        "hidden |= distance < 0",
        "hidden |= distance < 0 -> hidden = distance < 0",
    ): "or-ed into an array of False",
    ("ops/attention", "position_penalty", "functools.lru_cache(maxsize=16)", "16 -> 17"): KEPT,
    (
        "ops/attention",
        "row_dot",
        "return np.einsum('bhtd,bhtd->bht', a, b, order='C')",
        "np.einsum('bhtd,bhtd->bht', a, b, order='C') -> np.einsum('bhtd,bhtd->bht', b, a, order='C')",
    ): SYMMETRIC_DOT,
    (
        "ops/dropout",
        "dropout_scale",
        "scale = np.empty(shape, np.zeros(0, dtype).real.dtype)",
        "0 -> 1",
    ): "only the dtype of this array is used",
    (
        "ops/embedding",
        "embedding_backward",
        "starts = np.flatnonzero(np.diff(sorted_ids, prepend=-1))",
        "1 -> 2",
    ): "prepends -2 for -1: ids are 0 or more, so both differ from the first one",
    (
        "ops/erf",
        "erf",
        "sign = np.where(x.real < 0, -1.0, 1.0)",
        "x.real < 0 -> x.real <= 0",
    ): "erf(0) = 0 = -erf(-0), signs of zero included",
    ("ops/erf", "", "BLOCK = 1 << 16", "1 -> 2"): SPEED,
    ("ops/erf", "", "BLOCK = 1 << 16", "16 -> 17"): SPEED,
    ("ops/erf", "erf", "x = x * sign", "x * sign -> x / sign"): SIGN,
    ("ops/erf", "erf", "return y * sign", "y * sign -> y / sign"): SIGN,
    ("ops/erf", "erf", "small = x.real <= 0.46875", "x.real <= 0.46875 -> x.real < 0.46875"): PIECES,
    ("ops/erf", "erf", "middle = ~small & ~(x.real >= 6)", "x.real >= 6 -> x.real > 6"): PIECES,
    ("ops/erf", "erf", "middle = ~small & ~(x.real >= 6)", "6 -> 7"): PIECES,
    (
        "ops/lean_attention",
        "lean_attention_backward",
        "dscores = v[:, :, keys] @ block_dy.swapaxes(-1, -2)",
        "-2 -> 2",
    ): AXES,
    (
        "ops/lean_attention",
        "lean_attention_backward",
        "part += sum_to_shape(dscores.swapaxes(-1, -2), part.shape)",
        "-2 -> 2",
    ): AXES,
    (
        "ops/lean_attention",
        "lean_attention_backward",
        "np.matmul(dscores.swapaxes(-1, -2), k[:, :, keys], out=dq[:, :, queries])",
        "-2 -> 2",
    ): AXES,
    ("ops/lean_attention", "LeanAttentionCache.weights", "return weights.swapaxes(-1, -2)", "-2 -> 2"): AXES,
    (
        "ops/lean_attention",
        "lean_attention_forward",
        "np.matmul(weights.swapaxes(-1, -2), v[:, :, keys], out=y[:, :, queries])",
        "-2 -> 2",
    ): AXES,
    (
        "ops/lean_attention",
        "lean_attention_forward",
        "y = heads_last(B, H, T, D, np.result_type(q, k, v, *(() if bias is None else (bias,))))",
        f"np.result_type(q, k, v, {WITH_BIAS}) -> np.result_type(k, q, v, {WITH_BIAS})",
    ): SYMMETRIC,
    (
        "ops/lean_attention",
        "lean_attention_forward",
        "y = heads_last(B, H, T, D, np.result_type(q, k, v, *(() if bias is None else (bias,))))",
        f"np.result_type(q, k, v, {WITH_BIAS}) -> np.result_type(q, v, k, {WITH_BIAS})",
    ): SYMMETRIC,
    (
        "ops/lean_attention",
        "lean_attention_backward",
        "dot = row_dot(dy, y)",
        "row_dot(dy, y) -> row_dot(y, dy)",
    ): SYMMETRIC_DOT,
    (
        "ops/lean_attention",
        "visible_blocks",
        "yield (slice(start, stop), slice(low, max(low, high)))",
        "max(low, high) -> max(high, low)",
    ): "the larger of two integers does not depend on the order",
    ("ops/loss", "cross_entropy_forward", "shifted = rows - rows.real.max(axis=-1, keepdims=True)", "-1 -> 1"): ROWS,
    ("ops/loss", "cross_entropy_forward", "total = probabilities.sum(axis=-1, keepdims=True)", "-1 -> 1"): ROWS,
    ("ops/newest_attention", "newest_attention", "np.matmul(q, k.swapaxes(-1, -2), out=scores)", "-2 -> 2"): AXES,
    (
        "ops/newest_attention",
        "newest_attention",
        "total += total.real == 0",
        "total += total.real == 0 -> total -= total.real == 0",
    ): DIVISOR,
    ("ops/positions", "rotary_table", "functools.lru_cache(maxsize=32)", "32 -> 33"): KEPT,
    (
        "ops/positions",
        "rotary_forward",
        "cos, sin = (table.astype(x.real.dtype, copy=False) for table in (cos, sin))",
        "False -> True",
    ): "a copy of a table that nothing writes to",
    ("ops/reductions", "averaging", "functools.lru_cache(maxsize=16)", "16 -> 17"): KEPT,
    (
        "ops/softmax",
        "softmax_forward",
        "m = np.where(np.isfinite(m), m, 0)",
        "0 -> 1",
    ): "the shift of a row of -inf: -inf less any finite number is -inf",
    ("ops/softmax", "softmax_forward", "y /= np.where(total == 0, 1, total)", "1 -> 2"): DIVISOR,
    ("ops/attend", "", "LEAN_FROM = 256", "256 -> 257"): SPEED,
    ("models/fast_decoding", "", "LARGE_TABLE = 1 << 19", "1 -> 2"): SPEED,
    ("models/fast_decoding", "", "LARGE_TABLE = 1 << 19", "19 -> 20"): SPEED,
    ("models/fast_decoding", "", "AS_IT_LIES = 3 << 18", "3 -> 4"): SPEED,
    ("models/fast_decoding", "", "AS_IT_LIES = 3 << 18", "18 -> 19"): SPEED,
    ("models/fast_decoding", "", "ONE_CORE = 1 << 20", "1 -> 2"): SPEED,
    ("models/fast_decoding", "", "ONE_CORE = 1 << 20", "20 -> 21"): SPEED,
    ("models/fast_decoding", "", "QUICK = 1 << 23", "1 -> 2"): SPEED,
    ("models/fast_decoding", "", "QUICK = 1 << 23", "23 -> 24"): SPEED,
    (
        "models/fast_decoding",
        "FastLinear.__init__",
        "cut = 0 < n < F and 1 < N <= FEWER_ROWS and (C * F <= ONE_CORE)",
        "0 -> 1",
    ): "n is a multiple of 32",
    (
        "models/fast_decoding",
        "FastNewestAttention.__call__",
        "add(weights, bias, weights)",
        "add(weights, bias, weights) -> add(bias, weights, weights)",
    ): COMMUTES,
    (
        "layers/kv_cache",
        "KVCache.reorder",
        "if {i for i, _ in moved} & {origin for _, origin in moved}:",
        "{i for i, _ in moved} & {origin for _, origin in moved}"
        " -> {i for i, _ in moved} | {origin for _, origin in moved}",
    ): "copies the buffers where it need not, which decides the time alone",
    ("models/seq2seq", "", "ROOM = 64", "64 -> 65"): "how large the buffers are at first: they grow",
    ("models/fast_decoding", "", "ONE_THREAD = 1 << 18", "1 -> 2"): SPEED,
    ("models/fast_decoding", "", "ONE_THREAD = 1 << 18", "18 -> 19"): SPEED,
    (
        "models/fast_decoding",
        "FastLinear.__call__",
        "return self.y if self.bias is None else add(self.y, self.bias, self.y)",
        "add(self.y, self.bias, self.y) -> add(self.bias, self.y, self.y)",
    ): COMMUTES,
    (
        "models/fast_decoding",
        "FastRMSNorm.__call__",
        "add(self.rms, self.eps, self.rms)",
        "add(self.rms, self.eps, self.rms) -> add(self.eps, self.rms, self.rms)",
    ): COMMUTES,
    (
        "models/fast_decoding",
        "FastRotary.__call__",
        "multiply(self.swapped, self.sin_halves, self.turned_halves)",
        "multiply(self.swapped, self.sin_halves, self.turned_halves)"
        " -> multiply(self.sin_halves, self.swapped, self.turned_halves)",
    ): COMMUTES,
    (
        "models/fast_decoding",
        "FastRotary.__call__",
        "multiply(self.flat, self.cos_flat, self.flat)",
        "multiply(self.flat, self.cos_flat, self.flat) -> multiply(self.cos_flat, self.flat, self.flat)",
    ): COMMUTES,
    (
        "models/fast_decoding",
        "FastRotary.__call__",
        "add(self.flat, self.turned_flat, self.flat)",
        "add(self.flat, self.turned_flat, self.flat) -> add(self.turned_flat, self.flat, self.flat)",
    ): COMMUTES,
    (
        "models/fast_decoding",
        "FastGeluTanh.__call__",
        "multiply(y, x, y)",
        "multiply(y, x, y) -> multiply(x, y, y)",
    ): COMMUTES,
    (
        "models/fast_decoding",
        "FastGeluTanh.__call__",
        "return multiply(y, x, y)",
        "multiply(y, x, y) -> multiply(x, y, y)",
    ): COMMUTES,
}
