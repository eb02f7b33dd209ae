"""Mistakes planted in the relative bias, its buckets, and where its gradient is added up."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import biased_attention_oracle
from minigpt.museum.planting import Edit, gradient, other
from minigpt.museum.two_stack_checks import buckets_by_loops, t5_gradients

BY_LOOPS = "oracle: buckets in loops"
EXHIBITS = [
    other(
        "relative buckets: keys before and behind the query swapped",
        Edit("ops.relative", "relative_buckets", "np.where(distance > 0, buckets, 0)",
             "np.where(distance < 0, buckets, 0)"),
        BY_LOOPS, buckets_by_loops, "both sides near, both sides far, both sides beyond",
        "none from scratch; a checkpoint from elsewhere reads its source backwards", t5_gradients,
    ),
    other(
        "relative buckets: one-sided ones for the keys behind the query",
        Edit("ops.relative", "relative_buckets", "np.maximum(-distance, 0)", "np.maximum(distance, 0)"),
        BY_LOOPS, buckets_by_loops, "one side near, one side far, one side beyond",
        "the decoder sees no order in what it wrote: all its keys stand in bucket 0", t5_gradients,
    ),
    other(
        "relative buckets: near distances shared, as far ones are",
        Edit("ops.relative", "relative_buckets", "exact = buckets // 2", "exact = buckets // 4"),
        BY_LOOPS, buckets_by_loops, "both sides near, both sides far, one side near, one side far",
        "none from scratch; of a checkpoint from elsewhere neighbours up to 4 places away are right, others are not",
        t5_gradients,
    ),
    other(
        "relative buckets: the logarithm's off by one",
        Edit("ops.relative", "relative_buckets", "shared = exact + (log", "shared = exact + 1 + (log"),
        BY_LOOPS, buckets_by_loops, "both sides far, one side far",
        "none from scratch but a bucket that nobody is in; a checkpoint from elsewhere is worse on long texts",
        t5_gradients,
    ),
    other(
        "relative buckets: the last one never reached",
        Edit("ops.relative", "relative_buckets", "np.minimum(shared, buckets - 1)", "np.minimum(shared, buckets - 2)"),
        BY_LOOPS, buckets_by_loops, "both sides far, both sides beyond, one side far, one side beyond",
        "none; a row of the table never learns", t5_gradients,
    ),
    gradient(
        "relative bias: its gradient a mean over the pairs of a distance", "ops.relative", "relative_bias_backward",
        "moved.sum(axis=1)", "moved.mean(axis=1)", gradients.relative_bias, "relative_bias.weight",
        "distances learn as many times too slowly as a text is long; Adam hides it",
    ),
    gradient(
        "relative bias: its gradient of the diagonals turned round", "ops.relative", "relative_bias_backward",
        "embedding_backward(ddiagonals.T,", "embedding_backward(ddiagonals.T[::-1],", gradients.relative_bias,
        "relative_bias.weight",
        "what stands before a token is learned for what stands behind it",
    ),
    gradient(
        "attention: the bias's gradient of the first text alone", "ops.attention", "attention_backward",
        "sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)", "dscores.swapaxes(-1, -2)[:1]", gradients.attention,
        "attention.bias",
        "distances learn B times too slowly and more noisily; Adam hides half of it",
    ),
    gradient(
        "relative bias: its gradient of one layer alone", "layers.shared", "SharedGradients.add",
        "total += gradient", 'total[...] = gradient if name == "bias" else total + gradient',
        gradients.biased_attention, "bias",
        "distances are learned for the first layer; the others make do with them",
    ),
    other(
        "attention: the bias scaled like the scores, both ways",
        (
            Edit("ops.attention", "attention_forward", "scores_kq(q, k, mask, bias, slice(0, T), slice(0, S))",
                 "scores_kq(q, k, mask, None if bias is None else bias * scale, slice(0, T), slice(0, S))"),
            Edit("ops.attention", "attention_backward", "sum_to_shape(dscores.swapaxes(-1, -2), bias_shape)",
                 "sum_to_shape(dscores.swapaxes(-1, -2) * scale, bias_shape)"),
        ),
        "oracle: attention with a bias in loops", biased_attention_oracle, "y",
        "none where scores are not scaled, as in T5; elsewhere distances count for little at first",
        gradients.attention,
    ),
]  # fmt: skip
