"""GPT-2's files: names and layout are ours, but for a prefix and for the head, a Linear, which is
(out, in).
"""

from dataclasses import fields

from minigpt.errors import MinigptError
from minigpt.files import Values
from minigpt.hub.names import Row, Table
from minigpt.hub.settings import NO_TOKENS, activation, activation_name, layers, one_dropout, tell_unread
from minigpt.models.gpt import GPT, GPTConfig

MODEL = GPT
TABLE = Table(
    rows=(
        Row("wte.weight", "transformer.wte.weight"),
        Row("wpe.weight", "transformer.wpe.weight"),
        Row("h.{}.ln_1.weight", "transformer.h.{}.ln_1.weight"),
        Row("h.{}.ln_1.bias", "transformer.h.{}.ln_1.bias"),
        Row("h.{}.attn.c_attn.weight", "transformer.h.{}.attn.c_attn.weight"),
        Row("h.{}.attn.c_attn.bias", "transformer.h.{}.attn.c_attn.bias"),
        Row("h.{}.attn.c_proj.weight", "transformer.h.{}.attn.c_proj.weight"),
        Row("h.{}.attn.c_proj.bias", "transformer.h.{}.attn.c_proj.bias"),
        Row("h.{}.ln_2.weight", "transformer.h.{}.ln_2.weight"),
        Row("h.{}.ln_2.bias", "transformer.h.{}.ln_2.bias"),
        Row("h.{}.mlp.c_fc.weight", "transformer.h.{}.mlp.c_fc.weight"),
        Row("h.{}.mlp.c_fc.bias", "transformer.h.{}.mlp.c_fc.bias"),
        Row("h.{}.mlp.c_proj.weight", "transformer.h.{}.mlp.c_proj.weight"),
        Row("h.{}.mlp.c_proj.bias", "transformer.h.{}.mlp.c_proj.bias"),
        Row("ln_f.weight", "transformer.ln_f.weight"),
        Row("ln_f.bias", "transformer.ln_f.bias"),
        Row("lm_head.weight", "lm_head.weight", transposed=True),
    ),
    prefix="transformer.",
    tied={"lm_head.weight": "transformer.wte.weight"},
    ignored=r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",  # causal masks that old files carry along
)
HEADS, GENERATES = None, ("bos_token_id", "eos_token_id")
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")  # ours is one: the first of them
FIXED = {  # of a GPT2Config: what our GPT computes
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
READ = {  # keys that are read here, and those of heads and of a precision that our GPT has not
    *(*DROPOUTS, *FIXED, "activation_function", "n_ctx", "n_embd", "n_head", "n_inner", "n_layer", "n_positions"),
    *("reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
    *("summary_type", "summary_use_proj", "tie_word_embeddings", "vocab_size"),
}


def read_config(values, tensors, say):
    """The GPTConfig of a GPT2Config's Values; tensors: those of the files.

    MinigptError for a setting that is missing, impossible, or not what our GPT computes.
    """
    for key, computed in FIXED.items():
        values.one_of(key, [computed], default=computed)
    tell_unread(values, READ, say)
    n_embd = values.whole("n_embd", at_least=1)
    values.one_of("n_inner", [4 * n_embd], default=None)
    settings = {
        "vocab_size": values.whole("vocab_size"),
        "block_size": values.whole("n_positions"),
        "n_layer": layers(values, "n_layer", len(tensors)),
        "n_head": values.whole("n_head"),
        "n_embd": n_embd,
        "dropout": one_dropout(values, DROPOUTS, 0.1, say),
        "tie_embeddings": values.flag("tie_word_embeddings", default=True),
        "activation": activation(values, "activation_function", "gelu_new"),
    }
    return Values(settings, values.where).config(GPTConfig)


def written_as(config):
    """The GPTConfig of what a file holds: a GPT2LMHeadModel has all biases, so that those which our
    model lacks are written as zeros. MinigptError for what a RecipeGPT has and it has not.
    """
    for field, has in (("positions", "learned"), ("qk_norm", False), ("smear", False)):
        value = getattr(config, field, has)
        if value != has:
            raise MinigptError(f"{field} is {value!r}, it must be {has!r}: transformers' GPT-2 has no other")
    return GPTConfig(**{field.name: getattr(config, field.name) for field in fields(GPTConfig)} | {"bias": True})


def config_values(config):
    """The GPT2Config of a GPTConfig, as a dict."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "activation_function": activation_name(config.activation),
        **dict.fromkeys(DROPOUTS, config.dropout),
        "tie_word_embeddings": config.tie_embeddings,
        **NO_TOKENS,
        **FIXED,
    }
