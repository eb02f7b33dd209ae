"""BERT's objective: hidden tokens, and whether one segment of a text follows the other.

Shapes: B rows, T time, S sentences, W windows.
"""

from types import MappingProxyType

import numpy as np

from minigpt.errors import MinigptError
from minigpt.objectives.masked_lm import MaskedLM, check_vocabulary

FOLLOWS, ELSEWHERE = 0, 1  # labels, as in BERT's code and in transformers


class NextSentence(MaskedLM):
    """[CLS] A [SEP] B [SEP], some of the tokens hidden: in half of the rows B follows A in its
    document (0), in the others it begins elsewhere (1). Devlin et al. 2018, section 3.1 and
    appendix A.2.

    Its batches hold ids, token_type_ids (0 for [CLS] A [SEP], 1 for B [SEP]) and targets (B, T),
    and next_sentence (B,). Its texts are Documents. A begins with a sentence and has a quarter to
    three quarters of the row; it ends with a sentence, unless none ends there. B begins where A
    ends and is cut where the row ends: all rows are full, none has padding. From elsewhere is what
    would be B of another row, so that it begins as often with a sentence, and nothing but what the
    segments say tells the two apart: of another document, as in BERT's code, or of a single one
    outside the row's own text. No segment reaches over the end of a document.
    """

    name = "next_sentence"
    terms = MappingProxyType(MaskedLM.terms | {"next_sentence": "next_sentence"})
    around = 3
    decisions = 3  # the label, where A ends, where B begins

    def check(self, tokens, vocab_size, name="text"):
        """MinigptError where Documents have no room for a row and another segment elsewhere, a
        token is not of the vocabulary, or there is none that may be hidden.
        """
        places = self.places(tokens)
        if not len(places):
            longest = int((tokens.ends - tokens.starts).max())
            raise MinigptError(
                f"{name}: the longest document has {longest} tokens, "
                f"at least {self.extent} are needed for a sequence of {self.length}"
            )
        first, last = self.own(tokens, places, places)
        if (last - first == len(places)).any():
            raise MinigptError(f"{name}: too short to draw a second segment from elsewhere than behind the first")
        check_vocabulary(tokens.tokens, vocab_size, self.tokenizer, name)
        self.check_ordinary(tokens, name)

    @property
    def least(self):
        """How many tokens A and B have at least: a quarter of the row."""
        return max(1, self.room // 4)

    @property
    def extent(self):
        """How many tokens there must be from where a row may begin, so that its B may be another
        row's: both A and B as long as they get.
        """
        return 2 * (self.room - self.least)

    def places(self, documents):
        """Where a row may begin: the sentences with as many tokens behind them in their document as
        `extent` says -> (W,) in rising order.
        """
        sentences = documents.sentences
        ends = documents.ends[np.searchsorted(documents.starts, sentences, side="right") - 1]
        return sentences[ends - sentences >= self.extent]

    def own(self, documents, places, starts):
        """Which places are too near to those where rows start: all of their document, or of a
        single document those within their text -> numbers of the first and behind the last, (B,).
        """
        own = np.searchsorted(documents.starts, starts, side="right") - 1
        bounds = np.searchsorted(places, np.append(documents.starts, len(documents.tokens)))
        if np.count_nonzero(np.diff(bounds)) > 1:
            return bounds[own], bounds[own + 1]
        return np.searchsorted(places, starts - self.extent + 1), np.searchsorted(places, starts + self.room)

    def any_places(self, tokens, rows, rng):
        """Where so many rows begin, drawn at random -> (rows,) array."""
        places = self.places(tokens)
        return places[rng.integers(0, len(places), rows)]

    def side_by_side(self, tokens):
        """Where rows that lie side by side begin, if B follows A in all of them -> array."""
        places, chosen = self.places(tokens), []
        at = 0
        while at < len(places):
            chosen.append(places[at])
            at = np.searchsorted(places, places[at] + self.room)
        return np.array(chosen)

    def rows(self, documents, places, decisions):
        """Rows before their tokens are hidden -> dict of ids, token_type_ids (B, T) and
        next_sentence (B,).

        places (B,): where A begins; decisions (B, 3) from 0 to 1.
        """
        label = np.where(decisions[:, 0] < 0.5, FOLLOWS, ELSEWHERE)
        ends = places + self.cut(documents, places, decisions[:, 1])  # of A
        candidates = self.places(documents)
        first, last = self.own(documents, candidates, places)
        other = (decisions[:, 2] * (len(candidates) - (last - first))).astype(np.int64)
        elsewhere = candidates[np.where(other < first, other, other + last - first)]
        elsewhere += self.cut(documents, elsewhere, decisions[:, 1])
        begins = np.where(label == FOLLOWS, ends, elsewhere)  # of B
        time = np.arange(self.length)
        behind = time - (ends - places + 2)[:, None]  # (B, T) place in B; -1 at the first [SEP]
        at = np.where(behind < 0, places[:, None] + time - 1, begins[:, None] + behind)
        at[:, 0] = at[:, -1] = 0
        ids = documents.tokens[np.minimum(at, len(documents.tokens) - 1)].astype(np.int64)
        ids[:, 0], ids[:, -1] = self.tokenizer.cls_id, self.tokenizer.sep_id
        ids[behind == -1] = self.tokenizer.sep_id
        return {"ids": ids, "token_type_ids": (behind >= 0).astype(np.int64), "next_sentence": label}

    def cut(self, documents, places, share):
        """How many tokens A has: share (B,), from 0 to 1, of what it may have; then back to where a
        sentence ends, or else on to it, where that leaves A and B their quarters -> (B,).
        """
        least = self.least
        length = least + (share * (self.room - 2 * least + 1)).astype(np.int64)
        after = np.searchsorted(documents.sentences, places + length, side="right")
        back, on = (np.append(documents.sentences, 2**40)[i] - places for i in (after - 1, after))
        return np.where(back >= least, back, np.where(on <= self.room - least, on, length))

    def show(self, first, second, follows=True, seed=0):
        """What the objective makes of two sentences, as text; follows: whether the second follows
        the first. MinigptError where one is empty.
        """
        a, b = self.tokenizer.encode(first), self.tokenizer.encode(second)
        if not (len(a) and len(b)):
            raise MinigptError("a sentence is empty, there is nothing to hide in it")
        ids = np.concatenate([[self.tokenizer.cls_id], a, [self.tokenizer.sep_id], b, [self.tokenizer.sep_id]])
        kinds = np.repeat([0, 1], [len(a) + 2, len(b) + 1])
        label = np.array([FOLLOWS if follows else ELSEWHERE])
        return self.show_row({"ids": ids[None], "token_type_ids": kinds[None], "next_sentence": label}, seed)
