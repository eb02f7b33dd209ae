"""RoBERTa's files: BERT's under other names, with a masked-LM head and a classification head of its
own.
"""

from minigpt.files import Values
from minigpt.hub.encoders import encoder_rows, encoder_settings, encoder_values
from minigpt.hub.names import Row, Table
from minigpt.models.roberta import RoBERTa, RoBERTaConfig

MODEL = RoBERTa
TABLE = Table(
    rows=(
        *encoder_rows("roberta"),
        # what stands on the encoder: a file of another head has not all of it
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
    tied={"lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight"},
    twins={"lm_head.bias": "lm_head.decoder.bias"},
    ignored=r"roberta\.embeddings\.(position_ids|token_type_ids)",  # buffers that old files carry along
)
HEADS = {  # our name of a head -> their model with it
    "masked_lm": "RobertaForMaskedLM",
    "sequence_classification": "RobertaForSequenceClassification",
    "token_classification": "RobertaForTokenClassification",
    "question_answering": "RobertaForQuestionAnswering",
    None: "RobertaModel",
}
GENERATES = ()  # no generation_config.json is written


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
