"""BERT and RoBERTa of `transformers` with random weights, and their tensors under the names here;
a table of its own, so that it also checks minigpt.hub's.
"""

import re

import numpy as np
import torch
import transformers

from minigpt import BERT, BERTConfig, RoBERTa, RoBERTaConfig

B, T, P, V, C, H, F, LAYERS, TYPES, L = 4, 7, 11, 17, 15, 3, 14, 2, 6, 8
SIZES = {"vocab_size": V, "hidden_size": C, "num_attention_heads": H}
SIZES |= {"intermediate_size": F, "type_vocab_size": TYPES, "num_labels": L}
KINDS = {"bert": (BERT, BERTConfig, P), "roberta": (RoBERTa, RoBERTaConfig, P + 2)}
CLASSES = {
    "pretraining": "ForPreTraining",
    "masked_lm": "ForMaskedLM",
    "sequence_classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
    None: "Model",
}
THEIR_NAMES = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}
RENAMED = [  # of a name without its prefix, bert. or roberta.: from, to
    (r"embeddings\.word_embeddings", "wte"),
    (r"embeddings\.position_embeddings", "wpe"),
    (r"embeddings\.token_type_embeddings", "token_types"),
    (r"embeddings\.LayerNorm", "ln_0"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)", r"h.\1.attn.c_attn.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense", r"h.\1.attn.c_proj"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm", r"h.\1.ln_1"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense", r"h.\1.mlp.c_fc"),
    (r"encoder\.layer\.(\d+)\.output\.dense", r"h.\1.mlp.c_proj"),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm", r"h.\1.ln_2"),
    (r"pooler\.dense", "pooler"),
    (r"cls\.predictions\.transform\.dense|lm_head\.dense", "transform"),
    (r"cls\.predictions\.transform\.LayerNorm|lm_head\.layer_norm", "ln_t"),
    (r"cls\.predictions(\.decoder)?|lm_head(\.decoder)?", "head"),
    (r"cls\.seq_relationship", "next_sentence"),
    (r"classifier\.out_proj", "classifier.out"),
    (r"qa_outputs", "spans"),
]
TABLES = ("wte", "wpe", "token_types")


def make_pair(family, head, rng, *, dropout=0.0, activation="gelu", tie=True, layers=LAYERS):
    """Their model and ours, in float64, with the same weights, normal(0, 0.5)."""
    kind, config_class, positions = KINDS[family]
    name = {"bert": "Bert", "roberta": "Roberta"}[family]
    shared = SIZES | {"max_position_embeddings": positions, "num_hidden_layers": layers}
    labels = {"num_labels": 2} if head == "question_answering" else {}
    theirs = getattr(transformers, name + CLASSES[head])(
        getattr(transformers, f"{name}Config")(
            **shared | labels,
            hidden_act=THEIR_NAMES[activation],
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            tie_word_embeddings=tie,
            layer_norm_eps=1e-5 if family == "roberta" else 1e-12,
            pad_token_id=1 if family == "roberta" else 0,
            attn_implementation="eager",
        )
    ).double()
    theirs.train(dropout > 0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(torch.tensor(0.5 * rng.standard_normal(tuple(parameter.shape))))
            # two gradients of an answer's head are zero in theory; what rounding leaves of them is
            # measured against the others', which are small where all tokens come to look alike
            if head == "question_answering" and name.endswith("LayerNorm.weight"):
                parameter += 1
    for module in theirs.modules():  # which would keep the padding token's gradient at zero: here it is the true one
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    config = config_class(**shared, head=head, dropout=dropout, activation=activation, tie_embeddings=tie)
    ours = kind(config, dtype=np.float64)
    weights = under_our_names({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    for name, value in ours.parameters.items():
        value[...] = weights.pop(name)
    assert not weights or (not tie and not weights.keys() - {"head.bias"}), weights.keys()
    return theirs, ours


def under_our_names(tensors):
    """Their name -> array, as the names and in the layout that are ours."""
    found, parts = {}, {}
    for name, value in tensors.items():
        name, _, kind = re.sub(r"^(bert|roberta)\.", "", name).rpartition(".")
        for pattern, ours in RENAMED:
            if re.fullmatch(pattern, name):
                name = re.sub(pattern, ours, name)
                break
        value = value.T if value.ndim == 2 and name not in TABLES else value
        name, _, part = name.partition(".c_attn.")
        if part:
            parts.setdefault(f"{name}.c_attn.{kind}", {})[part] = value
        else:
            found[f"{name}.{kind}"] = value
    for name, three in parts.items():
        found[name] = np.concatenate([three[part] for part in ("query", "key", "value")], axis=-1)
    return found


def random_batch(family, head, rng):
    """Texts with padding at both sides and at none, and some of each target ignored, but no start
    or end of an answer: transformers takes -100 for the first token.
    """
    pad = 1 if family == "roberta" else 0
    ids, mask = rng.integers(2, V, (B, T)), np.ones((B, T), np.int64)
    mask[0, -2:] = mask[1, :3] = mask[3, 0] = mask[3, -1] = 0
    ids[mask == 0] = pad
    batch = {"ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, TYPES, (B, T))}
    by_token = np.where((rng.random((B, T)) < 0.4) & (mask == 1), rng.integers(0, L, (B, T)), -100)
    if head in ("pretraining", "masked_lm"):
        batch["targets"] = np.where(by_token < 0, -100, rng.integers(0, V, (B, T)))
    if head == "pretraining":
        batch["next_sentence"] = np.array([1, -100, 0, 1])
    if head in ("sequence_classification", "token_classification"):
        batch["labels"] = by_token if head == "token_classification" else np.array([L - 1, 0, -100, 3])
    if head == "question_answering":
        batch |= {"starts": np.array([2, 4, 0, 6]), "ends": np.array([4, 6, 5, 6])}
    return batch


THEIR_ARGUMENTS = {"ids": "input_ids", "targets": "labels", "next_sentence": "next_sentence_label"}
THEIR_ARGUMENTS |= {"starts": "start_positions", "ends": "end_positions"}


def their_outputs(theirs, batch):
    """What their model makes of a batch: -> its output object, dict of its arrays as ours are
    called.
    """
    out = theirs(**{THEIR_ARGUMENTS.get(name, name): torch.tensor(value) for name, value in batch.items()},
                 output_hidden_states=True)  # fmt: skip
    kind = type(theirs).__name__
    found = {"hidden": out.hidden_states[-1]}
    if kind.endswith("ForPreTraining"):
        found |= {"masked_lm": out.prediction_logits, "next_sentence": out.seq_relationship_logits}
    elif kind.endswith("ForMaskedLM"):
        found["masked_lm"] = out.logits
    elif kind.endswith("Classification"):
        found["logits"] = out.logits
    elif kind.endswith("Answering"):
        found |= {"starts": out.start_logits, "ends": out.end_logits}
    else:
        found["pooled"] = out.pooler_output
    return out, found


def their_gradients(theirs):
    """The gradients of their parameters, as ours are called."""
    return under_our_names({n: p.grad.numpy() for n, p in theirs.named_parameters() if p.grad is not None})


class Pattern:
    """In place of a generator: the n-th draw of a shape is always the same."""

    def __init__(self):
        self.draws = 0

    def random(self, shape, dtype=np.float32):
        """Uniform numbers, the n-th of this pattern."""
        self.draws += 1
        return np.random.default_rng([self.draws, *shape]).random(shape, dtype=dtype)

    def their_dropout(self, x, p=0.5, training=True, inplace=False):
        """torch.nn.functional.dropout with this pattern: attention weights here lie (B, H, key,
        query).
        """
        if not training or p == 0:
            return x
        drawn = self.random(tuple(x.mT.shape if x.ndim == 4 else x.shape))
        drawn = drawn.swapaxes(-1, -2) if x.ndim == 4 else drawn
        return x * torch.tensor((drawn >= p) / (1 - p))
