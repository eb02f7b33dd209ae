"""RoBERTa against GPT-2: what it has of its own, and which of BERT's lines hold for it.

Liu et al. 2019, arXiv:1907.11692; positions and heads are fairseq's, which transformers follows.
"""

from minigpt.explain.family import Family, Line

LINES = (
    Line(
        "positions",
        "wpe[0], wpe[1], wpe[2], ...",
        "numbered from padding_idx + 1: wpe[2], wpe[3], ..., as padding_idx = 1",
        "dwpe[2 + k] = sum over the texts of dx of the token k; rows 0 and 1 learn nothing from a text",
        "models.roberta.positions_of",
        "RoBERTa: positions from 0, not from padding_idx + 1",
    ),
    Line(
        "padding between",
        "position t is place t",
        "only tokens are counted: padding before a text moves it nowhere",
        "the same rows of wpe learn, wherever the padding is",
        "models.roberta.positions_of",
        "RoBERTa: padding counted along",
    ),
    Line(
        "padding's position",
        "training texts have no padding",
        "padding keeps padding_idx: wpe[1]",
        "dwpe[1] = 0, as nobody sees padding",
        "models.roberta.positions_of",
        "RoBERTa: padding at the place of the last token, not at padding_idx",
    ),
    Line(
        "longest text",
        "as many tokens as wpe has rows",
        "padding_idx + 1 fewer than wpe has rows: 512 of 514",
        "rows 0 .. padding_idx of dwpe stay 0",
        "models.roberta.RoBERTaConfig.block_size",
        "RoBERTa: texts as long as the table",
    ),
    Line(
        "token types",
        "x = wte[ids] + wpe[t]",
        "x = wte[ids] + wpe[position] + token_types[0]: one row for all",
        "dtoken_types[0] = sum of all dx: a bias, in all but name",
        "models.roberta.RoBERTa.hidden",
        "RoBERTa: its one token type not added, both ways",
    ),
    Line(
        "classification",
        "none",
        "logits = dropout(tanh(dropout(x[:, 0]) @ W1 + b1)) @ W2 + b2 of a text; of tokens as BERT's",
        "dz = m2 * (dlogits @ W2^T) (1 - h^2), dx[:, 0] = m1 * (dz @ W1^T), 0 for all other tokens",
        "layers.heads.FirstTokenClassifier.forward",
        "RoBERTa's classifier: tanh left out, both ways",
    ),
    Line(
        "classifier dropout",
        "dropout on x, attention weights and what a layer adds",
        "and in the classifier twice: before each of its two layers",
        "two masks, each taken back in its place: m2 after W2, m1 after W1",
        "layers.heads.FirstTokenClassifier.backward",
        "RoBERTa's classifier: the first of its two dropouts forgotten in backward",
    ),
    Line(
        "new masks",
        "nothing is drawn but windows",
        "a window that is drawn again gets new masks; BERT's code drew ten, with the data",
        "every token of a window is a target sooner or later",
        "objectives.masked_lm.MaskedLM.draw",
        "masks: drawn once and for all, not anew",
    ),
    Line(
        "full sentences",
        "windows of T tokens, targets one place later",
        "<s>, T - 2 tokens from anywhere in the text, </s>; no pairs, no next sentence, no pooler",
        "the masked-LM loss is the only one: dx has one summand",
        "objectives.masked_lm.MaskedLM.any_places",
        "masked LM: the text's last window never drawn",
    ),
)


def size(num_hidden_layers, num_attention_heads, hidden_size):
    """One of the sizes of the paper, with GPT-2's vocabulary and RoBERTa's special tokens."""
    sizes = {"num_hidden_layers": num_hidden_layers, "num_attention_heads": num_attention_heads}
    return {"vocab_size": 50265, "hidden_size": hidden_size, "head": None, **sizes}


FAMILY = Family(
    name="roberta",
    model_type="roberta",
    title="RoBERTa",
    source="Liu et al. 2019, RoBERTa: A robustly optimized BERT pretraining approach, arXiv:1907.11692",
    against="GPT-2",
    lines=LINES,
    blocks=("num_hidden_layers",),
    sizes={"roberta-base": size(12, 12, 768), "roberta-large": size(24, 16, 1024)},
    as_in="bert",
    same=(
        "attention", "padding", "embedding norm", "embedding dropout", "norms", "residual", "GELU", "initial weights",
        "transform", "transform's GELU", "head bias", "masked positions", "answers", "answers' loss", "targets",
        "hidden tokens", "80% masked", "10% random", "special tokens", "random tokens",
    ),
    heads=(None, "masked_lm", "sequence_classification", "token_classification", "question_answering"),
    positions="2, 3, 4, …; padding: 1",
)  # fmt: skip
