"""T5's files: every matrix is a Linear, (out, in), q, k and v are three in either stack and in
cross-attention; the table of each stack's distances lies in its first block.
"""

from pathlib import Path

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Missing, Values, read_json
from minigpt.hub.files import GENERATION
from minigpt.hub.names import Row, Table
from minigpt.hub.reading import same
from minigpt.hub.settings import ACTIVATIONS, layers, tell_unread
from minigpt.layers import GatedMLP
from minigpt.models.t5 import FEED_FORWARD, T5, T5Config

MODEL = T5
HEAD, TOKENS = "lm_head.weight", "shared.weight"


def is_gated(config):
    """Whether a T5Config's MLPs are gated: v1.1's are."""
    return FEED_FORWARD[config.feed_forward_proj][0] is GatedMLP


def stack_rows(stack, mlp):
    """The Rows of what both stacks have; stack: "encoder" or "decoder"; mlp: which layer of a block
    is its MLP.
    """
    layer, ours = f"{stack}.block.{{}}.layer", f"{stack}.h.{{}}"
    attention, wide = f"{layer}.0.SelfAttention", f"{layer}.{mlp}.DenseReluDense"
    return (
        Row(f"{stack}.bias.weight", f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        Row(f"{ours}.ln_1.weight", f"{layer}.0.layer_norm.weight"),
        Row(f"{ours}.attn.c_attn.weight", tuple(f"{attention}.{x}.weight" for x in "qkv"), transposed=True),
        Row(f"{ours}.attn.c_proj.weight", f"{attention}.o.weight", transposed=True),
        Row(f"{ours}.ln_2.weight", f"{layer}.{mlp}.layer_norm.weight"),
        Row(f"{ours}.mlp.c_gate.weight", f"{wide}.wi_0.weight", transposed=True),
        Row(f"{ours}.mlp.c_fc.weight", f"{wide}.wi_1.weight", transposed=True, when=is_gated),
        Row(f"{ours}.mlp.c_fc.weight", f"{wide}.wi.weight", transposed=True, when=lambda config: not is_gated(config)),
        Row(f"{ours}.mlp.c_proj.weight", f"{wide}.wo.weight", transposed=True),
        Row(f"{stack}.ln_f.weight", f"{stack}.final_layer_norm.weight"),
    )


CROSS = "decoder.block.{}.layer.1.EncDecAttention"
TABLE = Table(
    rows=(
        Row("wte.weight", TOKENS),
        *stack_rows("encoder", 1),
        *stack_rows("decoder", 2),
        Row("decoder.h.{}.ln_cross.weight", "decoder.block.{}.layer.1.layer_norm.weight"),
        Row("decoder.h.{}.cross.q_attn.weight", f"{CROSS}.q.weight", transposed=True),
        Row("decoder.h.{}.cross.c_attn.weight", tuple(f"{CROSS}.{x}.weight" for x in "kv"), transposed=True),
        Row("decoder.h.{}.cross.c_proj.weight", f"{CROSS}.o.weight", transposed=True),
        Row("lm_head.weight", HEAD, transposed=True),
    ),
    prefix="",  # a bare T5Model's tensors have the same names
    tied={HEAD: TOKENS},
    copies={"encoder.embed_tokens.weight": TOKENS, "decoder.embed_tokens.weight": TOKENS},
    # a table for cross-attention, which adds no bias; the files of the first T5s have it
    ignored=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
)
HEADS = None
GENERATES = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
PROJECTIONS = {(mlp is GatedMLP, activation): name for name, (mlp, activation) in FEED_FORWARD.items()}
ARCHITECTURES = ("T5ForConditionalGeneration", "T5Model", "T5WithLMHeadModel", "MT5ForConditionalGeneration")
ARCHITECTURES += ("MT5Model",)
READ = {  # keys that are read here, and those of heads and initial values that our T5 has not
    *("classifier_dropout", "d_ff", "d_kv", "d_model", "dense_act_fn", "dropout_rate", "feed_forward_proj"),
    *("initializer_factor", "is_decoder", "is_gated_act", "layer_norm_epsilon", "n_positions", "num_decoder_layers"),
    *("num_heads", "num_layers", "relative_attention_max_distance", "relative_attention_num_buckets"),
    *("scale_decoder_outputs", "tie_word_embeddings", "vocab_size"),
}


def read_config(values, tensors, say):
    """The T5Config of a T5Config's Values, or of an MT5Config's, which differs in its head's scale
    alone; tensors: those of the files.

    MinigptError for a setting that is missing, impossible, or not what our T5 computes.
    """
    check_architecture(values)
    tell_unread(values, READ, say)
    num_layers = layers(values, "num_layers", len(tensors))
    num_decoder_layers = num_layers
    if values.whole("num_decoder_layers", default=None) is not None:
        num_decoder_layers = layers(values, "num_decoder_layers", len(tensors))
    tied, scaled = head(values, tensors, say)
    settings = {
        "vocab_size": values.whole("vocab_size"),
        "d_model": values.whole("d_model", at_least=1),
        "d_kv": values.whole("d_kv", at_least=1, default=64),
        "d_ff": values.whole("d_ff", at_least=1),
        "num_layers": num_layers,
        "num_decoder_layers": None if num_decoder_layers == num_layers else num_decoder_layers,
        "num_heads": values.whole("num_heads", at_least=1),
        "relative_attention_num_buckets": values.whole("relative_attention_num_buckets", default=32),
        "relative_attention_max_distance": values.whole("relative_attention_max_distance", default=128),
        "feed_forward_proj": feed_forward(values),
        "layer_norm_epsilon": values.number("layer_norm_epsilon", at_least=0, default=1e-6),
        "dropout": values.number("dropout_rate", at_least=0, below=1, default=0.1),
        "tie_embeddings": tied,
        "scale_decoder_outputs": None if scaled == tied else scaled,
    }
    return Values(settings | token_ids(values, say), values.where).config(T5Config)


def check_architecture(values):
    """MinigptError for a model of one stack, or with another head."""
    found = values.texts("architectures", default=None) or []
    if found and not set(found) & set(ARCHITECTURES):
        known = f"it must name {ARCHITECTURES[0]} or {ARCHITECTURES[1]}: our T5 has both stacks and writes text"
        raise MinigptError(f"{values.where}: architectures is {shortened(found)}, {known}")
    values.one_of("is_encoder_decoder", [True], default=True)


def head(values, tensors, say):
    """Whether the head is the token table, which the files decide, and whether what it reads is
    scaled, which the config does -> two bools.

    In transformers tie_word_embeddings is no setting but an old word for the scale: v1.1, which
    has a head of its own, says false.
    """
    word = values.flag("tie_word_embeddings", default=None) is not False
    scaled = values.flag("scale_decoder_outputs", default=word)
    if values.text("model_type") == "mt5":
        scaled = False
    table = next((tensors[name] for name in (TOKENS, *TABLE.copies) if name in tensors), None)
    tied = table is None or HEAD not in tensors or same(tensors[HEAD], table)
    if word and scaled and not tied:
        say(f"{tensors[HEAD]} differs from {TOKENS}, to which the config ties it: tie_embeddings is False")
    if tied and not word and HEAD not in tensors:
        say(f"{values.where}: tie_word_embeddings is false, the files have no {HEAD}: the head is the token table")
    return tied, scaled


def feed_forward(values):
    """Our name of the MLP. What old configs say of it in parts wins, as in transformers."""
    word = values.text("feed_forward_proj", default="gated-gelu" if values.text("model_type") == "mt5" else "relu")
    gate, _, activation = word.rpartition("-")
    activation = values.text("dense_act_fn", default="gelu_new" if word == "gated-gelu" else activation)
    gated = values.flag("is_gated_act", default=gate == "gated")
    found = PROJECTIONS.get((gated, ACTIVATIONS.get(activation)))
    if found is None or gate not in ("", "gated"):
        parts = f"feed_forward_proj is {shortened(word)} (dense_act_fn {shortened(activation)}, is_gated_act {gated})"
        raise MinigptError(f"{values.where}: {parts}, it must be one of {', '.join(FEED_FORWARD)}")
    return found


def token_ids(values, say):
    """The ids of special tokens. Where the decoder begins is in generation_config.json, if it is
    not in config.json; T5's begin with padding.
    """
    pad = values.whole("pad_token_id", default=None) or 0
    first = values.whole("decoder_start_token_id", default=None)
    if first is None:
        try:
            generation = read_json(Path(values.where).with_name(GENERATION))
            first = generation.whole("decoder_start_token_id", default=None)
        except Missing:
            pass
    return {
        "pad_token_id": pad,
        "eos_token_id": end_of_text(values, say),
        "decoder_start_token_id": pad if first is None else first,
    }


def end_of_text(values, say):
    """eos_token_id, of which transformers may have several, or none."""
    found = dict(values.items()).get("eos_token_id", 1)
    if found is None or isinstance(found, list):
        ends = values.numbers("eos_token_id", default=None) or [1]
        say(f"{values.where}: eos_token_id is {shortened(found)}, the model has {shortened(ends[0])}")
        return ends[0]
    return values.whole("eos_token_id", default=1)


def written_as(config):
    """The config of what a file holds: it has all that our model has."""
    return config


def config_values(config):
    """The T5Config of transformers, as a dict: tie_word_embeddings as the files of v1.0 and v1.1
    have it, with the scale told apart.
    """
    scaled = config.tie_embeddings if config.scale_decoder_outputs is None else config.scale_decoder_outputs
    return {
        "model_type": "t5",
        "architectures": [ARCHITECTURES[0]],
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_kv": config.d_kv,
        "d_ff": config.d_ff,
        "num_layers": config.num_layers,
        "num_decoder_layers": config.decoder_layers,
        "num_heads": config.num_heads,
        "relative_attention_num_buckets": config.relative_attention_num_buckets,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "feed_forward_proj": config.feed_forward_proj,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "dropout_rate": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": scaled,
        "is_encoder_decoder": True,
        "pad_token_id": config.pad_token_id,
        "eos_token_id": config.eos_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
    }
