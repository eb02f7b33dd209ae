"""Viterbi's algorithm for pieces with scores, and what floats make of sums that are nearly equal.

>>> pieces = table({"a": -1.0, "b": -2.0, "ab": -2.5}, unknown=-12.5)
>>> best_cut("abxab", pieces)._replace(scores=...)
Best(ends=[2, 3, 5], scores=Ellipsis, total=-17.5, gap=0.5)

A word is cut the same wherever it stands, so that the words of a text can be cut one by one and
remembered. Nearly: sentencepiece adds the scores in float32 from the beginning of the text to its
end (`tokenizers` in float64, where it is not told to cut a text before), and of two ways that are
as good as each other the one is taken whose sum was rounded up, which depends on all that stands
before. `whole_text` therefore looks for words with a second way so close to the best that rounding
may decide, and cuts these anew with the sum of floats that they begin with.
"""

import re
from array import array
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minigpt.tokenizers.metaspace import cutter

MOST_INNER = 1000  # characters before a mark within a piece: of more, a text is not cut
WINDOW = 512  # words that are looked through at once
SMALLEST = {"f": 2.0**-23, "d": 2.0**-52}  # what a float of 1 is rounded to, by the code of an array
RESET = 100_000.0  # sentencepiece: a sum that is larger starts anew from 0, so that float32 has digits left


class Table(NamedTuple):
    """Pieces and scores, as the algorithm needs them."""

    scores: dict  # piece -> score
    lengths: dict  # the first two characters of pieces -> how long these are, rising
    unknown: float  # score of a character that is no piece


def table(scores, unknown):
    """The Table of piece -> score."""
    lengths = {}
    for piece in scores:
        if len(piece) > 1:
            lengths.setdefault(piece[:2], set()).add(len(piece))
    return Table(scores, {start: tuple(sorted(found)) for start, found in lengths.items()}, unknown)


class Best(NamedTuple):
    """The best way to cut a text, and how close another one comes."""

    ends: list  # where its pieces end
    scores: bytes  # of these, one after another, float64
    total: float  # their sum
    gap: float  # at the pieces' ends, how much less the best other way has, at least


def best_cut(text, table):
    """A text -> Best. Of two ways as good as each other it is the one whose last piece is longer,
    as in `tokenizers`.
    """
    size = len(text)
    best, start_of, gaps = [-np.inf] * (size + 1), [0] * (size + 1), [np.inf] * (size + 1)
    best[0] = 0.0
    score_of, lengths_of, unknown = table.scores.get, table.lengths.get, table.unknown
    for start in range(size):
        here, end = best[start], start + 1
        score = here + score_of(text[start], unknown)
        if (ahead := score - best[end]) > 0:
            best[end], start_of[end], gaps[end] = score, start, ahead
        elif -ahead < gaps[end]:
            gaps[end] = -ahead
        for length in lengths_of(text[start : start + 2], ()):
            end = start + length
            if end > size:
                break
            if (score := score_of(text[start:end])) is not None:
                score += here
                if (ahead := score - best[end]) > 0:
                    best[end], start_of[end], gaps[end] = score, start, ahead
                elif -ahead < gaps[end]:
                    gaps[end] = -ahead
    ends = ends_of(start_of)
    scores = array("d", [score_of(text[a:b], unknown) for a, b in pairwise([0, *ends])])
    return Best(ends, scores.tobytes(), best[size], min(map(gaps.__getitem__, ends), default=np.inf))


def ends_of(start_of):
    """Where the best last piece begins, of each beginning of a text -> where all pieces end."""
    ends, at = [], len(start_of) - 1
    while at:
        ends.append(at)
        at = start_of[at]
    return ends[::-1]


def independent(pieces, mark):
    """What cuts a text into parts that no piece crosses, a function: before each mark, except
    behind characters that some piece has before one.
    """
    inner = {c for piece in pieces for c, after in pairwise(piece) if after == mark}
    if not inner:
        return cutter(mark).findall
    if len(inner) > MOST_INNER:
        return whole_part
    found = re.compile(f"(?<=[^{re.escape(''.join(sorted(inner)))}])(?={re.escape(mark)})")
    return found.split


def whole_part(text):
    """A text as its only part."""
    return [text]


# A text that is not cut


class Rounded(NamedTuple):
    """A cut of a part of a text by sums of floats."""

    ends: list  # where its pieces end
    last: float  # the sum at the end


def rounded_ends(text, table, begin, code):
    """The ends of best_cut by sums in floats of an array's code, from the one that the text begins
    with -> Rounded.
    """
    size, candidate = len(text), array(code, [0.0])
    best, start_of = array(code, [-np.inf]) * (size + 1), [0] * (size + 1)
    best[0] = begin
    furthest = 0
    for start in range(size):
        here = best[start]
        if code == "f" and not -RESET <= here <= RESET:
            for i in range(start, furthest + 1):
                best[i] -= here
            best[start] = here = 0.0
        found = [(start + 1, table.scores.get(text[start], table.unknown))]
        for length in table.lengths.get(text[start : start + 2], ()):
            if start + length <= size and (score := table.scores.get(text[start : start + length])) is not None:
                found.append((start + length, score))
        for end, score in found:
            candidate[0] = score + here
            if candidate[0] > best[end]:
                best[end], start_of[end] = candidate[0], start
        furthest = max(furthest, found[-1][0])
    return Rounded(ends_of(start_of), best[size])


def whole_text(parts, cuts, table, code):
    """Parts of a text, and their Cut (see many_words) -> {which part: where its pieces end}, of
    those that the sums of floats cut in another way, or may.
    """
    lengths = np.array(list(map(len, parts)))
    totals, gaps = np.array([cut.total for cut in cuts]), np.array([cut.gap for cut in cuts])
    anew, begin, at = {}, 0.0, 0
    while at < len(parts):
        window = slice(at, at + WINDOW)
        after = begin + np.cumsum(totals[window])
        largest = np.abs(after) + 2 * np.abs(totals[window])
        near = gaps[window] <= lengths[window] * SMALLEST[code] * (largest + 64)
        if code == "f":
            near |= largest > RESET - 1000
        size = int(near.argmax()) if near.any() else len(near)
        if size:
            scores = np.frombuffer(b"".join(cut.scores for cut in cuts[at : at + size]), np.float64)
            begin = float(np.add.accumulate(np.append(begin, scores).astype(code))[-1])
            at += size
        if size < len(near):
            anew[at], begin = rounded_ends(parts[at], table, begin, code)
            at += 1
    return anew
