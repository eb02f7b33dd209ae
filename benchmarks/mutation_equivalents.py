"""Mutants of mutation_score that compute what the original does, with the reason: (module, function, line as it stands, change) -> why."""

AXES = "every array here has four axes, of which 2 and -2 are the same"
SPEED = "decides which of two equal computations runs, hence only the speed; tests hold that both give the same"
DIVISOR = "divides an exact 0 (a row without any visible entry): any divisor but 0 does"
SIGN = "sign is 1 or -1: to multiply by it is to divide by it"
PIECES = "where two pieces of erf meet both are right to the last digit, the middle one beyond 6 too, where erf rounds to 1"
ROWS = "the logits are rows here: two axes, of which the last is 1"
SYMMETRIC_DOT = "a product of two numbers does not depend on their order"
KEPT = "how many results are kept decides the time alone"
SYMMETRIC = "the common dtype does not depend on the order"
RESULT_TYPE = "y = heads_last(B, H, T, D, np.result_type(q, k, v, *(() if bias is None else (bias,))))"

EQUIVALENT = {
    (
        "ops/attention",
        "attention_backward",
        "dscores = v @ dy.swapaxes(-1, -2)  # (B, H, S, T), the gradient of the dropped weights so far",
        "-2 -> 2",
    ): AXES,
    (
        "ops/attention",
        "attention_backward",
        "dbias = None if bias_shape is None else sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)",
        "-2 -> 2",
    ): AXES,
    ("ops/attention", "attention_backward", "np.matmul(dscores.swapaxes(-1, -2), k, out=dq)", "-2 -> 2"): AXES,
    ("ops/lean_attention", "lean_attention_backward", "dscores = v[:, :, keys] @ block_dy.swapaxes(-1, -2)", "-2 -> 2"): AXES,
    ("ops/lean_attention", "lean_attention_backward", "part += sum_to_shape(dscores.swapaxes(-1, -2), part.shape)", "-2 -> 2"): AXES,
    ("ops/lean_attention", "lean_attention_backward", "np.matmul(dscores.swapaxes(-1, -2), k[:, :, keys], out=dq[:, :, queries])", "-2 -> 2"): AXES,
    (
        "ops/embedding",
        "embedding_backward",
        "starts = np.flatnonzero(np.diff(sorted_ids, prepend=-1))  # the first row of each run",
        "1 -> 2",
    ): "prepends -2 for -1: ids are 0 or more, so both differ from the first one",
    ("ops/softmax", "softmax_forward", "m = np.where(np.isfinite(m), m, 0)  # only -inf here: -inf - -inf would be nan", "0 -> 1"): (
        "the shift of a row of -inf: -inf less any finite number is -inf"
    ),
    ("ops/softmax", "softmax_forward", "y /= np.where(total == 0, 1, total)", "1 -> 2"): DIVISOR,
    (
        "ops/attention",
        "",
        "QUERY_BLOCK = 64  # queries that memory-lean attention takes at a time: against 128, a tenth faster at T=256, a twentieth slower from 1024 on",  # noqa: E501
        "64 -> 65",
    ): SPEED,
    ("ops/attention", "AttentionCache.weights", "return self.weights_kq.swapaxes(-1, -2)", "-2 -> 2"): AXES,
    ("ops/dropout", "dropout_scale", "scale = np.empty(shape, np.zeros(0, dtype).real.dtype)", "0 -> 1"): "only the dtype of this array is used",
    ("ops/lean_attention", "LeanAttentionCache.weights", "return weights.swapaxes(-1, -2)", "-2 -> 2"): AXES,
    ("ops/attention", "attention_forward", "np.matmul(dropped.swapaxes(-1, -2), v, out=y)", "-2 -> 2"): AXES,
    (
        "ops/lean_attention",
        "lean_attention_forward",
        "np.matmul(weights.swapaxes(-1, -2), v[:, :, keys], out=y[:, :, queries])",
        "-2 -> 2",
    ): AXES,
    ("ops/attention", "scores_kq", "scores = k[:, :, keys] @ q[:, :, queries].swapaxes(-1, -2)", "-2 -> 2"): AXES,
    (
        "ops/lean_attention",
        "lean_attention_forward",
        RESULT_TYPE,
        "np.result_type(q, k, v, *(() if bias is None else (bias,))) -> np.result_type(k, q, v, *(() if bias is None else (bias,)))",
    ): SYMMETRIC,
    (
        "ops/lean_attention",
        "lean_attention_forward",
        RESULT_TYPE,
        "np.result_type(q, k, v, *(() if bias is None else (bias,))) -> np.result_type(q, v, k, *(() if bias is None else (bias,)))",
    ): SYMMETRIC,
    ("ops/attention", "scores_kq", "scores = scores + block_of_bias(bias, queries, keys).swapaxes(-1, -2)", "-2 -> 2"): AXES,
    (
        "ops/attention",
        "softmax_over_keys",
        "top = scores.real.max(axis=-2, initial=np.finfo(scores.dtype).min, keepdims=True)  # finite even where every score is -inf",
        "-2 -> 2",
    ): AXES,
    (
        "ops/attention",
        "softmax_over_keys",
        "total = np.ones((1, weights.shape[-2]), weights.dtype) @ weights  # (B, H, 1, T), as a product: 7 us against weights.sum's 26 at (6, 4, 64, 64)",  # noqa: E501
        "-2 -> 2",
    ): AXES,
    ("ops/attention", "attention_backward", "dscores -= row_dot(dy, y)[:, :, None, :]", "row_dot(dy, y) -> row_dot(y, dy)"): SYMMETRIC_DOT,
    ("ops/lean_attention", "lean_attention_backward", "dot = row_dot(dy, y)  # (B, H, T)", "row_dot(dy, y) -> row_dot(y, dy)"): SYMMETRIC_DOT,
    ("ops/newest_attention", "newest_attention", "np.matmul(q, k.swapaxes(-1, -2), out=scores)", "-2 -> 2"): AXES,
    ("ops/newest_attention", "newest_attention", "return y, AttentionCache(q, k, v, y, scores.swapaxes(-1, -2), None, scale, None if bias is None else bias.shape)", "-2 -> 2"): AXES,  # noqa: E501
    (
        "ops/newest_attention",
        "newest_attention",
        "total += total.real == 0  # a query without keys: 0 / 1 = 0",
        "total += total.real == 0 -> total -= total.real == 0",
    ): DIVISOR,
    ("layers/attention", "Attention.forward", "if kv is not None and x.shape[1] == 1 and rng is None:", "kv is not None -> kv is None"): SPEED,
    ("layers/attention", "Attention.forward", "if kv is not None and x.shape[1] == 1 and rng is None:", "1 -> 2"): SPEED,
    (
        "ops/attention",
        "position_penalty",
        "hidden |= distance < 0",
        "hidden |= distance < 0 -> hidden = distance < 0",
    ): "or-ed into an array of False",
    (
        "ops/attention",
        "position_penalty",
        "@functools.lru_cache(maxsize=16)  # blocks along the diagonal, and layers, all ask for the same few",
        "16 -> 17",
    ): KEPT,
    ("ops/positions", "rotary_table", "@functools.lru_cache(maxsize=32)", "32 -> 33"): KEPT,
    ("ops/reductions", "averaging", "@functools.lru_cache(maxsize=16)", "16 -> 17"): KEPT,
    (
        "ops/positions",
        "rotary_forward",
        "cos, sin = (table.astype(x.real.dtype, copy=False) for table in (cos, sin))",
        "False -> True",
    ): "a copy of a table that nothing writes to",
    (
        "ops/attention",
        "row_dot",
        'return np.einsum("bhtd,bhtd->bht", a, b, order="C")',
        "np.einsum('bhtd,bhtd->bht', a, b, order='C') -> np.einsum('bhtd,bhtd->bht', b, a, order='C')",
    ): SYMMETRIC_DOT,
    (
        "ops/lean_attention",
        "visible_blocks",
        "yield slice(start, stop), slice(low, max(low, high))",
        "max(low, high) -> max(high, low)",
    ): "the larger of two integers does not depend on the order",
    ("ops/erf", "erf", "sign = np.where(x.real < 0, -1.0, 1.0)", "x.real < 0 -> x.real <= 0"): "erf(0) = 0 = -erf(-0), signs of zero included",
    ("ops/erf", "erf", "x = x * sign  # erf is odd", "x * sign -> x / sign"): SIGN,
    ("ops/erf", "erf", "return y * sign", "y * sign -> y / sign"): SIGN,
    ("ops/erf", "erf", "small = x.real <= 0.46875", "x.real <= 0.46875 -> x.real < 0.46875"): PIECES,
    ("ops/erf", "erf", "middle = ~small & ~(x.real >= 6)", "x.real >= 6 -> x.real > 6"): PIECES,
    ("ops/erf", "erf", "middle = ~small & ~(x.real >= 6)", "6 -> 7"): PIECES,
    ("ops/loss", "cross_entropy_forward", "shifted = rows - rows.real.max(axis=-1, keepdims=True)", "-1 -> 1"): ROWS,
    ("ops/loss", "cross_entropy_forward", "total = probabilities.sum(axis=-1, keepdims=True)  # (rows, 1)", "-1 -> 1"): ROWS,
    ("layers/attention", "", "LEAN_FROM = 256  # queries; from here on memory-lean attention is the faster one as well: it skips the blocks that the mask hides", "256 -> 257"): SPEED,  # noqa: E501
}
