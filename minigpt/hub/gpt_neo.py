"""GPT-Neo's files: every matrix is a Linear, (out, in), and q, k and v are three."""

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.files import Values
from minigpt.hub.names import Row, Table
from minigpt.hub.settings import NO_TOKENS, activation, activation_name, layers, one_dropout, tell_unread
from minigpt.models.gpt_neo import GPTNeo, GPTNeoConfig

MODEL = GPTNeo
ATTENTION = "transformer.h.{}.attn.attention"
TABLE = Table(
    rows=(
        Row("wte.weight", "transformer.wte.weight"),
        Row("wpe.weight", "transformer.wpe.weight"),
        Row("h.{}.ln_1.weight", "transformer.h.{}.ln_1.weight"),
        Row("h.{}.ln_1.bias", "transformer.h.{}.ln_1.bias"),
        Row("h.{}.attn.c_attn.weight", tuple(f"{ATTENTION}.{x}_proj.weight" for x in "qkv"), transposed=True),
        Row("h.{}.attn.c_proj.weight", f"{ATTENTION}.out_proj.weight", transposed=True),
        Row("h.{}.attn.c_proj.bias", f"{ATTENTION}.out_proj.bias"),
        Row("h.{}.ln_2.weight", "transformer.h.{}.ln_2.weight"),
        Row("h.{}.ln_2.bias", "transformer.h.{}.ln_2.bias"),
        Row("h.{}.mlp.c_fc.weight", "transformer.h.{}.mlp.c_fc.weight", transposed=True),
        Row("h.{}.mlp.c_fc.bias", "transformer.h.{}.mlp.c_fc.bias"),
        Row("h.{}.mlp.c_proj.weight", "transformer.h.{}.mlp.c_proj.weight", transposed=True),
        Row("h.{}.mlp.c_proj.bias", "transformer.h.{}.mlp.c_proj.bias"),
        Row("ln_f.weight", "transformer.ln_f.weight"),
        Row("ln_f.bias", "transformer.ln_f.bias"),
        Row("lm_head.weight", "lm_head.weight", transposed=True),
    ),
    prefix="transformer.",
    tied={"lm_head.weight": "transformer.wte.weight"},
    ignored=r"transformer\.h\.\d+\.attn\.attention\.(bias|masked_bias)",  # masks that old files carry along
)
HEADS, GENERATES = None, ("bos_token_id", "eos_token_id")
DROPOUTS = ("resid_dropout", "embed_dropout", "attention_dropout")  # ours is one: the first of them
EPSILON = 1e-5  # of LayerNorm: what our GPTNeo computes
READ = {  # keys that are read here, and one of a head that our GPTNeo has not
    *(*DROPOUTS, "activation_function", "attention_layers", "attention_types", "classifier_dropout", "hidden_size"),
    *("intermediate_size", "layer_norm_epsilon", "max_position_embeddings", "num_heads", "num_layers"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"),
    *("tie_word_embeddings", "vocab_size", "window_size"),
}


def read_config(values, tensors, say):
    """The GPTNeoConfig of their Values; tensors: those of the files.

    MinigptError for a setting that is missing, impossible, or not what our GPTNeo computes.
    """
    values.one_of("layer_norm_epsilon", [EPSILON], default=EPSILON)
    tell_unread(values, READ, say)
    num_layers = layers(values, "num_layers", len(tensors))
    settings = {
        "vocab_size": values.whole("vocab_size"),
        "max_position_embeddings": values.whole("max_position_embeddings"),
        "hidden_size": values.whole("hidden_size"),
        "num_layers": num_layers,
        "num_heads": values.whole("num_heads"),
        "intermediate_size": values.whole("intermediate_size", at_least=1, default=None),
        "window_size": values.whole("window_size", default=256),
        "attention_layers": attention_layers(values, num_layers),
        "activation": activation(values, "activation_function", "gelu_new"),
        "dropout": one_dropout(values, DROPOUTS, 0.0, say),
        "tie_embeddings": values.flag("tie_word_embeddings", default=True),
    }
    return Values(settings, values.where).config(GPTNeoConfig)


def attention_layers(values, num_layers):
    """One word a layer: attention_layers, which wins in transformers too, else what attention_types
    says in runs, [[["global", "local"], 12]]: those two words 12 times.
    """
    if "attention_layers" in values:
        return values.texts("attention_layers")
    found = []
    for i, run in enumerate(values.list("attention_types", default=[[["global", "local"], 12]])):
        name = f"{values.where}: attention_types[{i}]"
        if not (isinstance(run, list) and len(run) == 2 and isinstance(run[0], list) and run[0]):
            raise MinigptError(f"{name} is {shortened(run)}, it must be a list of words and how many times they come")
        found += run[0] * whole(f"{name}[1]", run[1], at_least=1, at_most=num_layers)
        if len(found) > num_layers:
            raise MinigptError(f"{name} ends after {len(found)} layers, num_layers is {num_layers}")
    return found


def written_as(config):
    """The config of what a file holds: it has all that our model has."""
    return config


def config_values(config):
    """The GPTNeoConfig of transformers, as a dict."""
    kinds = ["local" if config.window(i) else "global" for i in range(config.num_layers)]
    return {
        "model_type": "gpt_neo",
        "architectures": ["GPTNeoForCausalLM"],
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "window_size": config.window_size,
        "attention_layers": kinds,
        "attention_types": [[kinds, 1]],
        "activation_function": activation_name(config.activation),
        **dict.fromkeys(DROPOUTS, config.dropout),
        "layer_norm_epsilon": EPSILON,
        "tie_word_embeddings": config.tie_embeddings,
        **NO_TOKENS,
    }
