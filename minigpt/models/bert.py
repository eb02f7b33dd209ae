"""BERT (Devlin et al. 2018, arXiv:1810.04805): an encoder, trained to fill in the tokens that masks
hide and to tell whether one sentence follows another.

Shapes: B batch, T time, C channels, F hidden channels of an MLP, V vocabulary, L labels.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from minigpt.checks import check_fields, number, setting, whole
from minigpt.errors import MinigptError
from minigpt.layers import (
    MLP,
    Attention,
    Classifier,
    Embedding,
    LayerNorm,
    LearnedPositions,
    Linear,
    MaskedLMHead,
    Pooler,
    PostNormBlock,
    TiedHead,
    stack_backward,
    stack_forward,
)
from minigpt.layers.block import PostNormCache
from minigpt.layers.recompute import RecomputedCache
from minigpt.layers.shared import NOTHING_SHARED
from minigpt.models.base import count_parameters
from minigpt.models.encoder import HEADS, EncoderModel, HeadsCache
from minigpt.ops.activations import ACTIVATIONS
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.embedding import EmbeddingCache
from minigpt.ops.normalization import LayerNormCache
from minigpt.ops.positions import PositionsCache


@dataclass(frozen=True)
class BERTConfig:
    """The shape of a BERT, in Hugging Face's words. MinigptError for a value out of its range."""

    vocab_size: int = setting("tokens that the model knows")
    max_position_embeddings: int = setting("tokens that it can see at a time", 512)
    hidden_size: int = setting("channels, a multiple of num_attention_heads", 768)
    num_hidden_layers: int = setting("blocks", 12)
    num_attention_heads: int = setting("attention heads of a block", 12)
    intermediate_size: int | None = setting("channels inside of an MLP, 4 hidden_size unless given", None)
    type_vocab_size: int = setting("kinds of token: first and second sentence", 2)
    layer_norm_eps: float = setting("added to the variance in a LayerNorm", 1e-12)
    activation: str = setting("gelu, gelu_tanh, relu or silu, in the MLPs and the masked-LM head", "gelu")
    dropout: float = setting("on embeddings, attention weights, residual branches and what is classified", 0.0)
    pad_token_id: int = setting("the token that fills up short texts", 0)
    tie_embeddings: bool = setting("the masked-LM head is the token table; otherwise a matrix of its own", True)
    head: str | None = setting(
        "pretraining, masked_lm, sequence_classification, token_classification, question_answering or None",
        "pretraining",
    )
    num_labels: int = setting("labels of a classification", 2)

    def __post_init__(self):
        sizes = ["vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "num_attention_heads"]
        check_fields(
            self,
            sizes=[*sizes, "type_vocab_size", *(["intermediate_size"] if self.intermediate_size is not None else [])],
            fractions=("dropout",),
            flags=("tie_embeddings",),
            choices={"activation": tuple(ACTIVATIONS), "head": tuple(HEADS)},
        )
        if self.hidden_size % self.num_attention_heads:
            limit = f"it must be a multiple of num_attention_heads, which is {self.num_attention_heads}"
            raise MinigptError(f"hidden_size is {self.hidden_size}, {limit}")
        if number("layer_norm_eps", self.layer_norm_eps, at_least=0) == 0:
            raise MinigptError("layer_norm_eps is 0, it must be more than 0: equal channels have no variance")
        whole("pad_token_id", self.pad_token_id, at_least=0, at_most=self.vocab_size - 1)
        if self.num_labels == 1:
            raise MinigptError("num_labels is 1, it must be at least 2: regression, as in transformers, is not here")
        object.__setattr__(self, "num_labels", whole("num_labels", self.num_labels, at_least=2))

    @property
    def block_size(self):
        """The most tokens that the model sees at a time, as all models here call it."""
        return self.max_position_embeddings

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns."""
        return count_parameters(lambda n: BERT.wire(replace(self, num_hidden_layers=n)), self.num_hidden_layers)


class BERTCache(NamedTuple):
    wte: EmbeddingCache
    token_types: EmbeddingCache
    wpe: PositionsCache
    ln_0: LayerNormCache
    drop: DropoutCache
    blocks: list[PostNormCache | RecomputedCache | None]
    heads: HeadsCache | None
    blank: np.ndarray | None  # (B,) bool: texts of padding alone, where there are some


class BERT(EncoderModel):
    """Tokens, positions and token types added and normalised, post-norm blocks without a causal
    mask, and the head that the config names.

    Weights are drawn from normal(0, 0.02), all of them. Where transformers lets no gradient into
    the row of the padding token, where it stands in a text, the gradients here are the true
    derivatives.
    """

    model_type, config_class = "bert", BERTConfig

    @staticmethod
    def wire(config):
        """The layers, in store order; None for a head that the config does not ask for."""
        c, C, hidden = config, config.hidden_size, config.intermediate_size or 4 * config.hidden_size
        wte = Embedding("wte", c.vocab_size, C)
        blocks = [
            PostNormBlock(
                attn=Attention(f"h.{i}.attn", C, c.num_attention_heads, dropout=c.dropout),
                ln_1=LayerNorm(f"h.{i}.ln_1", C, eps=c.layer_norm_eps),
                mlp=MLP(f"h.{i}.mlp", C, hidden, activation=c.activation, dropout=c.dropout),
                ln_2=LayerNorm(f"h.{i}.ln_2", C, eps=c.layer_norm_eps),
            )
            for i in range(c.num_hidden_layers)
        ]
        pooler = masked_lm = next_sentence = classifier = spans = None
        if c.head in ("pretraining", "sequence_classification", None):
            pooler = Pooler("pooler", C)
        if c.head in ("pretraining", "masked_lm"):
            transform, ln = Linear("transform", C, C), LayerNorm("ln_t", C, eps=c.layer_norm_eps)
            tied = c.tie_embeddings
            decoder = TiedHead("head", wte, bias=True) if tied else Linear("head", C, c.vocab_size, role="head")
            masked_lm = MaskedLMHead("masked_lm", transform, ln, decoder, activation=c.activation)
        if c.head == "pretraining":
            next_sentence = Linear("next_sentence", C, 2, role="head")
        if c.head in ("sequence_classification", "token_classification"):
            classifier = Classifier("classifier", C, c.num_labels, dropout=c.dropout)
        if c.head == "question_answering":
            spans = Linear("spans", C, 2, role="head")
        return {
            "wte": wte,
            "wpe": LearnedPositions("wpe", c.max_position_embeddings, C),
            "token_types": Embedding("token_types", c.type_vocab_size, C),
            "ln_0": LayerNorm("ln_0", C, eps=c.layer_norm_eps),
            "blocks": blocks,
            "pooler": pooler,
            "masked_lm": masked_lm,
            "next_sentence": next_sentence,
            "classifier": classifier,
            "spans": spans,
        }

    def hidden(self, ids, token_type_ids, rng=None, *, shared=NOTHING_SHARED, keep="activations"):
        """Everything below the heads: ids, token_type_ids (B, T) -> h (B, T, C), BERTCache."""
        p = self.store
        x, wte = self.wte.forward(p, ids)
        types, token_types = self.token_types.forward(p, token_type_ids)
        x, wpe = self.wpe.forward(p, x + types)
        x, ln_0 = self.ln_0.forward(p, x)
        x, drop = dropout_forward(x, self.config.dropout, rng)
        x, blocks = stack_forward(self.blocks, p, x, rng, shared=shared, keep=keep)
        return x, BERTCache(wte, token_types, wpe, ln_0, drop, blocks, heads=None, blank=None)

    def hidden_backward(self, g, dh, cache):
        """Add the gradients of hidden into a store; dh (B, T, C)."""
        dx = stack_backward(self.blocks, g, dh, cache.blocks)
        dx = dropout_backward(dx, cache.drop)
        dx = self.ln_0.backward(g, dx, cache.ln_0)
        dx = self.wpe.backward(g, dx, cache.wpe)
        self.token_types.backward(g, dx, cache.token_types)
        self.wte.backward(g, dx, cache.wte)
