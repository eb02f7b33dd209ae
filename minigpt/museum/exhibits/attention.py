"""Mistakes planted in softmax, attention and its layer."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import (
    attention_oracle,
    cached_by_parts,
    cached_is_uncached,
    causality,
    golden_loss,
    padding,
    recipe_cached_is_uncached,
    shift,
    weights_sum_to_one,
)
from minigpt.museum.planting import Edit, gradient, other
from minigpt.ops import attention, lean_attention

EXHIBITS = [
    gradient(
        "softmax: the Jacobian without its second term", "ops.softmax", "softmax_backward",
        "dx = dy - (dy * y).sum(axis=axis, keepdims=True)", "dx = dy.copy()", gradients.softmax, "softmax.x",
        "all scores rise or fall together, until exp saturates",
    ),
    gradient(
        "softmax: the sum over the wrong axis", "ops.softmax", "softmax_backward",
        ".sum(axis=axis, keepdims=True)", ".sum(axis=0, keepdims=True)", gradients.softmax, "softmax.x",
        "rows of a batch leak into each other's gradients; trains worse with a larger batch",
    ),
    other(
        "softmax: the maximum not subtracted",
        Edit("ops.softmax", "softmax_forward", "m = x.real.max(axis=axis, keepdims=True)", "m = np.zeros(())"),
        "invariance: shift of scores", shift, "softmax",
        "trains for an hour, then the loss is NaN", gradients.softmax,
    ),
    gradient(
        "attention: the softmax Jacobian without its second term", "ops.attention", "attention_backward",
        "dscores -= row_dot(dy, y)[:, :, None, :]", "pass", gradients.attention,
        "attention.q attention.k attention.bias",
        "attention maps stay flat or collapse; the MLPs learn bigrams all the same",
    ),
    gradient(
        "attention: dq without the scale", "ops.attention", "attention_backward",
        "dq *= scale", "pass", gradients.attention, "attention.q",
        "queries learn sqrt(D) times too fast; Adam hides it",
    ),
    gradient(
        "attention: the scale applied to dk a second time", "ops.attention", "attention_backward",
        "np.matmul(dscores, q, out=dk)", "np.matmul(dscores, q * scale, out=dk)", gradients.attention, "attention.k",
        "keys learn sqrt(D) times too slowly; Adam hides it",
    ),
    gradient(
        "attention: the scale typed with three digits in backward", "ops.attention", "attention_backward",
        "dq *= scale", "dq *= round(scale, 3)", gradients.attention, "attention.q",
        "none",
    ),
    gradient(
        "attention: dk transposed", "ops.attention", "attention_backward",
        "np.matmul(dscores, q, out=dk)", "np.matmul(dscores.swapaxes(-1, -2), q, out=dk)", gradients.attention,
        "attention.k",
        "keys learn from the future; unequal sizes of T and S would have raised an error, equal ones run",
    ),
    gradient(
        "attention: the last query left out of dk", "ops.attention", "attention_backward",
        "np.matmul(dscores, q, out=dk)", "np.matmul(dscores[..., :-1], q[:, :, :-1], out=dk)", gradients.attention,
        "attention.k",
        "the newest token, the one that is sampled, has worse keys than the others",
    ),
    gradient(
        "attention: dropout forgotten in dv", "ops.attention", "attention_backward",
        "weights if factors is None else weights * factors, dy", "weights, dy", gradients.attention_dropout,
        "attention.v",
        "dropout acts as noise on the gradient: the loss levels off higher as dropout rises",
    ),
    gradient(
        "attention: dropout forgotten in the scores", "ops.attention", "attention_backward",
        "dscores *= factors", "pass", gradients.attention_dropout, "attention.q attention.k attention.bias",
        "dropped connections are trained as if they had been there",
    ),
    gradient(
        "attention: the bias's gradient scaled like the queries'", "ops.attention", "attention_backward",
        "sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)",
        "sum_to_shape(dscores.swapaxes(-1, -2), bias_shape) * scale",
        gradients.attention, "attention.bias",
        "relative positions (T5's) learn too slowly",
    ),
    gradient(
        "lean attention: dk overwritten by the last block of queries", "ops.lean_attention", "lean_attention_backward",
        "dk[:, :, keys] += dscores", "dk[:, :, keys] = dscores", gradients.lean_attention, "lean_attention.k",
        "right for short texts, wrong as soon as a text is longer than one block",
    ),
    gradient(
        "lean attention: backward draws another dropout mask", "ops.lean_attention", "lean_attention_backward",
        "block_dropout(weights, dropout, seed, queries)", "block_dropout(weights, dropout, seed + 1, queries)",
        gradients.lean_attention_dropout, "lean_attention.q lean_attention.k lean_attention.v lean_attention.bias",
        "trains as if with noise; right as soon as dropout is 0, where it is debugged",
    ),
    gradient(
        "lean attention: the softmax's second term of the wrong queries", "ops.lean_attention",
        "lean_attention_backward",
        "dot[:, :, None, queries]", "dot[:, :, None, : dscores.shape[-1]]",
        gradients.lean_attention, "lean_attention.q lean_attention.k lean_attention.bias",
        "right for short texts, wrong as soon as a text is longer than one block",
    ),
    other(
        "attention: 1 / sqrt(D) missing",
        Edit(
            "ops.attention", "attention_forward",
            "scale = 1 / math.sqrt(D) if scale is None else scale", "scale = 1.0 if scale is None else scale",
        ),
        "oracle: attention in loops", attention_oracle(attention.attention_forward), "y, weights",
        "attention saturates early, worse with wide heads; a checkpoint from elsewhere gives soup", gradients.gpt,
    ),
    other(
        "lean attention: 1 / sqrt(C) for 1 / sqrt(D)",
        Edit("ops.lean_attention", "lean_attention_forward", "1 / math.sqrt(D)", "1 / math.sqrt(H * D)"),
        "oracle: attention in loops", attention_oracle(lean_attention.lean_attention_forward), "y, weights",
        "attention maps stay flat; loss jumps where texts become long enough for the lean form", gradients.lean_gpt,
    ),
    other(
        "attention: the mask applied after the softmax",
        (
            Edit(
                "ops.attention", "attention_forward",
                "softmax_over_keys(scores_kq(q, k, mask,", "softmax_over_keys(scores_kq(q, k, Mask(),",
            ),
            Edit(
                "ops.attention", "attention_forward",
                "factors = None", "factors = 1.0 * np.isfinite(scores_kq(q, k, mask, bias, slice(0, T), slice(0, S)))",
            ),
            Edit(
                "ops.attention", "attention_forward",
                "dropped.swapaxes(-1, -2)", "(weights * factors).swapaxes(-1, -2)",
            ),
        ),
        "invariance: weights sum to 1", weights_sum_to_one, "row sums",
        "early tokens attend to little; the future leaks through the denominator: the loss is too good, "
        "samples are not",
        gradients.attention,
    ),
    other(
        "attention: the causal mask off by one",
        Edit("ops.attention", "position_penalty", "distance < 0", "distance < -1"),
        "invariance: causality", causality, "logits before the change",
        "the loss falls towards 0 in no time: each token sees the answer; samples are soup", gradients.gpt,
    ),
    other(
        "attention: the band off by one",
        Edit("ops.attention", "position_penalty", ">= window", "> window"),
        "oracle: attention in loops", attention_oracle(attention.attention_forward), "y, weights",
        "none, but memory-lean attention and checkpoints from elsewhere differ a little", gradients.attention,
    ),
    other(
        "attention: padding seen and text hidden",
        Edit("ops.attention", "scores_kq", "~mask.keys", "mask.keys"),
        "invariance: padded = alone", padding, "padded row",
        "batches of prompts of unequal length continue with nonsense, single ones don't", gradients.attention,
    ),
    other(
        "attention: the causal mask aligned with the first key, not the last",
        Edit("ops.attention", "scores_kq", "first = S - T + queries.start", "first = queries.start"),
        "invariance: cached = uncached", cached_by_parts, "second part",
        "trains well; with a KV cache a second part of a text sees the beginning of the first alone", gradients.gpt,
    ),
    gradient(
        "heads merged without moving the time axis first", "layers.attention", "merge_heads",
        "y.swapaxes(1, 2).reshape(B, T, -1)", "y.reshape(B, T, -1)", gradients.gpt, "h.1.attn.c_attn.bias",
        "positions mix, future ones too: the loss falls, samples are soup",
    ),
    gradient(
        "gradients of q, k and v in the wrong order", "layers.attention", "Attention.backward",
        "out=split_heads(dqkv, self.n_head, self.head_channels)",
        "out=split_heads(dqkv, self.n_head, self.head_channels)[::-1]", gradients.gpt, "h.1.attn.c_attn.bias",
        "attention learns nothing; the loss stops at the bigrams'",
    ),
    gradient(
        "relative bias: its gradient dropped where the caller did not ask for it", "layers.attention",
        "Attention.backward",
        'dshared.add("bias", dbias)', "pass", gradients.biased_attention, "bias",
        "relative positions stay at their random start; learns, a little worse",
    ),
    gradient(
        "cross-attention: the memory's gradient overwritten by each layer", "layers.shared", "SharedGradients.add",
        "total += gradient", "total[...] = gradient", gradients.cross_attention, "memory",
        "the encoder learns from one decoder layer only",
    ),
    gradient(
        "rotary positions: the gradients of q and k not turned back", "layers.attention", "Attention.backward",
        "dqk[...] = rotary_backward(dqk, cache.rotary)", "pass", gradients.rotary_gpt, "h.0.attn.c_attn.bias",
        "near tokens learn to look at each other, far ones learn noise",
    ),
    gradient(
        "QK-norm: the gradients of q and k not taken back through the norm", "layers.attention", "Attention.backward",
        "dqk[...], _ = rmsnorm_backward(dqk, cache.qk_norm)", "pass", gradients.qk_norm_gpt, "h.0.attn.c_attn.bias",
        "queries and keys grow without an effect, and learn ever more slowly",
    ),
    other(
        "heads made by view where a transpose is needed, both ways",
        (
            Edit(
                "layers.attention", "split_heads",
                "x.reshape(B, T, -1, heads, channels).transpose(2, 0, 3, 1, 4)",
                "x.reshape(B, -1, heads, T, channels).swapaxes(0, 1)",
            ),
            Edit("layers.attention", "merge_heads", "y.swapaxes(1, 2).reshape(B, T, -1)", "y.reshape(B, T, -1)"),
        ),
        "invariance: causality", causality, "logits before the change",
        "the loss is too good, samples are soup: heads are stretches of time, and the mask masks nothing",
        gradients.gpt,
    ),
    other(
        "queries and keys swapped, both ways",
        (
            Edit("layers.attention", "Attention.forward", "q, k, v = split_heads(qkv", "k, q, v = split_heads(qkv"),
            Edit("layers.attention", "Attention.backward", "out=split_heads(dqkv, self.n_head, self.head_channels)",
                 "out=[split_heads(dqkv, self.n_head, self.head_channels)[i] for i in (1, 0, 2)]"),
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none at all, until a checkpoint from elsewhere is loaded", gradients.gpt,
    ),
    other(
        "KV cache: keys stored as values",
        Edit(
            "layers.kv_cache", "KVCache.append",
            "self.values[:, :, start : self.length] = v", "self.values[:, :, start : self.length] = k",
        ),
        "invariance: cached = uncached", cached_is_uncached, "prompt, next tokens",
        "trains well; samples are soup",
    ),
    other(
        "fast decoding: queries not scaled",
        Edit(
            "models.fast_decoding", "FastNewestAttention.__call__",
            "multiply(q, self.scale, self.q)", "copyto(self.q, q)",
        ),
        "invariance: cached = uncached", cached_is_uncached, "prompt, next tokens",
        "trains well; samples are sure of themselves and wrong",
    ),
    other(
        "smear: in decoding, the token before the newest forgotten",
        Edit(
            "models.fast_decoding", "FastTrunk.embed",
            "self.state.previous = newest if visible is None", "self.state.previous = None if visible is None",
        ),
        "invariance: cached = uncached", recipe_cached_is_uncached, "prompt, next tokens",
        "trains well; samples are a little worse than the loss promises",
    ),
]  # fmt: skip
