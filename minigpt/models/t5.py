"""T5 (Raffel et al. 2019, arXiv:1910.10683): an encoder that reads one text and a decoder that
writes another, with positions that are distances.

Shapes: B batch, S tokens of the source, T of the target, C channels, H heads, D channels of a head,
F hidden channels of an MLP, V vocabulary.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from minigpt.checks import check_fields, flag, number, setting, whole
from minigpt.errors import MinigptError
from minigpt.layers import (
    MLP,
    Attention,
    CrossAttention,
    DecoderBlock,
    Embedding,
    GatedMLP,
    Linear,
    PreNormBlock,
    RelativeBias,
    RMSNorm,
    TiedHead,
    stack_backward,
    stack_forward,
)
from minigpt.layers.block import DecoderCache, PreNormCache
from minigpt.layers.recompute import RecomputedCache
from minigpt.layers.shared import Shared, SharedGradients
from minigpt.models.base import count_parameters
from minigpt.models.encoder_decoder import EncoderDecoderModel
from minigpt.models.fast_seq2seq import FastT5Decoder
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.embedding import EmbeddingCache
from minigpt.ops.normalization import RMSNormCache
from minigpt.ops.relative import RelativeBiasCache

FEED_FORWARD = {  # feed_forward_proj -> the MLP's class, its activation
    "relu": (MLP, "relu"),
    "gelu": (MLP, "gelu"),
    "silu": (MLP, "silu"),
    "gated-relu": (GatedMLP, "relu"),
    "gated-gelu": (GatedMLP, "gelu_tanh"),  # T5 v1.1: the tanh form, unlike plain gelu
    "gated-silu": (GatedMLP, "silu"),
}


@dataclass(frozen=True)
class T5Config:
    """The shape of a T5, in Hugging Face's words. MinigptError for a value out of its range."""

    vocab_size: int = setting("tokens that the model knows")
    d_model: int = setting("channels", 512)
    d_kv: int = setting("channels of an attention head", 64)
    d_ff: int = setting("channels inside of an MLP", 2048)
    num_layers: int = setting("blocks of the encoder", 6)
    num_decoder_layers: int | None = setting("blocks of the decoder, num_layers unless given", None)
    num_heads: int = setting("attention heads of a block", 8)
    relative_attention_num_buckets: int = setting("ranges of distances with a bias of their own, an even number", 32)
    relative_attention_max_distance: int = setting("the distance from which on all have one bias", 128)
    feed_forward_proj: str = setting(f"{', '.join(FEED_FORWARD)}; T5 v1.1 has gated-gelu", "relu")
    layer_norm_epsilon: float = setting("what is added to a mean of squares inside of the root", 1e-6)
    dropout: float = setting("on embeddings, attention weights, branches, inside of MLPs, on both outputs", 0.0)
    tie_embeddings: bool = setting("the head is the token table; otherwise a matrix of its own", True)
    scale_decoder_outputs: bool | None = setting(
        "the head reads the decoder's output divided by sqrt(d_model); as tie_embeddings unless given", None
    )
    pad_token_id: int = setting("the token that fills up short texts", 0)
    eos_token_id: int = setting("the token that ends a text", 1)
    decoder_start_token_id: int = setting("the token that the decoder begins with", 0)

    def __post_init__(self):
        sizes = ["vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"]
        sizes += ["relative_attention_num_buckets", "relative_attention_max_distance"]
        check_fields(
            self,
            sizes=[*sizes, *(["num_decoder_layers"] if self.num_decoder_layers is not None else [])],
            fractions=("dropout",),
            flags=("tie_embeddings",),
            choices={"feed_forward_proj": tuple(FEED_FORWARD)},
        )
        buckets, farthest = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets % 2 or buckets < 4:
            limit = "it must be even and at least 4: half of them are for either direction, half of those exact"
            raise MinigptError(f"relative_attention_num_buckets is {buckets}, {limit}")
        if farthest <= buckets // 2:
            limit = f"it must be more than half of relative_attention_num_buckets, {buckets // 2}: these are exact"
            raise MinigptError(f"relative_attention_max_distance is {farthest}, {limit}")
        if number("layer_norm_epsilon", self.layer_norm_epsilon, at_least=0) == 0:
            raise MinigptError("layer_norm_epsilon is 0, it must be more than 0: zeros have no root mean square")
        if self.scale_decoder_outputs is not None:
            flag("scale_decoder_outputs", self.scale_decoder_outputs)
        for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
            value = whole(name, getattr(self, name), at_least=0, at_most=self.vocab_size - 1)
            object.__setattr__(self, name, value)

    @property
    def decoder_layers(self):
        """Blocks of the decoder."""
        return self.num_layers if self.num_decoder_layers is None else self.num_decoder_layers

    @property
    def output_scale(self):
        """What the head's input is multiplied by."""
        scaled = self.tie_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs
        return self.d_model**-0.5 if scaled else 1.0

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns."""

        def wire(encoder, decoder):
            return T5.wire(replace(self, num_layers=encoder, num_decoder_layers=decoder))

        encoder, decoder = self.num_layers, self.decoder_layers
        both = count_parameters(lambda n: wire(n, 1), encoder) + count_parameters(lambda n: wire(1, n), decoder)
        return both - count_parameters(lambda n: wire(1, n), 1)  # all but the blocks counts once


class StackCache(NamedTuple):
    shared: Shared
    wte: EmbeddingCache
    drop: DropoutCache
    bias: RelativeBiasCache
    blocks: list[PreNormCache | DecoderCache | RecomputedCache | None]
    ln_f: RMSNormCache
    drop_f: DropoutCache


class T5(EncoderDecoderModel):
    """Two stacks of pre-norm blocks over one token table, each with one relative bias for all its
    blocks, without biases of matrices; norms divide by the root mean square, scores are not scaled.

    Weights are drawn from normal(0, s) with s by what a matrix sums over, so that scores and
    branches begin near one: C^-1/2 and, back from heads and MLP, (HD)^-1/2 and F^-1/2; queries
    (CD)^-1/2, in place of the scale; tokens and an untied head 1.
    """

    model_type, config_class = "t5", T5Config
    fast_decoder = FastT5Decoder

    @staticmethod
    def wire(config):
        """The layers, in store order."""
        c, C, D, H, F = config, config.d_model, config.d_kv, config.num_heads, config.d_ff
        mlp, activation = FEED_FORWARD[c.feed_forward_proj]
        from_channels, from_heads, of_query = C**-0.5, (H * D) ** -0.5, (C * D) ** -0.5
        heads = {"head_channels": D, "scale": 1.0, "bias": False, "dropout": c.dropout, "residual_std": from_heads}
        hidden = {"activation": activation, "dropout": c.dropout, "inner_dropout": c.dropout}
        hidden |= {"std": from_channels, "residual_std": F**-0.5} | ({"bias": False} if mlp is MLP else {})

        def norm(name):
            return RMSNorm(name, C, eps=c.layer_norm_epsilon)

        def block(name, causal):
            std = (of_query, from_channels, from_channels)
            return {
                "ln_1": norm(f"{name}.ln_1"),
                "attn": Attention(f"{name}.attn", C, H, causal=causal, std=std, **heads),
                "ln_2": norm(f"{name}.ln_2"),
                "mlp": mlp(f"{name}.mlp", C, F, **hidden),
            }

        def reading(name):
            cross = CrossAttention(f"{name}.cross", C, H, memory_channels=C, std=from_channels, q_std=of_query, **heads)
            return {"ln_cross": norm(f"{name}.ln_cross"), "cross": cross}

        def bias(name, bidirectional):
            sizes = {"buckets": c.relative_attention_num_buckets, "max_distance": c.relative_attention_max_distance}
            return RelativeBias(name, H, bidirectional=bidirectional, std=from_channels, **sizes)

        wte = Embedding("wte", c.vocab_size, C, std=1.0)
        untied = Linear("lm_head", C, c.vocab_size, bias=False, std=1.0, role="head")
        head = TiedHead("head", wte) if c.tie_embeddings else untied
        names = [f"decoder.h.{i}" for i in range(c.decoder_layers)]
        return {
            "wte": wte,
            "encoder_bias": bias("encoder.bias", bidirectional=True),
            "encoder": [PreNormBlock(**block(f"encoder.h.{i}", causal=False)) for i in range(c.num_layers)],
            "encoder_ln_f": norm("encoder.ln_f"),
            "decoder_bias": bias("decoder.bias", bidirectional=False),
            "decoder": [DecoderBlock(**block(name, causal=True), **reading(name)) for name in names],
            "decoder_ln_f": norm("decoder.ln_f"),
            "head": head,
        }

    def encode(self, ids, key_mask=None, rng=None, *, keep="activations"):
        """Read the source: ids (B, S), key_mask (B, S) bool -> memory (B, S, C), StackCache."""
        p, S = self.store, ids.shape[1]
        x, wte = self.wte.forward(p, ids)
        x, drop = dropout_forward(x, self.config.dropout, rng)
        bias, bias_cache = self.encoder_bias.forward(p, S, S)  # (1, H, S, S)
        shared = Shared(key_mask=key_mask, bias=bias)
        x, blocks = stack_forward(self.encoder, p, x, rng, shared=shared, keep=keep)
        x, ln_f = self.encoder_ln_f.forward(p, x)
        x, drop_f = dropout_forward(x, self.config.dropout, rng)
        return x, StackCache(shared, wte, drop, bias_cache, blocks, ln_f, drop_f)

    def encode_backward(self, g, dmemory, cache):
        """Add the gradients of encode into a store; dmemory (B, S, C)."""
        dshared = SharedGradients.zeros_like(cache.shared)
        dx = dropout_backward(dmemory, cache.drop_f)
        dx = self.encoder_ln_f.backward(g, dx, cache.ln_f)
        dx = stack_backward(self.encoder, g, dx, cache.blocks, dshared)
        self.encoder_bias.backward(g, dshared.bias, cache.bias)
        dx = dropout_backward(dx, cache.drop)
        self.wte.backward(g, dx, cache.wte)

    def decode(self, ids, memory, memory_mask=None, key_mask=None, rng=None, *, state=None, keep="activations"):
        """Everything of the target below the head: ids (B, T) -> h (B, T, C), StackCache."""
        if memory is None and (state is None or state.memory_kv[0].length == 0):
            raise MinigptError("memory is missing: a decoder reads what encode makes of the source")
        p, T = self.store, ids.shape[1]
        before, kv = (0, None) if state is None else (state.length, list(zip(state.kv, state.memory_kv)))
        x, wte = self.wte.forward(p, ids)
        x, drop = dropout_forward(x, self.config.dropout, rng)
        bias, bias_cache = self.decoder_bias.forward(p, T, before + T)  # (1, H, T, before + T)
        shared = Shared(key_mask=key_mask, bias=bias, memory=memory, memory_mask=memory_mask)
        x, blocks = stack_forward(self.decoder, p, x, rng, shared=shared, kv=kv, keep=keep)
        x, ln_f = self.decoder_ln_f.forward(p, x)
        x, drop_f = dropout_forward(x, self.config.dropout, rng)
        return x, StackCache(shared, wte, drop, bias_cache, blocks, ln_f, drop_f)

    def decode_backward(self, g, dh, cache):
        """Add the gradients of decode into a store; dh (B, T, C) -> dmemory (B, S, C), the sum over
        the blocks that read the memory.
        """
        dshared = SharedGradients.zeros_like(cache.shared)
        dx = dropout_backward(dh, cache.drop_f)
        dx = self.decoder_ln_f.backward(g, dx, cache.ln_f)
        dx = stack_backward(self.decoder, g, dx, cache.blocks, dshared)
        self.decoder_bias.backward(g, dshared.bias, cache.bias)
        dx = dropout_backward(dx, cache.drop)
        self.wte.backward(g, dx, cache.wte)
        return dshared.memory

    def head_forward(self, h):
        """Logits: h (..., C) -> (..., V), the head's cache, whose input is scaled already."""
        return self.head.forward(self.store, h * self.config.output_scale)

    def head_backward(self, g, dlogits, cache):
        """Add the head's gradients into a store; dlogits (..., V) -> dh (..., C)."""
        return self.head.backward(g, dlogits, cache) * self.config.output_scale

    def activation_memory(self, tokens, *, keep="activations"):
        """A lower bound of the bytes that a forward pass over so many tokens, of sources and
        targets together, keeps for backward: whichever of them takes less.

        A block keeps of a token at least what comes into it and into its norms and matrices: 2C a
        norm, 5HD of attention, 3HD of cross-attention and 2HD more of each token that it reads, F
        of the MLP, of a gated one 3F (13C in all with HD = C and F = 4C; measured without dropout
        at S = 400: 15.4C).
        """
        c, C, V = self.config, self.config.d_model, self.config.vocab_size
        F = c.d_ff * (3 if FEED_FORWARD[c.feed_forward_proj][0] is GatedMLP else 1)
        heads = c.num_heads * c.d_kv
        source, target = 4 * C + 5 * heads + F, 6 * C + 8 * heads + F  # of one block
        E, D = c.num_layers, c.decoder_layers
        if keep == "inputs":  # one block at a time is run again, of the stack that has half of the tokens or more
            numbers = min(E * C, D * C + 2 * V) + source / 2
        else:
            numbers = min(E * source + D * 2 * heads, D * target + 2 * V)
        return int(self.dtype.itemsize * tokens * numbers)
