"""What objectives make of texts, counted: masks, words, pairs of sentences. Each is a function of
nothing to a Finding.

Shapes: B rows, T time.
"""

import types

import numpy as np

from minigpt.data.documents import Documents
from minigpt.museum.oracles import compared
from minigpt.objectives import MaskedLM, Masking, NextSentence
from minigpt.ops.loss import IGNORED

CLS, SEP, MASK, FIRST = 2, 3, 4, 5  # ids; FIRST: of the ordinary tokens
VOCABULARY = 45
TOKENIZER = types.SimpleNamespace(
    cls_id=CLS, sep_id=SEP, mask_id=MASK, special_ids=np.arange(FIRST), vocab_size=VOCABULARY,
    continues=np.arange(VOCABULARY) % 3 == 2, encode=lambda text: FIRST + np.array(text.split(), np.int64),
)  # fmt: skip


def masked_rows(**settings):
    """Rows with special tokens at both ends, before and after masking: ids (B, T), Masked."""
    rng = np.random.default_rng(21)
    ids = rng.integers(FIRST, VOCABULARY, (400, 50))
    ids[:, 0], ids[:, -1] = CLS, SEP
    return ids, Masking(TOKENIZER, **settings).apply(ids, rng.random((400, Masking.numbers(50))))


@compared(limit=0.03)
def mask_shares():
    """Of the ordinary tokens 15% are targets, of which 80% show the mask token, and 10% another
    one: one random token in 40 is the right one.
    """
    ids, masked = masked_rows()
    hidden = masked.targets != IGNORED
    ids, shown = ids[hidden], masked.ids[hidden]
    random = (shown != MASK) & (shown != ids)
    share = hidden.sum() / (400 * 48)
    return {"masked": ((shown == MASK).mean(), 0.8), "random": (1 + random.mean(), 1.0975), "targets": (share, 0.15)}


@compared(limit=0)
def mask_accounting():
    """Targets are the hidden tokens as they were; all others are ignored and shown as they are;
    special tokens are neither hidden nor drawn.
    """
    ids, masked = masked_rows(rate=0.5)
    hidden = masked.targets != IGNORED
    changed = masked.ids[masked.ids != ids]
    return {
        "targets": (masked.targets[hidden], ids[hidden]),
        "others": (masked.ids[~hidden], ids[~hidden]),
        "special tokens hidden": (1 + hidden[ids < FIRST].sum(), 1),
        "special tokens drawn": (1 + ((changed < FIRST) & (changed != MASK)).sum(), 1),
    }


@compared(limit=0)
def whole_words():
    """A word's pieces are hidden together or not at all: of how many pieces that differs from the
    one before.
    """
    ids, masked = masked_rows(whole_words=True)
    hidden = masked.targets != IGNORED
    continued = TOKENIZER.continues[ids[:, 1:]] & (ids[:, :-1] >= FIRST) & (ids[:, 1:] >= FIRST)
    return {"words cut": (1 + (hidden[:, 1:] != hidden[:, :-1])[continued].sum(), 1)}


@compared(limit=0)
def new_masks():
    """One window, drawn forty times: dynamic masks differ, static ones never do."""
    tokens, found = np.arange(FIRST, FIRST + 18), {}
    for static in (False, True):
        batch = MaskedLM(TOKENIZER, 20, static=static).draw(tokens, 40, np.random.default_rng(22))
        found[static] = len({row.tobytes() for row in batch["targets"]})
    return {"dynamic": (found[False] > 20, 1), "static": (found[True], 1)}


@compared(limit=0)
def every_window():
    """Of 24 tokens all 7 windows of 18 are drawn, between the two tokens that stand around."""
    batch = MaskedLM(TOKENIZER, 20).draw(np.arange(FIRST, FIRST + 24), 200, np.random.default_rng(24))
    ids = np.where(batch["targets"] != IGNORED, batch["targets"], batch["ids"])
    around = ids[:, [0, -1]]
    return {"windows": (np.unique(ids[:, 1]), FIRST + np.arange(7)), "around": (around, [[CLS, SEP]] * 200)}


def sentence_pairs():
    """Rows of two segments of a document whose tokens count upwards, and a batch of them."""
    documents = Documents.of(["0 1 2 3 4 5 6 7 8 9 10 11 12 13", "20 21 22 23 24 25 26 27 28 29 30 31"], TOKENIZER)
    return NextSentence(TOKENIZER, 11, mask_rate=0).draw(documents, 60, np.random.default_rng(23))


@compared(limit=0)
def next_sentences():
    """0 where the second segment goes on with the token after the first, 1 elsewhere; both in about
    half of the rows; token types 0 up to the first separator and 1 from there on.
    """
    batch = sentence_pairs()
    ids = np.where(batch["targets"] != IGNORED, batch["targets"], batch["ids"])
    first = (ids == SEP).argmax(axis=1)  # the separator after the first segment
    rows = np.arange(len(ids))
    follows = ids[rows, first + 1] == ids[rows, first - 1] + 1
    kinds = np.arange(ids.shape[1]) > first[:, None]
    half = abs(batch["next_sentence"].mean() - 0.5) < 0.2
    labels = batch["next_sentence"], 1 - follows
    return {"labels": labels, "halves": (half, 1), "token types": (batch["token_type_ids"], kinds)}
