"""Texts that consist of documents, and the last tenth of each held out.

Shapes: N tokens, D documents, S sentences.
"""

from dataclasses import dataclass

import numpy as np

from minigpt.data.batches import split
from minigpt.errors import MinigptError

# Where the nine plays of tiny Shakespeare begin, in the original and in the rebuild: a speaker and
# the first words
FIRST_LINES = {
    "Coriolanus": "First Citizen:\nBefore we proceed any further, hear me speak.",
    "Richard III": "GLOUCESTER:\nNow is the winter of our discontent",
    "Richard II": "KING RICHARD II:\nOld John of Gaunt, time-honour'd Lancaster,",
    "Romeo and Juliet": "SAMPSON:\nGregory, o' my word, we'll not carry coals.",
    "Henry VI, part 3": "WARWICK:\nI wonder how the king escaped our hands.",
    "The Winter's Tale": "ARCHIDAMUS:\nIf you shall chance, Camillo, to visit Bohemia, on",
    "Measure for Measure": "DUKE VINCENTIO:\nEscalus.",
    "The Taming of the Shrew": "SLY:\nI'll pheeze you, in faith.",
    "The Tempest": "Master:\nBoatswain!",
}


def plays(text):
    """The plays of tiny Shakespeare, each as a text, found by their first lines; [text] for any
    other text.
    """
    starts = [text.find(line) for line in FIRST_LINES.values()]
    if starts[0] != 0 or -1 in starts or sorted(starts) != starts:
        return [text]
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)])]


def split_each(texts):
    """The last tenth of each text is held out: texts -> (what comes before, the last tenths), a
    text each.
    """
    parts = [split(text) for text in texts]
    return [train for train, _ in parts], [held_out for _, held_out in parts]


@dataclass(frozen=True)
class Documents:
    """Token ids of documents one after the other, and where each and its sentences begin."""

    tokens: np.ndarray  # (N,), a separator after each document but the last
    starts: np.ndarray  # (D,) first token of each document
    sentences: np.ndarray  # (S,) first token of each sentence, in rising order; a document begins with one

    @classmethod
    def of(cls, texts, tokenizer, *, lines=False):
        """The Documents of texts. lines: each line is a sentence and is encoded by itself, which a
        tokenizer must allow whose tokens reach over the end of a line; else a document is one.

        tokenizer: gives encode, vocab_size and sep_id, or eos_id where there is none, to stand
        between documents. Documents without a token are left out;
        MinigptError where none is left.
        """
        if isinstance(texts, str):
            raise MinigptError("texts is a string, it must be a list of strings")
        kind = np.min_scalar_type(tokenizer.vocab_size - 1)
        pieces, starts, sentences, place = [], [], [], 0
        for text in texts:
            parts = [tokenizer.encode(part) for part in (text.splitlines() if lines else [text])]
            parts = [part for part in parts if len(part)]
            if not parts:
                continue
            if starts:
                pieces.append([tokenizer.eos_id if tokenizer.sep_id is None else tokenizer.sep_id])
                place += 1
            starts.append(place)
            ends = place + np.cumsum([len(part) for part in parts])
            sentences.append([place, *ends[:-1]])
            pieces += parts
            place = int(ends[-1])
        if not starts:
            raise MinigptError("the text has no token: it is empty, or nothing but spaces")
        return cls(np.concatenate(pieces).astype(kind), np.array(starts), np.concatenate(sentences))

    @property
    def ends(self):
        """(D,) the place after the last token of each document, where its separator stands."""
        return np.append(self.starts[1:] - 1, len(self.tokens))

    def __len__(self):
        """How many tokens."""
        return len(self.tokens)
