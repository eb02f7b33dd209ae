"""Mistakes planted in RoBERTa."""

from minigpt.museum.encoder_checks import (
    golden_roberta,
    positions_by_loops,
    roberta_classified_by_hand,
    roberta_gradients,
    roberta_padding_at_the_left,
    roberta_sequence_gradients,
)
from minigpt.museum.planting import Edit, gradient, other

POSITIONS = "pad_token_id + np.cumsum(visible, axis=1) * visible"
EXHIBITS = [
    other(
        "RoBERTa: positions from 0, not from padding_idx + 1",
        Edit("models.roberta", "positions_of", POSITIONS, "(np.cumsum(visible, axis=1) - 1) * visible"),
        "golden: loss of Hugging Face's RoBERTa", golden_roberta, "targets",
        "none in training from scratch; a checkpoint from elsewhere is a little worse, all of it two places off",
        roberta_gradients,
    ),
    other(
        "RoBERTa: padding counted along",
        Edit("models.roberta", "positions_of", POSITIONS, "pad_token_id + np.arange(1, ids.shape[1] + 1) * visible"),
        "invariance: padded at the left = alone", roberta_padding_at_the_left, "text",
        "none where padding is at the right, as in training; at the left a text is embedded otherwise than alone",
        roberta_gradients,
    ),
    other(
        "RoBERTa: padding at the place of the last token, not at padding_idx",
        Edit("models.roberta", "positions_of", POSITIONS, "pad_token_id + np.cumsum(visible, axis=1)"),
        "oracle: positions in loops", positions_by_loops, "padding",
        "none: nobody sees padding; hidden states at it differ from those of others", roberta_gradients,
    ),
    other(
        "RoBERTa: texts as long as the table",
        Edit("models.roberta", "RoBERTaConfig.block_size", "self.max_position_embeddings - self.pad_token_id - 1",
             "self.max_position_embeddings"),
        "oracle: positions in loops", positions_by_loops, "longest",
        "none, until a text of 513 tokens comes: an index out of range deep within", roberta_gradients,
    ),
    other(
        "RoBERTa: its one token type not added, both ways",
        (
            Edit("models.roberta", "RoBERTa.hidden", "x + types", "x"),
            Edit(
                "models.roberta", "RoBERTa.hidden_backward",
                "self.token_types.backward(g, dx, cache.token_types)", "pass",
            ),
        ),
        "golden: loss of Hugging Face's RoBERTa", golden_roberta, "targets",
        "none in training from scratch; a checkpoint from elsewhere is a little worse", roberta_gradients,
    ),
    other(
        "RoBERTa's classifier: tanh left out, both ways",
        (
            Edit("layers.heads", "FirstTokenClassifier.forward", "h, tanh = tanh_forward(h)", "tanh = None"),
            Edit("layers.heads", "FirstTokenClassifier.backward", "dh = tanh_backward(dh, cache.tanh)", "pass"),
        ),
        "oracle: classified by hand", roberta_classified_by_hand, "logits",
        "fine-tunes; a fine-tuned checkpoint from elsewhere is sure of itself, and sometimes wrong",
        roberta_sequence_gradients,
    ),
    gradient(
        "RoBERTa's classifier: the first of its two dropouts forgotten in backward", "layers.heads",
        "FirstTokenClassifier.backward",
        "dropout_backward(dh, cache.dropout_in)", "dh", roberta_sequence_gradients, "h.0.ln_2.bias",
        "fine-tunes, with noise for a gradient below the classifier",
    ),
]  # fmt: skip
