"""RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT trained longer, on masks drawn anew each time,
without next sentences; fairseq's code, which transformers follows, numbers positions differently.

Shapes: B batch, T time, C channels, F hidden channels of an MLP, V vocabulary, L labels.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from minigpt.checks import setting
from minigpt.errors import MinigptError
from minigpt.layers import (
    MLP,
    Attention,
    Classifier,
    Embedding,
    FirstTokenClassifier,
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
from minigpt.models.bert import BERTConfig
from minigpt.models.encoder import EncoderModel, HeadsCache
from minigpt.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from minigpt.ops.embedding import EmbeddingCache
from minigpt.ops.normalization import LayerNormCache
from minigpt.ops.positions import PositionsCache


@dataclass(frozen=True)
class RoBERTaConfig(BERTConfig):
    """The shape of a RoBERTa, in Hugging Face's words. MinigptError for a value out of its
    range.
    """

    max_position_embeddings: int = setting("rows of the position table: pad_token_id + 1 more than a text has", 514)
    type_vocab_size: int = setting("kinds of token", 1)
    layer_norm_eps: float = setting("added to the variance in a LayerNorm", 1e-5)
    activation: str = setting("gelu, gelu_tanh, relu or silu, in the MLPs; the masked-LM head has gelu", "gelu")
    pad_token_id: int = setting("the token that fills up short texts", 1)
    head: str | None = setting(
        "masked_lm, sequence_classification, token_classification, question_answering or None", "masked_lm"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.head == "pretraining":
            raise MinigptError(
                "head is 'pretraining', a RoBERTa has no next-sentence head: it is pre-trained by masked_lm"
            )
        if self.block_size < 1:
            least = f"it must be at least pad_token_id + 2, which is {self.pad_token_id + 2}"
            raise MinigptError(f"max_position_embeddings is {self.max_position_embeddings}, {least}")

    @property
    def block_size(self):
        """The most tokens that the model sees at a time: the first one's position is
        pad_token_id + 1.
        """
        return self.max_position_embeddings - self.pad_token_id - 1

    @property
    def num_parameters(self):
        """How many numbers a model of this shape learns."""
        return count_parameters(lambda n: RoBERTa.wire(replace(self, num_hidden_layers=n)), self.num_hidden_layers)


def positions_of(ids, pad_token_id):
    """Positions (B, T) of tokens: pad_token_id + 1, + 2, ... of those that are not padding, which
    keeps pad_token_id.

    Whatever stands between the tokens, they are numbered one after another: padding at the left
    moves no text.
    """
    visible = ids != pad_token_id
    return pad_token_id + np.cumsum(visible, axis=1) * visible


class RoBERTaCache(NamedTuple):
    wte: EmbeddingCache
    token_types: EmbeddingCache
    wpe: PositionsCache
    ln_0: LayerNormCache
    drop: DropoutCache
    blocks: list[PostNormCache | RecomputedCache | None]
    heads: HeadsCache | None
    blank: np.ndarray | None  # (B,) bool: texts of padding alone, where there are some


class RoBERTa(EncoderModel):
    """BERT's wiring but for the positions, the masked-LM head's activation, which is always GELU,
    and a head of its own for the label of a text.

    Weights are drawn from normal(0, 0.02), all of them. Where transformers lets no gradient into
    the rows of the padding token and of its position, the gradients here are the true derivatives.
    """

    model_type, config_class = "roberta", RoBERTaConfig

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
        masked_lm = classifier = spans = None
        if c.head == "masked_lm":
            transform, ln = Linear("transform", C, C), LayerNorm("ln_t", C, eps=c.layer_norm_eps)
            tied = c.tie_embeddings
            decoder = TiedHead("head", wte, bias=True) if tied else Linear("head", C, c.vocab_size, role="head")
            masked_lm = MaskedLMHead("masked_lm", transform, ln, decoder)
        if c.head == "sequence_classification":
            classifier = FirstTokenClassifier("classifier", C, c.num_labels, dropout=c.dropout)
        if c.head == "token_classification":
            classifier = Classifier("classifier", C, c.num_labels, dropout=c.dropout)
        if c.head == "question_answering":
            spans = Linear("spans", C, 2, role="head")
        return {
            "wte": wte,
            "wpe": LearnedPositions("wpe", c.max_position_embeddings, C),
            "token_types": Embedding("token_types", c.type_vocab_size, C),
            "ln_0": LayerNorm("ln_0", C, eps=c.layer_norm_eps),
            "blocks": blocks,
            "pooler": Pooler("pooler", C) if c.head is None else None,
            "masked_lm": masked_lm,
            "next_sentence": None,
            "classifier": classifier,
            "spans": spans,
        }

    def hidden(self, ids, token_type_ids, rng=None, *, shared=NOTHING_SHARED, keep="activations"):
        """Everything below the heads: ids, token_type_ids (B, T) -> h (B, T, C), RoBERTaCache."""
        p = self.store
        x, wte = self.wte.forward(p, ids)
        types, token_types = self.token_types.forward(p, token_type_ids)
        x, wpe = self.wpe.forward(p, x + types, positions_of(ids, self.config.pad_token_id))
        x, ln_0 = self.ln_0.forward(p, x)
        x, drop = dropout_forward(x, self.config.dropout, rng)
        x, blocks = stack_forward(self.blocks, p, x, rng, shared=shared, keep=keep)
        return x, RoBERTaCache(wte, token_types, wpe, ln_0, drop, blocks, heads=None, blank=None)

    def hidden_backward(self, g, dh, cache):
        """Add the gradients of hidden into a store; dh (B, T, C)."""
        dx = stack_backward(self.blocks, g, dh, cache.blocks)
        dx = dropout_backward(dx, cache.drop)
        dx = self.ln_0.backward(g, dx, cache.ln_0)
        dx = self.wpe.backward(g, dx, cache.wpe)
        self.token_types.backward(g, dx, cache.token_types)
        self.wte.backward(g, dx, cache.wte)
