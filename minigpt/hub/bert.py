"""BERT's files: every matrix is a Linear, (out, in); query, key and value are three. The bias of
the masked-LM head has two names.
"""

from minigpt.files import Values
from minigpt.hub.encoders import encoder_rows, encoder_settings, encoder_values
from minigpt.hub.names import Row, Table
from minigpt.models.bert import BERT, BERTConfig

MODEL = BERT
LM, LM_TRANSFORM = "cls.predictions", "cls.predictions.transform"
TABLE = Table(
    rows=(
        *encoder_rows("bert"),
        # what stands on the encoder: a file of another head has not all of it
        Row("transform.weight", f"{LM_TRANSFORM}.dense.weight", transposed=True, optional=True),
        Row("transform.bias", f"{LM_TRANSFORM}.dense.bias", optional=True),
        Row("ln_t.weight", f"{LM_TRANSFORM}.LayerNorm.weight", optional=True),
        Row("ln_t.bias", f"{LM_TRANSFORM}.LayerNorm.bias", optional=True),
        Row("head.weight", f"{LM}.decoder.weight", transposed=True, optional=True),
        Row("head.bias", f"{LM}.bias", optional=True),
        Row("next_sentence.weight", "cls.seq_relationship.weight", transposed=True, optional=True),
        Row("next_sentence.bias", "cls.seq_relationship.bias", optional=True),
        Row("classifier.weight", "classifier.weight", transposed=True, optional=True),
        Row("classifier.bias", "classifier.bias", optional=True),
        Row("spans.weight", "qa_outputs.weight", transposed=True, optional=True),
        Row("spans.bias", "qa_outputs.bias", optional=True),
    ),
    prefix="bert.",
    tied={f"{LM}.decoder.weight": "bert.embeddings.word_embeddings.weight"},
    twins={f"{LM}.bias": f"{LM}.decoder.bias"},
    ignored=r"bert\.embeddings\.(position_ids|token_type_ids)",  # buffers that old files carry along
)
HEADS = {  # our name of a head -> their model with it
    "pretraining": "BertForPreTraining",
    "masked_lm": "BertForMaskedLM",
    "sequence_classification": "BertForSequenceClassification",
    "token_classification": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    None: "BertModel",
}
GENERATES = ()  # no generation_config.json is written


def head_shown(names):
    """The head that a file's tensors show, by their names in a file of the whole model; None where
    they show none.

    A classifier of texts stands on the pooler, one of tokens does not.
    """
    if "cls.seq_relationship.weight" in names:
        return "pretraining"
    if f"{LM_TRANSFORM}.dense.weight" in names:
        return "masked_lm"
    if "qa_outputs.weight" in names:
        return "question_answering"
    if "classifier.weight" in names:
        return "sequence_classification" if "bert.pooler.dense.weight" in names else "token_classification"
    return None


def read_config(values, tensors, say, *, head, num_labels):
    """The BERTConfig of a BertConfig's Values; tensors: those of the files; head: our name of it;
    num_labels: None for that of the config.

    MinigptError for a setting that is missing, impossible, or not what our BERT computes.
    """
    settings = encoder_settings(values, tensors, say, head, num_labels)
    settings["pad_token_id"] = values.whole("pad_token_id", default=None) or 0  # null: nothing is computed with it
    return Values(settings, values.where).config(BERTConfig)


def written_as(config):
    """The config of what a file holds: it has all that our model has."""
    return config


def config_values(config):
    """The BertConfig of a BERTConfig, as a dict."""
    return {"model_type": "bert", "architectures": [HEADS[config.head]]} | encoder_values(config)
