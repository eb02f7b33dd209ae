r"""Training a Unigram tokenizer: which pieces it has, and how probable each is.

It begins with far too many pieces and takes the least useful ones away. `seed_pieces` are all
characters, and every substring that occurs twice and is not always followed by the same character.
Then, in rounds,

1. twice, expectation and maximisation: each piece is counted in all cuts of all words, a cut as
   much as it is probable (see unigram_lattice), and its score follows from its count;
2. words are cut in the best way. Where a piece is taken away, its place in them is taken by the
   best cut of the piece itself into others: the pieces whose loss of likelihood is largest stay,
   85% of them, until 1.1 times as many are left as are wanted.

Those with the best scores are the vocabulary. Characters always stay.

>>> words = {"▁walk": 8, "▁walks": 4, "▁talk": 6, "▁talking": 3}
>>> seeds = seed_pieces(list(words), np.array(list(words.values())), 9)
>>> print(*seeds.pieces())
a g i k l n s t w ▁ alk ▁walk walk ▁talk lk talk ▁walks ▁talking talking
>>> print(*(piece for piece, score in train_pieces(words, 13)))
▁walk ▁talk ▁walks a g i k l n s t w ▁

"alk" occurs most often, 21 times its 3 characters, and is the first seed after the characters;
"▁wal" is none, k always being next. But "▁walk" and "▁talk" write all that "alk" could, with
fewer pieces, and it goes.

A piece holds characters of one kind, letters, digits or others, as in sentencepiece, so that a word
is the same piece with a comma behind it and without. Scores are of sentencepiece's variational
form, digamma(count) - digamma(total), which is close to log(count - 1/2) - log(total): a piece that
occurs rarely loses by it, and others take its part.

Sources: Kudo 2018 (arXiv 1804.10959), section 3.2; sentencepiece, unigram_model_trainer; Liang and
Klein 2007 (tutorial on structured Bayesian models), on digamma.
"""

# P characters of all words, one after another, and of their ends; E edges; K pieces; R words

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from minigpt.checks import whole
from minigpt.errors import MinigptError
from minigpt.tokenizers.added import pattern
from minigpt.tokenizers.unigram_lattice import backward, forward, make_lattice

LONGEST_PIECE = 16  # characters
LONGEST_PART = 256  # characters of a word, so that the loop over them ends
ONE_KIND = r"(?:^▁)?(?:[\p{L}\p{M}]+|\p{N}+|[^\p{L}\p{M}\p{N}]+)"  # letters with their marks, digits, others
SEEDS = 100_000  # pieces to begin with at most, or 8 times as many as are wanted
SHRINK = 0.85  # pieces that stay in a round; 0.75 is 30% faster and writes 0.5% more tokens
SURPLUS = 1.1  # pieces left, of those that are wanted, when rounds end
END = 0x110000  # of a word, among code points
LEAST = 0.5  # a piece that is expected less often goes


class Seeds(NamedTuple):
    """Pieces, and each place where one occurs in the words."""

    text: str  # (P,) all words, with a character behind each
    lengths: np.ndarray  # (R,) of the words
    begins: np.ndarray  # (R,) where they begin in the text
    place: np.ndarray  # (E,) where a piece occurs in the text, rising
    piece: np.ndarray  # (E,) which one
    first: np.ndarray  # (K,) where a piece occurs first
    size: np.ndarray  # (K,) its characters
    weight: np.ndarray  # (K,) how often it occurs, times its characters

    def keep(self, kept):
        """Without some pieces; kept: (K,) bool. The others are numbered anew."""
        stays, number = kept[self.piece], np.cumsum(kept, dtype=np.int32) - 1
        occurs = {"place": self.place[stays], "piece": number[self.piece[stays]]}
        return self._replace(**occurs, first=self.first[kept], size=self.size[kept], weight=self.weight[kept])

    def pieces(self):
        """The pieces as text."""
        return [self.text[a : a + n] for a, n in zip(self.first.tolist(), self.size.tolist())]


def train_pieces(words, size, *, mixed=False, beside=()):
    """Words, each with how often it occurs -> `size` pieces with their scores, the natural logs of
    their probabilities, by falling score; of equal ones by text.

    mixed: whether a piece may hold letters, digits and other characters side by side; beside:
    tokens that the vocabulary has already, which no piece of several characters is then.
    MinigptError where the characters are more than size, or the pieces that the words make use of
    are less; it counts what is beside.
    """
    whole("size", size, at_least=1)
    counts = count_parts(words, mixed)
    if not counts:
        raise MinigptError("the text has no words, a tokenizer can't be trained on it")
    total, needed = f"vocab_size is {size + len(beside):,}", len(set().union(*counts))
    if size < needed:
        parts = f"{needed:,} characters and {len(beside):,} other tokens"
        raise MinigptError(f"{total}, it must be at least {needed + len(beside):,}: {parts}")
    names = sorted(counts)
    counts = np.array([counts[name] for name in names], float)
    seeds = seed_pieces(names, counts, max(SEEDS, 8 * size))
    if beside:
        own = np.array([len(piece) == 1 or piece not in beside for piece in seeds.pieces()])
        seeds = seeds.keep(own)
    word = np.searchsorted(seeds.begins, seeds.place, side="right") - 1
    start = seeds.place - seeds.begins[word]
    lattice = make_lattice(seeds.lengths, word, start, start + seeds.size[seeds.piece], seeds.piece)
    scores = np.log(seeds.weight / seeds.weight.sum())
    least = 0  # pieces that stay: in the first round all goes that is of no use
    while True:
        for _ in range(2):
            kept, scores = maximisation(expectation(lattice, scores, counts), seeds.size == 1, least)
            seeds, lattice = seeds.keep(kept), lattice.keep(kept)
        kept = most_missed(losses(seeds, lattice, scores, counts), int(SURPLUS * size), least)
        seeds, lattice, scores = seeds.keep(kept), lattice.keep(kept), scores[kept]
        if len(scores) < size:
            most = len(scores) + len(beside)
            raise MinigptError(f"{total}, it may be at most {most:,}: the text has no use for more pieces")
        if len(scores) <= SURPLUS * size:
            break
        least = size
    scores = scores.round(6)  # what lies below is noise of the machine
    ranked = sorted(zip(seeds.size != 1, -scores, seeds.pieces()))[:size]
    return [(piece, -float(score)) for _, score, piece in sorted(ranked, key=lambda r: r[1:])]


def count_parts(words, mixed):
    """word -> count, as parts that no piece reaches over the ends of: of characters of one kind,
    unless they may be mixed, and of LONGEST_PART at most.

    >>> count_parts({"▁you": 5, "▁you,": 2, "▁42nd,": 1}, mixed=False)
    Counter({'▁you': 7, ',': 3, '▁42': 1, 'nd': 1})
    """
    parts, cut = Counter(), pattern(ONE_KIND).findall
    for word, count in words.items():
        for part in [word] if mixed else cut(word):
            for i in range(0, len(part), LONGEST_PART):
                parts[part[i : i + LONGEST_PART]] += count
    return +parts  # those that occur


# Where it begins


def seed_pieces(words, counts, limit):
    """Words (R,) and how often each occurs -> Seeds: their characters, and `limit` substrings at
    most, those of the greatest weight.

    Substrings are found by length: those of n + 1 characters are one of n and a character behind
    it, and only where one occurs twice a longer one can. Of one that always goes on with the same
    character the longer one says all.
    """
    lengths = np.array([len(word) for word in words])
    begins = np.cumsum(lengths + 1) - lengths - 1
    text = "".join(word + "\0" for word in words)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).copy()
    codes[begins + lengths] = END
    alphabet, symbols = np.unique(codes, return_inverse=True)  # (P,)
    last = len(alphabet) - 1  # END
    often = np.repeat(counts, lengths + 1)
    place = np.setdiff1d(np.arange(len(text)), begins + lengths)
    levels = [Level.of(place, symbols[place], often)]
    while len(place := levels[-1].place) and len(levels) < LONGEST_PIECE:
        n = len(levels)
        on = symbols[place + n] != last
        place, group = place[on], levels[-1].group[on]
        level = Level.of(place, group * np.int64(len(alphabet)) + symbols[place + n], often)
        parent = group[level.at]
        levels[-1].open[parent[level.total == levels[-1].total[parent]]] = False
        levels.append(level.where(level.total >= 2))
    return chosen_seeds(levels, limit, text, lengths, begins)


class Level(NamedTuple):
    """The substrings of one length, numbered in the order of their text."""

    place: np.ndarray  # (M,) where one occurs
    group: np.ndarray  # (M,) its number
    at: np.ndarray  # (G,) the first of those M places, of each
    total: np.ndarray  # (G,) how often it occurs in the text
    open: np.ndarray  # (G,) bool, whether more than one character or end follows it

    @classmethod
    def of(cls, place, key, often):
        """Places with equal keys (M,) have one number."""
        keys, at, group = np.unique(key, return_index=True, return_inverse=True)
        total = np.bincount(group, often[place], len(keys))
        place, group = place.astype(np.int32), group.astype(np.int32)  # half the memory
        return cls(place, group, at, total, np.ones(len(keys), bool))

    def where(self, kept):
        """Without some; kept: (G,) bool."""
        stays, number = kept[self.group], np.cumsum(kept, dtype=np.int32) - 1
        moved = np.cumsum(stays) - 1
        at, total = moved[self.at[kept]], self.total[kept]
        return Level(self.place[stays], number[self.group[stays]], at, total, self.open[kept])


def chosen_seeds(levels, limit, text, lengths, begins):
    """Levels -> Seeds: all of the first one, and the `limit` of the greatest weight."""
    sizes = np.repeat(np.arange(1, len(levels) + 1), [len(level.total) for level in levels])
    weight = np.concatenate([level.total for level in levels]) * sizes
    more = np.flatnonzero(np.concatenate([level.open for level in levels]) & (sizes > 1))
    more = more[np.argsort(-weight[more], kind="stable")[:limit]]  # of equal ones the shorter, then by text
    chosen = np.concatenate([np.flatnonzero(sizes == 1), more])
    number = np.full(len(sizes), -1, np.int32)
    number[chosen] = np.arange(len(chosen))
    before = np.cumsum([0, *(len(level.total) for level in levels)])  # numbers of shorter ones
    piece = np.concatenate([number[n + level.group] for n, level in zip(before, levels)])
    place = np.concatenate([level.place for level in levels])
    first = np.concatenate([level.place[level.at] for level in levels])
    found = np.flatnonzero(piece >= 0)
    found = found[np.argsort(place[found], kind="stable")]
    return Seeds(text, lengths, begins, place[found], piece[found], first[chosen], sizes[chosen], weight[chosen])


# Expectation and maximisation


def expectation(lattice, scores, counts):
    """How often each piece is expected in all words (K,), where they occur `counts` (R,) times."""
    _, weights = forward(lattice, scores)
    return np.bincount(lattice.piece, backward(lattice, weights, counts), len(scores))


def maximisation(expected, always, least=0):
    """How often each piece is expected (K,) -> which stay, (K,) bool, and the scores of those.

    always: (K,) bool, which stay in any case, with the score of a piece expected 1/2 times;
    least: how many stay at least.
    """
    count = max(least, np.count_nonzero(always | (expected >= LEAST)))
    kept = top(np.where(always, np.inf, expected), count)
    expected = np.maximum(expected[kept], LEAST)
    return kept, digamma(expected) - digamma(expected.sum())


def top(values, count):
    """(K,) bool: the `count` largest, of equal ones the first."""
    kept = np.zeros(len(values), bool)
    kept[np.argsort(-values, kind="stable")[:count]] = True
    return kept


def digamma(x):
    """d log Gamma(x) / dx for x > 0, to 1e-14 of the larger of it and 1.

    digamma(x) = digamma(x + 1) - 1/x until x >= 10, and there the asymptotic series,
    ln x - 1/(2x) - 1/(12x^2) + 1/(120x^4) - ... (Abramowitz and Stegun 6.3.5, 6.3.18).
    """
    x = np.asarray(x, float)
    below = sum(1 / (x + k) for k in range(10))
    x = x + 10
    z = 1 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132)))))
    return np.log(x) - 0.5 / x - series - below


# Pruning


def losses(seeds, lattice, scores, counts):
    """What taking each piece away would cost, (K,): -inf for one of no use, inf for a character.

    With n(p) uses of a piece p in the words cut in the best way, N of all, and the best cut of p
    into others, q in Q: the log-likelihood of p's uses, n(p) log(n(p) / N), against that of the
    cut's, n(p) sum over q of log((n(q) + n(p)) / (N + n(p) (|Q| - 1))), by the N.
    """
    _, weights = forward(lattice, scores, best=True)
    uses = np.bincount(lattice.piece, backward(lattice, weights, counts), len(scores))
    total, long = uses.sum(), np.flatnonzero(seeds.size > 1)
    own = own_lattice(seeds, long)
    _, weights = forward(own, scores, best=True)
    taken = backward(own, weights, np.ones(len(long))) > 0
    row, piece = own.word[own.end[taken]], own.piece[taken]  # of each Q, in no order
    useful = uses[long] > 0
    n = np.where(useful, uses[long], 1)
    many = np.bincount(row, minlength=len(long))
    cut = np.bincount(row, np.log(uses[piece] + n[row]), len(long)) - many * np.log(total + n * (many - 1))
    loss = np.full(len(scores), np.inf)
    loss[long] = np.where(useful, n / total * (np.log(n) - math.log(total) - cut), -np.inf)
    return loss


def own_lattice(seeds, rows):
    """The Lattice of pieces taken as words, which can't be written with themselves; rows: which."""
    first, size = seeds.first[rows], seeds.size[rows]
    low, high = np.searchsorted(seeds.place, first), np.searchsorted(seeds.place, first + size)
    many = high - low  # edges that begin within each
    row = np.repeat(np.arange(len(rows)), many)
    edge = np.arange(len(row)) + np.repeat(low - (np.cumsum(many) - many), many)
    start = seeds.place[edge] - first[row]
    end = start + seeds.size[seeds.piece[edge]]
    inside = (end <= size[row]) & (end - start < size[row])
    return make_lattice(size, row[inside], start[inside], end[inside], seeds.piece[edge[inside]])


def most_missed(loss, wanted, least=0):
    """(K,) bool: the pieces with the largest loss: `wanted`, or SHRINK of all where that is more.
    Those of no use are not among them, unless for the sake of the `least`.
    """
    useful = np.count_nonzero(loss > -np.inf)
    return top(loss, max(least, min(useful, max(wanted, int(SHRINK * len(loss))))))
