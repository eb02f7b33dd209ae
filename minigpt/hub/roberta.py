"""RoBERTa's files: BERT's under other names, with a masked-LM head and a classification head of its
own.
"""

from minigpt.files import Values
from minigpt.hub.encoders import encoder_settings, encoder_values
from minigpt.hub.names import Row, Table
from minigpt.models.roberta import RoBERTa, RoBERTaConfig

MODEL = RoBERTa
EMBEDDINGS, LAYER = "roberta.embeddings", "roberta.encoder.layer.{}"
QKV = tuple(f"{LAYER}.attention.self.{part}" for part in ("query", "key", "value"))
TABLE = Table(
    rows=(
        Row("wte.weight", f"{EMBEDDINGS}.word_embeddings.weight"),
        Row("wpe.weight", f"{EMBEDDINGS}.position_embeddings.weight"),
        Row("token_types.weight", f"{EMBEDDINGS}.token_type_embeddings.weight"),
        Row("ln_0.weight", f"{EMBEDDINGS}.LayerNorm.weight"),
        Row("ln_0.bias", f"{EMBEDDINGS}.LayerNorm.bias"),
        Row("h.{}.attn.c_attn.weight", tuple(f"{part}.weight" for part in QKV), transposed=True),
        Row("h.{}.attn.c_attn.bias", tuple(f"{part}.bias" for part in QKV)),
        Row("h.{}.attn.c_proj.weight", f"{LAYER}.attention.output.dense.weight", transposed=True),
        Row("h.{}.attn.c_proj.bias", f"{LAYER}.attention.output.dense.bias"),
        Row("h.{}.ln_1.weight", f"{LAYER}.attention.output.LayerNorm.weight"),
        Row("h.{}.ln_1.bias", f"{LAYER}.attention.output.LayerNorm.bias"),
        Row("h.{}.mlp.c_fc.weight", f"{LAYER}.intermediate.dense.weight", transposed=True),
        Row("h.{}.mlp.c_fc.bias", f"{LAYER}.intermediate.dense.bias"),
        Row("h.{}.mlp.c_proj.weight", f"{LAYER}.output.dense.weight", transposed=True),
        Row("h.{}.mlp.c_proj.bias", f"{LAYER}.output.dense.bias"),
        Row("h.{}.ln_2.weight", f"{LAYER}.output.LayerNorm.weight"),
        Row("h.{}.ln_2.bias", f"{LAYER}.output.LayerNorm.bias"),
        # what stands on the encoder: a file of another head has not all of it
        Row("pooler.weight", "roberta.pooler.dense.weight", transposed=True, optional=True),
        Row("pooler.bias", "roberta.pooler.dense.bias", optional=True),
        Row("transform.weight", "lm_head.dense.weight", transposed=True, optional=True),
        Row("transform.bias", "lm_head.dense.bias", optional=True),
        Row("ln_t.weight", "lm_head.layer_norm.weight", optional=True),
        Row("ln_t.bias", "lm_head.layer_norm.bias", optional=True),
        Row("head.weight", "lm_head.decoder.weight", transposed=True, optional=True),
        Row("head.bias", "lm_head.bias", optional=True),
        Row("classifier.dense.weight", "classifier.dense.weight", transposed=True, optional=True),
        Row("classifier.dense.bias", "classifier.dense.bias", optional=True),
        Row("classifier.out.weight", "classifier.out_proj.weight", transposed=True, optional=True),
        Row("classifier.out.bias", "classifier.out_proj.bias", optional=True),
        Row("classifier.weight", "classifier.weight", transposed=True, optional=True),
        Row("classifier.bias", "classifier.bias", optional=True),
        Row("spans.weight", "qa_outputs.weight", transposed=True, optional=True),
        Row("spans.bias", "qa_outputs.bias", optional=True),
    ),
    prefix="roberta.",
    tied={"lm_head.decoder.weight": f"{EMBEDDINGS}.word_embeddings.weight"},
    twins={"lm_head.bias": "lm_head.decoder.bias"},
    ignored=rf"{EMBEDDINGS}\.(position_ids|token_type_ids)",  # buffers that old files carry along
)
HEADS, GENERATES = (
    {  # our name of a head -> their model with it
        "masked_lm": "RobertaForMaskedLM",
        "sequence_classification": "RobertaForSequenceClassification",
        "token_classification": "RobertaForTokenClassification",
        "question_answering": "RobertaForQuestionAnswering",
        None: "RobertaModel",
    },
    False,
)


def head_shown(names):
    """The head that a file's tensors show, by their names in a file of the whole model; None where
    they show none.
    """
    shown = {
        "lm_head.dense.weight": "masked_lm",
        "qa_outputs.weight": "question_answering",
        "classifier.out_proj.weight": "sequence_classification",
        "classifier.weight": "token_classification",
    }
    return next((head for name, head in shown.items() if name in names), None)


def read_config(values, tensors, say, *, head, num_labels):
    """The RoBERTaConfig of a RobertaConfig's Values; arguments and errors as for hub.bert.
    Positions are counted from pad_token_id, which can't be null.
    """
    settings = encoder_settings(values, tensors, say, head, num_labels)
    settings["pad_token_id"] = values.whole("pad_token_id", default=1)
    return Values(settings, values.where).config(RoBERTaConfig)


def written_as(config):
    """The config of what a file holds: it has all that our model has."""
    return config


def config_values(config):
    """The RobertaConfig of a RoBERTaConfig, as a dict."""
    return {"model_type": "roberta", "architectures": [HEADS[config.head]]} | encoder_values(config)
