r"""Learning merges: the one loop behind training BPE and WordPiece.

Words are rows of ids. The most frequent pair of neighbours, counted over all words with their
frequency, becomes a token wherever it occurs; then the next, until the vocabulary is full.
Frequencies are kept up to date rather than counted again: a merge changes those of the pairs beside
it alone. Of pairs as frequent as each other the smaller one, as a pair of ids, is first.

>>> tokens = list("ahlstu")
>>> ids = {token: i for i, token in enumerate(tokens)}
>>> words = {"that": 5, "hat": 2, "salt": 1}
>>> rows = [[ids[c] for c in word] for word in words]
>>> merges = learn_merges(rows, list(words.values()), tokens, 9)
>>> tokens[6:]
['at', 'hat', 'that']
>>> merges
[(0, 4), (1, 6), (4, 7)]

"at" occurs 7 times ("salt" has none), as often as "ha", but (0, 4) is less than (1, 0).

A token that the vocabulary has already, such as a special one that is spelled so, is made but not
added again. Merges are those of `tokenizers` (BpeTrainer), in order.

Source: Sennrich, Haddow and Birch 2016 (arXiv 1508.07909), section 3.2, algorithm 1.
"""

import heapq
from collections import defaultdict
from itertools import pairwise
from operator import add


def learn_merges(words, counts, tokens, vocab_size, *, join=add, min_frequency=1):
    """Words, lists of ids that are changed in place, and how often each occurs -> merges, pairs of
    ids in the order in which they were made.

    tokens: the text of each id, a list to which those of the merges are added until it has
    vocab_size; join: makes the text of a pair of two; min_frequency: of a pair that is merged.
    """
    ids = {token: i for i, token in enumerate(tokens)}
    totals, found = defaultdict(int), defaultdict(set)  # pair -> its frequency; -> words that it is in
    for w, (word, count) in enumerate(zip(words, counts)):
        for pair in pairwise(word):
            totals[pair] += count
            found[pair].add(w)
    # (-frequency, pair, n): of the pair in the words places[n]. Where totals has another frequency
    # by now, an entry is put right when it comes up.
    places = list(found.values())
    heap = [(-totals[pair], pair, n) for n, pair in enumerate(found)]
    heapq.heapify(heap)
    merges = []
    while heap and len(tokens) < vocab_size:
        total, pair, n = heap[0]
        if total != -totals[pair]:
            heapq.heapreplace(heap, (-totals[pair], pair, n))
            continue
        if -total < max(min_frequency, 1):
            break
        heapq.heappop(heap)
        token = join(tokens[pair[0]], tokens[pair[1]])
        new = ids.setdefault(token, len(tokens))
        if new == len(tokens):
            tokens.append(token)
        merges.append(pair)
        found = defaultdict(set)
        for w in places[n]:
            merge_pair(words[w], pair, new, counts[w], totals, found, w)
        places[n] = None
        for made, where in found.items():
            if totals[made] > 0:
                heapq.heappush(heap, (-totals[made], made, len(places)))
                places.append(where)
    return merges


def merge_pair(word, pair, new, count, totals, found, w):
    """Replace a pair by a new id wherever it stands in word w, a list, and change the totals of the
    pairs beside it; found: the words of each pair that is made.
    """
    a, b = pair
    merged, i, end = [], 0, len(word)
    while i < end:
        if word[i] == a and i + 1 < end and word[i + 1] == b:
            if merged:
                before = merged[-1]
                totals[before, a] -= count
                totals[before, new] += count
                found[before, new].add(w)
            merged.append(new)
            i += 2
            if i < end:
                after = word[i]
                totals[b, after] -= count
                totals[new, after] += count
                found[new, after].add(w)
        else:
            merged.append(word[i])
            i += 1
    word[:] = merged
