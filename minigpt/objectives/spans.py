"""Which spans of a text are to be found again, drawn as T5's authors draw them.

Shapes: B rows, W tokens of the longest of them.
"""

import numpy as np

RATE, MEAN_SPAN = 0.15, 3.0  # share of the tokens, tokens of a span; Raffel et al. 2019, section 3.3.4


def span_counts(lengths, rate, mean_span):
    """How many of a row's tokens are corrupted, and in how many spans: lengths (B,) and rate, a
    number or (B,) -> (B,), (B,).

        corrupted = round(rate * length), from 1 to length - 1
        spans = round(corrupted / mean_span), from 1 to corrupted and to length - corrupted

    A row of less than two tokens has none. Source: random_spans_noise_mask in the preprocessors of
    Raffel et al.'s repository (text-to-text-transfer-transformer).
    """
    corrupted = np.maximum(np.clip(np.rint(rate * lengths), 1, lengths - 1), 0).astype(np.int64)
    spans = np.maximum(np.rint(corrupted / mean_span), 1).astype(np.int64)
    return corrupted, np.minimum(spans, np.minimum(corrupted, lengths - corrupted))


def random_segmentation(items, segments, numbers):
    """Cut rows of items into segments, none of them empty, all ways equally likely: items (B,),
    segments (B,), numbers (B, W) uniform from 0 to 1 -> (B, W), the number of each item's segment,
    from 0.

    A segment begins at the first item, and at the segments - 1 others with the least numbers.
    """
    place = np.arange(numbers.shape[1])
    order = np.where((place > 0) & (place < items[:, None]), numbers, 2.0)
    first_too_many = np.take_along_axis(np.sort(order, axis=1), np.maximum(segments - 1, 0)[:, None], axis=1)
    return np.cumsum(order < first_too_many, axis=1)


def random_numbers(length):
    """How many random numbers span_mask takes for a row of so many tokens."""
    return 1 + 2 * length


def span_mask(lengths, rate, mean_span, numbers):
    """Whether each token is corrupted: lengths (B,), numbers (B, 1 + 2 W) -> (B, W) bool, False
    beyond a row's length.

    Raffel et al.'s random_spans_noise_mask: the corrupted tokens and the others are each cut at
    random into as many segments, which take turns. Theirs begins with text and always ends with a
    span, which in a short row is most of what there is to learn. Here the row is turned round
    (their random_roll), by an offset at which it cuts no span in two: what stands at the end may
    come first.
    """
    width = numbers.shape[1] // 2
    place, lengths = np.arange(width), np.asarray(lengths)
    turn, of_text, of_spans = np.split(numbers, [1, 1 + width], axis=1)
    corrupted, spans = span_counts(lengths, rate, mean_span)
    pieces, beyond = [], 2 * width  # text 0, 2, 4 ... and spans 1, 3, 5 ...
    for items, own, first in ((lengths - corrupted, of_text, 0), (corrupted, of_spans, 1)):
        numbered = 2 * random_segmentation(items, spans, own) + first
        pieces.append(np.where(place < items[:, None], numbered, beyond))
    mask = np.sort(np.concatenate(pieces, axis=1), axis=1)[:, :width] % 2 == 1
    may_begin = place < lengths[:, None]
    may_begin[:, 1:] &= ~(mask[:, 1:] & mask[:, :-1])
    chosen = (turn[:, 0] * may_begin.sum(axis=1)).astype(np.int64)
    begin = (np.cumsum(may_begin, axis=1) > chosen[:, None]).argmax(axis=1)
    turned = (begin[:, None] + place) % np.maximum(lengths, 1)[:, None]
    return np.take_along_axis(mask, turned, axis=1) & (place < lengths[:, None])
