"""What a model of two stacks puts into the gaps of a text.

Shapes: S tokens of the source, T of the target, V vocabulary, K candidates.
"""

import re
from typing import NamedTuple

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError

MARK = re.compile(r"_{3,}")  # a gap, in a text without sentinels
MASKS = ("[MASK]", "<mask>")  # of other families
ANY_SENTINEL = re.compile(r"<extra_id_\d+>")
ROOM = 12  # tokens that a gap may get
MOST = 100  # ways that can be asked for
BEAMS = 4  # for each way that is asked for: several read the same


class SpanFilling(NamedTuple):
    """One way to fill the gaps of a text."""

    ids: np.ndarray  # (N,) of the text without its gaps
    spans: list  # of ids, one a gap, in the text's order
    probability: float  # of all that the model wrote for it: sentinels, spans and </s>


def fill_spans(model, tokenizer, text, top=1, *, room=ROOM):
    """The `top` likeliest ways to fill the gaps of a text, <extra_id_0> or ___, among those that
    beam search finds; 1 is greedy -> list of SpanFilling, the likeliest first, at least one.

    Ways that read the same, of other tokens, are one, and their probabilities add up. Where the
    text has a space before a gap, or begins with it, ways that begin a word there are preferred,
    and before that those that leave no gap empty: others are given only where there is none. room:
    tokens that a gap may get in the mean. MinigptError for a model or tokenizer that fills no gaps,
    and a text without one, with more than the tokenizer has sentinels, or with one twice.
    """
    check_fills_spans(model, tokenizer)
    top, room = whole("top", top, at_least=1, at_most=MOST), whole("room", room, at_least=1)
    ids = with_gaps(tokenizer, text)
    most = int(np.isin(ids, tokenizer.sentinel_ids).sum()) * (room + 1) + 1
    count = BEAMS * top
    beams = {"num_beams": count, "num_return_sequences": count, "length_penalty": 0.0} if top > 1 else {}
    written = model.generate(ids[None], most, temperature=0, **beams)
    ways = (joined(ids, row, tokenizer) for row in written)
    found = [SpanFilling(*way, float(p)) for way, p in zip(ways, probabilities(model, ids, written))]
    goes_on, wanted = set(np.flatnonzero(tokenizer.continues).tolist()), word_gaps(text)
    ways = alike_joined(tokenizer, found)
    ranks = [(not all(words), not begins_words(filling, wanted, goes_on)) for words, filling in ways]
    return [filling for rank, (_, filling) in zip(ranks, ways) if rank == min(ranks)][:top]


def word_gaps(text):
    """Whether white space, or nothing, stands before each gap of a text -> list of bool."""
    gap = ANY_SENTINEL if ANY_SENTINEL.search(text) else MARK
    return [not text[: match.start()] or text[match.start() - 1].isspace() for match in gap.finditer(text)]


def begins_words(filling, wanted, goes_on):
    """Whether a filling has, in each gap where that is wanted, no token first that goes on with a
    word; goes_on: ids of those that do.
    """
    return not any(want and span and span[0] in goes_on for span, want in zip(filling.spans, wanted))


def alike_joined(tokenizer, fillings):
    """Fillings of which no two read the same and begin alike, the likeliest first -> list of
    (words of each gap, SpanFilling).
    """
    alike, goes_on = {}, tokenizer.continues
    for filling in sorted(fillings, key=lambda filling: -filling.probability):
        spans = [[i for i in span if i < tokenizer.vocab_size] for span in filling.spans]
        words = tuple(tokenizer.decode(span).strip() for span in spans)
        alike.setdefault((words, tuple(bool(span and goes_on[span[0]]) for span in spans)), []).append(filling)
    found = [(words, ways[0]._replace(probability=sum(way.probability for way in ways)))
             for (words, _), ways in alike.items()]  # fmt: skip
    return sorted(found, key=lambda way: -way[1].probability)


def check_fills_spans(model, tokenizer):
    """MinigptError for a model that does not write, or a tokenizer without sentinels."""
    if not hasattr(model, "encode"):
        raise MinigptError(f"the model is a {model.model_type}: filling gaps needs a model of two stacks, such as a T5")
    if not len(tokenizer.sentinel_ids):
        raise MinigptError("the tokenizer has no sentinels (<extra_id_0>), which filling gaps needs")


def with_gaps(tokenizer, text):
    """A text with gaps -> ids (S,), a sentinel at each gap and </s> at the end; what stands between
    is encoded by itself, without the spaces beside a gap. MinigptError as for fill_spans.
    """
    gaps = gaps_of(tokenizer, text)
    parts = (ANY_SENTINEL if ANY_SENTINEL.search(text) else MARK).split(text)
    pieces = [tokenizer.encode(part.strip()) for part in parts]
    ends = [*gaps, tokenizer.eos_id]
    return np.concatenate([np.append(piece, end) for piece, end in zip(pieces, ends)]).astype(np.int64)


def gaps_of(tokenizer, text):
    """The sentinels of a text's gaps, in its order: those that stand in it, or the first ones for
    each ___ -> list. MinigptError as for fill_spans.
    """
    sentinels = tokenizer.sentinel_ids.tolist()
    names = [tokenizer.id_to_token(token) for token in sentinels]
    found = ANY_SENTINEL.findall(text)
    for name in found:
        if name not in names:
            raise MinigptError(f"the text has {shortened(name)}, the tokenizer has {names[0]} to {names[-1]}")
        if found.count(name) > 1:
            raise MinigptError(f"the text has {name} {found.count(name)} times, each gap needs one of its own")
    if found:
        return [sentinels[names.index(name)] for name in found]
    count = len(MARK.findall(text))
    if count > len(sentinels):
        raise MinigptError(f"the text has {count} gaps, the tokenizer has {len(sentinels)} sentinels for them")
    if not count:
        gap = f"{names[0]} or ___"
        mask = next((mask for mask in MASKS if mask in text), None)
        if mask is not None:
            raise MinigptError(f"the text has {mask}, which is for a BERT or RoBERTa; a gap is {gap} here")
        raise MinigptError(f"the text has no gap ({gap}), there is nothing to fill")
    return sentinels[:count]


def joined(source, written, tokenizer):
    """Put what was written into the gaps of a source: both (N,) ids -> the text's ids, the spans in
    its order.

    A span is what stands behind its sentinel, up to the next special token; that of a gap whose
    sentinel was not written is empty.
    """
    special = np.isin(written, tokenizer.special_ids)
    ids, spans = [], []
    for token in source.tolist():
        if token not in tokenizer.sentinel_ids:
            ids += [token] * (token not in (tokenizer.eos_id, tokenizer.pad_id))
            continue
        span, places = [], np.flatnonzero(written == token)
        if len(places):
            first = places[0] + 1
            end = np.flatnonzero(special[first:])
            span = written[first : first + end[0] if len(end) else None].tolist()
        spans.append(span)
        ids += span
    return np.array(ids, np.int64), spans


def probabilities(model, source, written):
    """The probability of each of some targets of a source: source (S,), written (K, T), the start
    token first, anything after the first end-of-text token left out -> (K,).
    """
    end = model.config.eos_token_id
    logits = model.logits(np.repeat(source[None], len(written), axis=0), written[:, :-1])  # (K, T - 1, V)
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(log_p, written[:, 1:, None], axis=-1)[..., 0]  # (K, T - 1)
    ended = np.cumsum(written[:, 1:] == end, axis=1) - (written[:, 1:] == end) > 0
    return np.exp(np.where(ended, 0, chosen).sum(axis=1))
