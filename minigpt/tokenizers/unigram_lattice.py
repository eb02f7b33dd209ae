r"""All ways to cut words into pieces at once, and how often each piece is expected in them.

A unigram model gives a cut of a word the product of its pieces' probabilities. With these pieces

>>> pieces = {"g": 0.25, "h": 0.25, "u": 0.25, "ug": 0.25}

the word "hug" can be cut into h u g, of probability 1/64, and into h ug, of 1/16, four times as
much: given the word, they have 1/5 and 4/5. So it is with "ug". Where "hug" was read 10 times and
"ug" 5 times, h is expected 10 times, ug 4/5 * 15 = 12 times, u and g 1/5 * 15 = 3 times each:

>>> lattice = lattice_of(["hug", "ug"], list(pieces))
>>> scores = np.log(list(pieces.values()))
>>> log_z, weights = forward(lattice, scores)
>>> np.exp(log_z)  # of each word, over all its cuts: 1/64 + 1/16 and 1/16 + 1/4
array([0.078125, 0.3125  ])
>>> uses = backward(lattice, weights, np.array([10.0, 5.0]))
>>> dict(zip(pieces, np.bincount(lattice.piece, uses).round(12).tolist()))
{'g': 3.0, 'h': 10.0, 'u': 3.0, 'ug': 12.0}

A cut is a path from the node before a word's first character to the one behind its last. The
forward pass sums the probabilities of all paths to each node,

    alpha(j) = log sum over pieces that end at j of exp(alpha(i) + score)

and keeps each piece's share in the sum, which is how likely a path that comes through j takes it.
The backward pass is this sum's gradient: what flows through j is divided among the pieces that end
there by their shares, d log_z / d score being the expected count. Nodes with as many characters
before them are computed together, over all words: numbers stay as small as logarithms are, and the
loop is as long as the longest word. With best=True the sum is a maximum, the share of the best
piece 1, and what flows is Viterbi's path.

Sources: Kudo 2018 (arXiv 1804.10959), section 3.2; Rabiner 1989, section III (forward-backward).
"""

# R words, N nodes, E edges, K pieces, T characters of the longest word

from typing import NamedTuple

import numpy as np


class Lattice(NamedTuple):
    """Words as nodes, and the pieces that they can be cut into as edges between them."""

    firsts: np.ndarray  # (T + 2,) the first of the nodes with t characters before them, longest words first; the end
    heads: np.ndarray  # (N + 1,) the first of the edges that end at a node, which lie in the order of these; the end
    start: np.ndarray  # (E,) the node that an edge comes from
    end: np.ndarray  # (E,) the node that it leads to
    piece: np.ndarray  # (E,) its piece
    last: np.ndarray  # (R,) the node behind each word
    word: np.ndarray  # (N,) each node's word

    def keep(self, kept):
        """The lattice without some pieces; kept: (K,) bool. The others are numbered anew."""
        stays, number = kept[self.piece], np.cumsum(kept, dtype=np.int32) - 1
        heads = np.concatenate([[0], np.cumsum(stays)])[self.heads]
        return self._replace(heads=heads, start=self.start[stays], end=self.end[stays], piece=number[self.piece[stays]])


def make_lattice(lengths, word, start, end, piece):
    """The Lattice of words of `lengths` (R,) and edges: each in a word, from behind its character
    `start` to behind `end`, with its piece, (E,) each. At each place in a word some piece must end.
    """
    order = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    reach = np.bincount(lengths, minlength=1)[::-1].cumsum()[::-1]  # (T + 1,) words with t characters or more
    firsts = np.concatenate([[0], np.cumsum(reach)])
    start, end = firsts[start] + rank[word], firsts[end] + rank[word]
    by_end = np.argsort(end * firsts[-1] + start)  # and by start: the longest piece first
    start, end, piece = start[by_end], end[by_end], piece[by_end]
    heads = np.searchsorted(end, np.arange(firsts[-1] + 1))
    words = np.concatenate([order[:n] for n in reach])
    start, end, piece = (column.astype(np.int32) for column in (start, end, piece))  # half the memory
    return Lattice(firsts, heads, start, end, piece, firsts[lengths] + rank, words)


def lattice_of(words, pieces):
    """The Lattice of words and pieces as text, their characters among these."""
    number, edges = {piece: k for k, piece in enumerate(pieces)}, []
    for r, word in enumerate(words):
        for i in range(len(word)):
            found = (number.get(word[i:j]) for j in range(i + 1, len(word) + 1))
            edges += [(r, i, j, k) for j, k in enumerate(found, i + 1) if k is not None]
    columns = np.array(edges, np.int64).reshape(-1, 4).T
    return make_lattice(np.array([len(word) for word in words], np.int64), *columns)


def forward(lattice, scores, best=False):
    """Scores (K,), the log of each piece's probability -> of each word the log of the sum over its
    cuts, or of the best one, (R,), and each edge's share in the node where it ends, (E,).

    Of cuts as good as each other the best is the one whose last piece is the longest, and so on.
    """
    alpha, weights = np.zeros(len(lattice.word)), np.empty(len(lattice.piece))
    for t in range(1, len(lattice.firsts) - 1):
        nodes = slice(lattice.firsts[t], lattice.firsts[t + 1])
        heads = lattice.heads[nodes.start : nodes.stop + 1]
        edges, heads = slice(heads[0], heads[-1]), heads - heads[0]
        x = alpha[lattice.start[edges]] + scores[lattice.piece[edges]]
        top = np.maximum.reduceat(x, heads[:-1])  # (nodes,)
        x -= np.repeat(top, np.diff(heads))
        if best:
            weights[edges] = first_zero(x, lattice.end[edges])
            alpha[nodes] = top
            continue
        np.exp(x, out=x)
        total = np.add.reduceat(x, heads[:-1])
        weights[edges] = x / np.repeat(total, np.diff(heads))
        alpha[nodes] = top + np.log(total)
    return alpha[lattice.last], weights


def first_zero(x, groups):
    """1 at the first 0 of each group of neighbours, and 0 elsewhere."""
    at, chosen = np.flatnonzero(x == 0), np.zeros(len(x))
    first = np.ones(len(at), bool)
    first[1:] = groups[at[1:]] != groups[at[:-1]]
    chosen[at[first]] = 1
    return chosen


def backward(lattice, weights, counts):
    """Shares of `forward` and how often each word occurs, (R,) -> how often each edge is used,
    (E,): counts @ d log_z / d score, edge by edge.
    """
    flow, uses = np.zeros(len(lattice.word)), np.empty(len(weights))
    flow[lattice.last] = counts
    for t in range(len(lattice.firsts) - 2, 0, -1):
        edges = slice(lattice.heads[lattice.firsts[t]], lattice.heads[lattice.firsts[t + 1]])
        uses[edges] = weights[edges] * flow[lattice.end[edges]]
        flow[lattice.start[edges]] += uses[edges]  # edges that end at one t start at different nodes
    return uses
