"""What the objectives of two stacks make of texts, undone and counted. Each is a function of
nothing to a Finding.

Shapes: B rows, S source, T target.
"""

import itertools
import types

import numpy as np

from minigpt.data.text_pairs import TextPairs
from minigpt.museum.oracles import compared
from minigpt.objectives import Pairs, PrefixLM, SpanCorruption
from minigpt.ops.loss import IGNORED

PAD, EOS, FIRST, LENGTH, ROWS = 0, 1, 3, 24, 300  # ids; tokens of a row of text
SENTINELS = np.arange(49, 39, -1)  # they count down from the vocabulary's end
TOKENIZER = types.SimpleNamespace(
    pad_id=PAD, eos_id=EOS, special_ids=np.arange(FIRST), sentinel_ids=SENTINELS, vocab_size=50,
    encode=lambda text: np.array(text.split(), np.int64),
)  # fmt: skip


def text_of_ordinary_tokens():
    """Tokens (N,) that are no sentinels and not special."""
    return np.random.default_rng(25).integers(FIRST, 40, 2000)


def batch_of(kind):
    """A batch of an objective."""
    return kind(TOKENIZER, LENGTH).draw(text_of_ordinary_tokens(), ROWS, np.random.default_rng(26))


def windows():
    """All windows of the text."""
    text = text_of_ordinary_tokens().tolist()
    return {tuple(text[i : i + LENGTH]) for i in range(len(text) - LENGTH + 1)}


def kept(row, mask):
    """The tokens of a row that are not padding, as a list."""
    return row[mask == 1].tolist()


def sources_and_targets(batch):
    """Rows as lists, without padding and what is ignored."""
    sources = [kept(*pair) for pair in zip(batch["ids"], batch["attention_mask"])]
    targets = [row[row != IGNORED].tolist() for row in batch["targets"]]
    return sources, targets


def spans_of(target):
    """What stands behind each sentinel of a target: list of (sentinel, list)."""
    spans = []
    for token in target:
        if token in SENTINELS:
            spans.append((token, []))
        elif token != EOS and spans:
            spans[-1][1].append(token)
    return spans


@compared(limit=0)
def spans_undone():
    """Source and target put together again, each sentinel by what the target has behind it: how
    many rows are windows of the text; how many have their sentinels in order, counted down, the end
    token at both ends, and no two sentinels side by side.
    """
    sources, targets = sources_and_targets(batch_of(SpanCorruption))
    right, found = windows(), dict.fromkeys(("text", "sentinels", "ends", "apart"), 0)
    for source, target in zip(sources, targets):
        spans = spans_of(target)
        behind = dict(spans)
        whole = [t for token in source if token != EOS for t in (behind.get(token, [token]))]
        found["text"] += tuple(whole) in right
        asked = [token for token in source if token in SENTINELS]
        found["sentinels"] += asked == [token for token, _ in spans] == SENTINELS[: len(asked)].tolist()
        found["ends"] += source[-1] == EOS == target[-1]
        found["apart"] += not any(a in SENTINELS and b in SENTINELS for a, b in itertools.pairwise(source))
    return {name: (n, ROWS) for name, n in found.items()}


@compared(limit=0.04)
def span_shares():
    """Tokens in spans, of 24 in a row: round(0.15 * 24) = 4 of them, in round(4 / 3) = 1 span; and
    how often a row ends with a span, of 1 + 20 places that it may have about one in 21.
    """
    sources, targets = sources_and_targets(batch_of(SpanCorruption))
    spans = [spans_of(target) for target in targets]
    tokens = sum(len(span) for row in spans for _, span in row)
    at_end = sum(source[-2] in SENTINELS for source in sources)
    return {
        "tokens": (tokens / ROWS, 4),
        "spans": (sum(map(len, spans)) / ROWS, 1),
        "rows that end with text": (1 - at_end / ROWS, 20 / 21),
    }


@compared(limit=0)
def target_rows():
    """What a decoder reads, one target earlier, and what is ignored: padding alone."""
    batch = batch_of(PrefixLM)
    targets, mask = batch["targets"], batch["decoder_attention_mask"]
    before = np.where(targets == IGNORED, PAD, targets)[:, :-1]
    right = np.concatenate([np.full((ROWS, 1), PAD), before], axis=1)
    return {"read": (batch["decoder_input_ids"] * mask, right * mask), "ignored": (targets == IGNORED, mask == 0)}


@compared(limit=0)
def prefixes():
    """Source and target end to end are the window; each place to cut is drawn."""
    sources, targets = sources_and_targets(batch_of(PrefixLM))
    right = windows()
    whole = sum(tuple(s[:-1] + t[:-1]) in right for s, t in zip(sources, targets))
    return {"windows": (whole, ROWS), "cuts": (len({len(s) for s in sources}), LENGTH - 1)}


@compared(limit=0)
def pairs_stay_together():
    """Pairs whose target is the source, each token one more: none is torn apart by what sorts
    them, each is walked once.
    """
    rng = np.random.default_rng(27)
    rows = [rng.integers(FIRST, 40, n) for n in rng.integers(1, 9, 40)]
    data = TextPairs.of([(" ".join(map(str, r)), " ".join(map(str, r + 1))) for r in rows], TOKENIZER)
    objective, walked, together = Pairs(TOKENIZER, 10), [], 0
    for batch in objective.walk(data, 7):
        sources, targets = sources_and_targets(batch)
        together += sum([t + 1 for t in s[:-1]] == row[:-1] for s, row in zip(sources, targets))
        walked += map(tuple, sources)
    sources, targets = sources_and_targets(objective.draw(data, 30, rng))
    drawn = sum([t + 1 for t in s[:-1]] == row[:-1] for s, row in zip(sources, targets))
    return {"walked together": (together, 40), "drawn together": (drawn, 30), "walked": (len(walked), 40)}
