"""Settings that the configs of several families have in common, as Values give them."""

from minigpt.checks import listed, shortened
from minigpt.errors import MinigptError

ACTIVATIONS = {  # theirs -> ours; of several with one meaning, the first is written
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}  # left out, a decoder takes 50256, whatever the vocabulary

WITHOUT_EFFECT = {  # keys of any config that change nothing of what is computed here
    *(
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "architectures",
        "attn_implementation",
    ),
    *("chunk_size_feed_forward", "directionality", "dtype", "finetuning_task", "gradient_checkpointing", "id2label"),
    *("initializer_range", "is_encoder_decoder", "label2id", "language", "max_length", "model_type", "name"),
    *("num_labels", "output_attentions", "output_hidden_states", "output_past", "pooler_fc_size"),
    *("pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "problem_type"),
    *("quantization_config", "return_dict", "task_specific_params", "tokenizer_class", "torch_dtype", "torchscript"),
    *("transformers_version", "use_cache"),
}


def activation(values, key, default):
    """Our name of an activation function."""
    return ACTIVATIONS[values.one_of(key, ACTIVATIONS, default=default)]


def activation_name(ours):
    """Their name of one of our activation functions."""
    return next(theirs for theirs, mine in ACTIVATIONS.items() if mine == ours)


def layers(values, key, tensors):
    """A number of layers. MinigptError where the files hold fewer tensors: before a billion layers
    are wired to learn their names.
    """
    n = values.whole(key, at_least=1)
    if n > tensors:
        raise MinigptError(f"{values.where}: {key} is {n}, the files hold {tensors} tensors only")
    return n


def one_dropout(values, keys, default, say):
    """The dropout of the first of several keys; where others differ from it, `say` is told."""
    found = {key: values.number(key, at_least=0, below=1, default=default) for key in keys}
    first, *others = found.values()
    if set(others) != {first}:
        given = ", ".join(f"{key} {value}" for key, value in found.items())
        say(f"{values.where}: {given}; the model has one dropout, {first}")
    return first


def tell_unread(values, read, say):
    """Tell `say` of keys that are neither read nor known to change nothing that is computed.
    MinigptError for weights that are quantized.
    """
    if values.section("quantization_config", default=None) is not None:
        raise MinigptError(f"{values.where}: quantization_config is there, quantized weights can't be read")
    unread = [key for key in values if key not in read and key not in WITHOUT_EFFECT and not key.endswith("_token_id")]
    if unread:
        say(f"{values.where}: nothing is made of {listed(map(shortened, unread))}")
