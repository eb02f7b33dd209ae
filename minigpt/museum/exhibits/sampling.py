"""Mistakes planted in sampling."""

from minigpt.museum.oracles import padding
from minigpt.museum.planting import Edit, other
from minigpt.museum.search_oracles import penalty_by_loops
from minigpt.museum.training_oracles import sampling_oracle

EXHIBITS = [
    other(
        "padding: positions counted from the padding's start",
        Edit("sampling", "left_pad", "np.maximum(mask.cumsum(axis=1) - 1, 0)", "np.arange(T)"),
        "invariance: padded = alone", padding, "padded row",
        "in a batch of prompts, short ones continue worse than alone",
    ),
    other(
        "sampling: top_p stops before the token that reaches it",
        Edit("sampling", "token_probabilities", "p.cumsum(axis=-1) - p >= top_p", "p.cumsum(axis=-1) >= top_p"),
        "oracle: sampling by sorted lists", sampling_oracle, "top_p",
        "samples repeat themselves; where the model is sure, no token is left and all are NaN",
    ),
    other(
        "sampling: top_k keeps one more",
        Edit(
            "sampling", "token_probabilities",
            "only_most_likely(logits, top_k)", "only_most_likely(logits, top_k + 1)",
        ),
        "oracle: sampling by sorted lists", sampling_oracle, "top_k",
        "top_k = 1 is not greedy",
    ),
    other(
        "sampling: logits times the temperature",
        Edit("sampling", "token_probabilities", "logits = logits / temperature", "logits = logits * temperature"),
        "oracle: sampling by sorted lists", sampling_oracle, "temperature",
        "low temperatures babble, high ones repeat",
    ),
    other(
        "sampling: probabilities left in sorted order",
        Edit(
            "sampling", "token_probabilities",
            "np.put_along_axis(probabilities, order, p, axis=-1)", "probabilities[:, : p.shape[-1]] = p",
        ),
        "oracle: sampling by sorted lists", sampling_oracle, "top_p",
        "a well-trained model babbles as soon as top_p is given",
    ),
    other(
        "repetition penalty: negative logits divided as well",
        Edit("sampling", "penalised", "seen * penalty", "seen / penalty"),
        "oracle: penalties in loops", penalty_by_loops, "negative",
        "of what a text has already, the unlikely becomes likelier: the penalty works half of the time",
    ),
    other(
        "repetition penalty: once for each time that a token occurs",
        Edit("sampling", "penalised", "of_row[row] = np.where(", "of_row[row] *= np.bincount(row)[row] * np.where("),
        "oracle: penalties in loops", penalty_by_loops, "positive, negative",
        "'the' and the comma die out in long texts",
    ),
]  # fmt: skip
