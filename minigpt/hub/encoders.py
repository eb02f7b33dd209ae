"""What the files of encoders have in common: a BertConfig and a RobertaConfig have the same keys,
and each file one of several heads.
"""

from minigpt.checks import one_of, shortened, whole
from minigpt.errors import MinigptError
from minigpt.hub.names import Row
from minigpt.hub.settings import activation, activation_name, layers, one_dropout, tell_unread

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # ours is one: the first of them
FIXED = {"is_decoder": False, "add_cross_attention": False}  # what our encoders compute
CLASSIFIERS = ("sequence_classification", "token_classification")
NO_HEAD = "base"  # what stands for None where a head is asked for
READ = {  # keys that are read here
    *(*DROPOUTS, *FIXED, "classifier_dropout", "embedding_size", "hidden_act", "hidden_size", "intermediate_size"),
    *("layer_norm_eps", "max_position_embeddings", "num_attention_heads", "num_hidden_layers"),
    *("position_embedding_type", "pruned_heads", "tie_word_embeddings", "type_vocab_size", "vocab_size"),
}


def encoder_rows(name):
    """The Rows of what both families have, under the name that a file of the whole model gives the
    encoder: embeddings, blocks and the pooler, which not all heads have.
    """
    embeddings, layer = f"{name}.embeddings", f"{name}.encoder.layer.{{}}"
    qkv = tuple(f"{layer}.attention.self.{part}" for part in ("query", "key", "value"))
    return (
        Row("wte.weight", f"{embeddings}.word_embeddings.weight"),
        Row("wpe.weight", f"{embeddings}.position_embeddings.weight"),
        Row("token_types.weight", f"{embeddings}.token_type_embeddings.weight"),
        Row("ln_0.weight", f"{embeddings}.LayerNorm.weight"),
        Row("ln_0.bias", f"{embeddings}.LayerNorm.bias"),
        Row("h.{}.attn.c_attn.weight", tuple(f"{part}.weight" for part in qkv), transposed=True),
        Row("h.{}.attn.c_attn.bias", tuple(f"{part}.bias" for part in qkv)),
        Row("h.{}.attn.c_proj.weight", f"{layer}.attention.output.dense.weight", transposed=True),
        Row("h.{}.attn.c_proj.bias", f"{layer}.attention.output.dense.bias"),
        Row("h.{}.ln_1.weight", f"{layer}.attention.output.LayerNorm.weight"),
        Row("h.{}.ln_1.bias", f"{layer}.attention.output.LayerNorm.bias"),
        Row("h.{}.mlp.c_fc.weight", f"{layer}.intermediate.dense.weight", transposed=True),
        Row("h.{}.mlp.c_fc.bias", f"{layer}.intermediate.dense.bias"),
        Row("h.{}.mlp.c_proj.weight", f"{layer}.output.dense.weight", transposed=True),
        Row("h.{}.mlp.c_proj.bias", f"{layer}.output.dense.bias"),
        Row("h.{}.ln_2.weight", f"{layer}.output.LayerNorm.weight"),
        Row("h.{}.ln_2.bias", f"{layer}.output.LayerNorm.bias"),
        Row("pooler.weight", f"{name}.pooler.dense.weight", transposed=True, optional=True),
        Row("pooler.bias", f"{name}.pooler.dense.bias", optional=True),
    )


def check_choice(family, head, num_labels):
    """MinigptError for a head that a family has not, and for a number of labels that is none."""
    name = family.MODEL.__name__
    if not family.HEADS:
        if head is not None:
            raise MinigptError(f"head is {shortened(head)}, it must be None: {name} has no choice of heads")
        if num_labels is not None:
            raise MinigptError(f"num_labels is {shortened(num_labels)}, it must be None: {name} has no labels")
        return
    if head is not None:
        one_of("head", head, [NO_HEAD, *filter(None, family.HEADS)])
    if num_labels is not None:
        whole("num_labels", num_labels, at_least=2)


def choose_head(family, values, tensors, head, say):
    """Which head a file is read with: that which is asked for, else that which its config names,
    else what its tensors show.

    MinigptError where the config names another architecture and no head is asked for.
    """
    heads = {architecture: name for name, architecture in family.HEADS.items()}
    architectures = values.texts("architectures", default=None) or []
    named = [heads[architecture] for architecture in architectures if architecture in heads]
    if head is not None:
        if named and head in CLASSIFIERS and named[0] in CLASSIFIERS and named[0] != head:
            say(f"{values.where}: its classifier is for {named[0]}, it is read for {head}")
        return None if head == NO_HEAD else head
    if named:
        return named[0]
    if architectures:
        known = f"known are {', '.join(heads)}: name the head that it is to be read with"
        raise MinigptError(f"{values.where}: architectures is {shortened(architectures)}; {known}")
    every = family.TABLE.outside_layers()
    return family.head_shown({family.TABLE.known_as(name, every) for name in tensors})


def encoder_settings(values, tensors, say, head, num_labels=None):
    """The settings of our config by its fields, as far as both families read them alike;
    num_labels: as asked for.

    MinigptError for a setting that is missing, impossible, or not what our encoders compute.
    """
    hidden_size = values.whole("hidden_size", at_least=1)
    for key, computed in FIXED.items():
        values.one_of(key, [computed], default=computed)
    values.one_of("position_embedding_type", ["absolute"], default="absolute")
    values.one_of("embedding_size", [hidden_size], default=None)
    if "pruned_heads" in values and len(values.section("pruned_heads", default={})):
        raise MinigptError(f"{values.where}: pruned_heads is not empty, every layer here has all of its heads")
    tell_unread(values, READ, say)
    return {
        "vocab_size": values.whole("vocab_size"),
        "max_position_embeddings": values.whole("max_position_embeddings"),
        "hidden_size": hidden_size,
        "num_hidden_layers": layers(values, "num_hidden_layers", len(tensors)),
        "num_attention_heads": values.whole("num_attention_heads"),
        "intermediate_size": values.whole("intermediate_size", at_least=1),
        "type_vocab_size": values.whole("type_vocab_size", default=2),
        "layer_norm_eps": values.number("layer_norm_eps", at_least=0, default=1e-12),
        "activation": activation(values, "hidden_act", "gelu"),
        "dropout": encoder_dropout(values, head, say),
        "tie_embeddings": values.flag("tie_word_embeddings", default=True),
        "head": head,
        "num_labels": labels(values, head, say) if num_labels is None else num_labels,
    }


def encoder_dropout(values, head, say):
    """The one dropout of ours; classifier_dropout, where it is null, is hidden_dropout_prob in
    theirs too.
    """
    keys = list(DROPOUTS)
    if head in CLASSIFIERS and values.number("classifier_dropout", at_least=0, below=1, default=None) is not None:
        keys.append("classifier_dropout")
    return one_dropout(values, keys, 0.1, say)


def labels(values, head, say):
    """How many labels a classifier has: by num_labels, which wins in transformers too, else by
    id2label. MinigptError where a text's label is not one of several.
    """
    if head == "sequence_classification":
        values.one_of("problem_type", ["single_label_classification"], default=None)
    names = values.section("id2label", default=None)
    n = values.whole("num_labels", at_least=0, default=2 if names is None else len(names))
    if names is not None and n != len(names):
        say(f"{values.where}: num_labels is {n}, id2label has {len(names)}; the model has {n}")
    return n if head in CLASSIFIERS else max(n, 2)  # a model without labels has at least two as well


def encoder_values(config):
    """Their config of one of ours, as a dict, but for its name and architecture."""
    names = [f"LABEL_{i}" for i in range(config.num_labels)]
    named = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size or 4 * config.hidden_size,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_act": activation_name(config.activation),
        **dict.fromkeys(DROPOUTS, config.dropout),
        "classifier_dropout": None,
        "pad_token_id": config.pad_token_id,
        "bos_token_id": None,  # a tokenizer's, where one is written along
        "eos_token_id": None,
        "tie_word_embeddings": config.tie_embeddings,
        **FIXED,
        # two are theirs by default; and what answers questions has as many outputs as labels there
        **(named if len(names) != 2 and config.head != "question_answering" else {}),
    }
