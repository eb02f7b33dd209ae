"""What a model of two stacks writes for a text, and what it looks at meanwhile.

Shapes: B texts, S tokens of a source, T of what is written, L layers of the decoder, H heads.
"""

from typing import NamedTuple

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError


def translate(model, tokenizer, texts, *, prefix="", max_new_tokens=100, rows=64, **options):
    """What the model writes for each text -> list of str, in the order of the texts.

    prefix: stands before each text and says what is to be done with it, where the model was trained
    so; rows: texts at a time, those of similar length together; options: of generate, greedy unless
    they say otherwise (num_beams, length_penalty, temperature ...), but for num_return_sequences,
    as each text has one translation. MinigptError for a model of one stack, texts that are one
    string, a text without a token, and what the tokenizer has no token for.
    """
    check_translates(model, tokenizer)
    rows = whole("rows", rows, at_least=1)
    if isinstance(texts, str):
        raise MinigptError(f"texts is {shortened(texts)}, it must be a list of strings")
    if (n := options.get("num_return_sequences", 1)) != 1:
        raise MinigptError(f"num_return_sequences is {shortened(n)}, it must be 1: a text has one translation")
    sources = [source_ids(tokenizer, prefix + text) for text in texts]
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    written = [""] * len(sources)
    options = {"temperature": 0.0} | options
    for first in range(0, len(order), rows):
        some = order[first : first + rows]
        ids, mask = padded([sources[i] for i in some], tokenizer.pad_id)
        for i, new in zip(some, model.generate(ids, max_new_tokens, attention_mask=mask, **options)):
            written[i] = text_of(tokenizer, new)
    return written


def check_translates(model, tokenizer):
    """MinigptError for a model that does not read one text and write another, or a tokenizer
    without the tokens that this takes.
    """
    if not hasattr(model, "decode"):
        raise MinigptError(f"the model is a {model.model_type}, translating needs one of two stacks, such as t5")
    for role, use in (("pad", "fills a row"), ("eos", "ends a text")):
        if getattr(tokenizer, f"{role}_id") is None:
            raise MinigptError(f"the tokenizer has no token that {use}, which translating needs")


def source_ids(tokenizer, text):
    """A text as the encoder reads it, its end behind it -> ids (S,). MinigptError for one without a
    token, or with characters that the tokenizer does not know.
    """
    ids, offsets = tokenizer.pieces(text)
    if not len(ids):
        raise MinigptError("the text is empty, there is nothing to translate")
    unknown = offsets[ids == tokenizer.unk_id] if tokenizer.unk_id is not None else []
    if len(unknown):
        start, end = unknown[0]
        raise MinigptError(f"the tokenizer has no token for {text[start:end]!r}, at position {start} of the text")
    return np.append(ids, tokenizer.eos_id)


def padded(rows, fill):
    """Rows of ids of unequal length as one array, padded on the right -> ids, mask (B, S)."""
    mask = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
    ids = np.full(mask.shape, fill)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def text_of(tokenizer, ids):
    """What a decoder wrote, up to its end, without the token that it began with and those of which
    the tokenizer knows nothing, since a model may have rows to spare -> str.
    """
    ids = ids[1:]
    ends = np.flatnonzero(ids == tokenizer.eos_id)
    ids = ids[: ends[0]] if len(ends) else ids
    return tokenizer.decode(ids[ids < tokenizer.vocab_size], skip_special=True)


class CrossAttention(NamedTuple):
    """What a decoder looked at in a source as it wrote each token of a target."""

    weights: np.ndarray  # (L, H, T, S)
    source: list  # S tokens, as text
    target: list  # T tokens that it said


def cross_attention(model, tokenizer, source, target):
    """Where each head of the decoder looks in a source as it says each token of a target, such as
    one that `translate` wrote -> CrossAttention. MinigptError as for translate.
    """
    check_translates(model, tokenizer)
    ids, says = source_ids(tokenizer, source), np.append(tokenizer.encode(target), tokenizer.eos_id)
    reads = np.append(model.config.decoder_start_token_id, says[:-1])
    _, cache = model.forward(ids[None], reads[None])
    weights = np.stack([block.cross.weights[0] for block in cache.decoder.blocks])
    names = [[tokenizer.id_to_token(i) for i in row.tolist()] for row in (ids, says)]
    return CrossAttention(weights, *names)
