"""Unigram's best cut of a text, by trying all. Each is a function of nothing to a Finding."""

import itertools
import math

import numpy as np

from minigpt.museum.oracles import compared

SCORES = {
    "▁": -2.0, "▁h": -4.0, "▁hu": -6.0, "h": -3.5, "u": -3.0, "g": -3.0, "s": -2.5, "gs": -4.0, "ug": -4.5,
    "hug": -5.0, "hugs": -8.5, "ugs": -7.5,
}  # fmt: skip
WORDS = {"▁hugs": 5, "▁hug": 3, "▁ugh": 2, "▁gush": 1}


def cuts(word):
    """All ways to cut a word into parts that are not empty."""
    for n in range(len(word)):
        for places in itertools.combinations(range(1, len(word)), n):
            ends = [0, *places, len(word)]
            yield [word[a:b] for a, b in itertools.pairwise(ends)]


def best_cut(word, scores, unknown):
    """The cut with the largest sum of scores; a character that is no piece has `unknown`."""
    allowed = [cut for cut in cuts(word) if all(part in scores or len(part) == 1 for part in cut)]
    return max(allowed, key=lambda cut: sum(scores.get(part, unknown) for part in cut))


@compared(limit=0)
def viterbi_by_trying_all():
    """Words cut by the tokenizer against the best of all cuts: known words; some with a character
    that is no piece, or none by itself; several of these in a row, which are one unknown token.
    """
    from minigpt.tokenizers import UnigramTokenizer

    found = {}
    texts = {"known": ["hugs", "hughug", "gushugs"], "unknown": ["hu", "huxgs", "xhug"], "several": ["hxyzg"]}
    for name, words in texts.items():
        scores = {piece: score for piece, score in SCORES.items() if piece != "u" or name == "known"}
        tokenizer = UnigramTokenizer([("<unk>", 0.0), *scores.items()], unk_id=0)
        ids, unknown = {piece: i for i, piece in enumerate(scores, 1)}, min(scores.values()) - 10
        right, got = [], []
        for word in words:
            new = [ids.get(part, 0) for part in best_cut("▁" + word, scores, unknown)]
            right += [i for at, i in enumerate(new) if i or not at or new[at - 1]]
            got += tokenizer.encode(word).tolist()
        found[name] = got, right
    return found


@compared()
def expectations_by_trying_all():
    """How often each piece is expected in all cuts of all words, each cut as much as it is
    probable, and the scores that follow, against the same by loops.
    """
    from minigpt.tokenizers import unigram_lattice, unigram_training

    pieces, right = list(SCORES), dict.fromkeys(SCORES, 0.0)
    for word, count in WORDS.items():
        allowed = [cut for cut in cuts(word) if all(part in SCORES for part in cut)]
        chances = [math.exp(sum(SCORES[part] for part in cut)) for cut in allowed]
        for cut, chance in zip(allowed, chances):
            for part in cut:
                right[part] += count * chance / sum(chances)
    lattice = unigram_lattice.lattice_of(list(WORDS), pieces)
    counts = np.array(list(WORDS.values()), float)
    return {
        "expected": (
            unigram_training.expectation(lattice, np.array(list(SCORES.values())), counts),
            list(right.values()),
        )
    }


@compared(limit=0)
def useful_pieces():
    """Which of ten pieces stay in a round of pruning: the character, and seven of those whose loss
    would be missed most.
    """
    from minigpt.tokenizers.unigram_training import most_missed

    loss = np.array([0.3, math.inf, 0.1, 2.0, -math.inf, 0.7, 0.2, 5.0, 1.5, 0.4])
    return {"stay": (most_missed(loss, 5), np.isin(np.arange(10), np.argsort(-loss)[:8]))}
