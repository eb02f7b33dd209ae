"""What an encoder puts in place of the mask tokens in a text."""

from typing import NamedTuple

import numpy as np

from minigpt.checks import whole
from minigpt.errors import MinigptError
from minigpt.models.encoder import EncoderModel
from minigpt.models.span_filling import ANY_SENTINEL, MARK


class Filling(NamedTuple):
    """The likeliest tokens in place of one mask token, in falling order."""

    place: int  # of the mask among the text's tokens
    ids: np.ndarray  # (K,)
    probabilities: np.ndarray  # (K,)


def fill(model, tokenizer, text, top=5):
    """The likeliest tokens in place of each mask token of a text, [MASK] or <mask>, each mask by
    itself -> list of Filling, the ids of the text with the likeliest token in each.

    MinigptError for a model without a masked-LM head, a text without a mask, and one that is longer
    than the model's positions.
    """
    check_fills(model, tokenizer)
    top = min(whole("top", top, at_least=1), tokenizer.vocab_size)
    ids = tokenizer.encode(text, special=True)
    places = np.flatnonzero(ids == tokenizer.mask_id)
    if not len(places):
        if gap := ANY_SENTINEL.search(text) or MARK.search(text):
            mask = tokenizer.id_to_token(tokenizer.mask_id)
            raise MinigptError(f"the text has {gap.group()}, which is for a T5; a mask is {mask} here")
        raise MinigptError(f"the text has no {tokenizer.id_to_token(tokenizer.mask_id)}, there is nothing to fill")
    if len(ids) > model.config.block_size:
        around = tokenizer.template.special_count(False)
        raise MinigptError(
            f"the text has {len(ids) - around} tokens, the model sees at most {model.config.block_size - around}"
        )
    logits = model.forward(ids[None], keep="nothing")[0].masked_lm[0, places]  # (M, V)
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = odds / odds.sum(axis=-1, keepdims=True)
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]  # (M, K)
    ids = ids.copy()
    ids[places] = best[:, 0]
    found = zip(places.tolist(), best, np.take_along_axis(probabilities, best, axis=-1))
    return [Filling(*filling) for filling in found], ids


def check_fills(model, tokenizer):
    """MinigptError for a model without a masked-LM head, or a tokenizer without a mask token."""
    if not isinstance(model, EncoderModel):
        raise MinigptError(f"the model is a {model.model_type}, a decoder: filling needs a masked-LM head")
    if model.masked_lm is None:
        raise MinigptError(f"the model's head is {model.config.head}, filling needs a masked-LM head")
    if tokenizer.mask_id is None:
        raise MinigptError("the tokenizer has no mask token, which filling needs")
