"""Mistakes planted in the objectives of two stacks: spans, prefixes, pairs."""

from minigpt.museum.planting import Edit, other
from minigpt.museum.source_target_oracles import (
    pairs_stay_together,
    prefixes,
    span_shares,
    spans_undone,
    target_rows,
)

CORRUPTION, SOURCE_TARGET = "objectives.span_corruption", "objectives.source_target"
UNDONE = "accounting: source and target put together again"
EXHIBITS = [
    other(
        "spans: sentinels count upwards",
        Edit(CORRUPTION, "SpanCorruption.source_target", "sentinel = self.sentinels[",
             "sentinel = self.sentinels[::-1]["),
        UNDONE, spans_undone, "sentinels",
        "none in training; a checkpoint from elsewhere is asked for its hundredth span first, and has little to say",
    ),
    other(
        "spans: a sentinel for each token, as a mask",
        Edit(CORRUPTION, "SpanCorruption.source_target", "begins[:, 1:] &= ~corrupted[:, :-1]", "pass"),
        UNDONE, spans_undone, "apart",
        "learns: that it is told how long a span is makes the loss lower, and what it is asked later longer",
    ),
    other(
        "spans: the target without its sentinels",
        Edit(CORRUPTION, "SpanCorruption.source_target", "np.stack([begins, corrupted], axis=2)",
             "np.stack([begins & False, corrupted], axis=2)"),
        UNDONE, spans_undone, "text, sentinels",
        "the loss is higher: the decoder can't say which of the spans it is at",
    ),
    other(
        "spans: what is hidden left in the source",
        Edit(CORRUPTION, "SpanCorruption.source_target", "begins | ~corrupted", "corrupted | ~corrupted"),
        UNDONE, spans_undone, "text",
        "the loss falls to a fraction of a nat: the answers stand in the source",
    ),
    other(
        "spans: 15% of the tokens begin a span",
        Edit("objectives.spans", "span_counts", "np.rint(rate * lengths)", "np.rint(mean_span * rate * lengths)"),
        "accounting: 15% in spans of 3", span_shares, "tokens, spans, rows that end with text",
        "the loss is higher: of each text almost half is hidden",
    ),
    other(
        "spans: one token each",
        Edit("objectives.spans", "span_counts", "np.rint(corrupted / mean_span)", "np.rint(corrupted)"),
        "accounting: 15% in spans of 3", span_shares, "spans, rows that end with text",
        "the loss is lower: it is BERT's objective, told by sentinels",
    ),
    other(
        "spans: cut in two where a row begins",
        Edit("objectives.spans", "span_mask", "may_begin[:, 1:] &= ~(mask[:, 1:] & mask[:, :-1])", "pass"),
        "accounting: 15% in spans of 3", span_shares, "spans, rows that end with text",
        "none to speak of: spans are a little shorter than was asked for",
    ),
    other(
        "spans: the last one always at the end of its row",
        Edit("objectives.spans", "span_mask", "(turn[:, 0] * may_begin.sum(axis=1))", "(0 * turn[:, 0])"),
        "accounting: 15% in spans of 3", span_shares, "rows that end with text",
        "short rows have one span, and it is always their end: the model learns to go on, not to fill in",
    ),
    other(
        "source and target: no end token behind them",
        Edit(SOURCE_TARGET, "packed", "rows[np.arange(len(rows)), lengths[:, 0]] = eos", "pass"),
        UNDONE, spans_undone, "text, ends",
        "trains well; what is generated never ends",
    ),
    other(
        "source and target: the decoder reads what it is to say",
        Edit(SOURCE_TARGET, "source_target_batch", "np.concatenate([start, targets[:, :-1]], axis=1)",
             "targets"),
        "accounting: what the decoder reads", target_rows, "read",
        "the loss falls to 0 at once: the decoder copies; what is generated repeats one token",
    ),
    other(
        "source and target: padding a target, too",
        Edit(SOURCE_TARGET, "source_target_batch", "np.where(target_mask, targets, IGNORED)", "targets"),
        "accounting: what the decoder reads", target_rows, "ignored",
        "the loss is too good: that padding follows padding is easily learned",
    ),
    other(
        "prefix LM: the source holds the target",
        Edit("objectives.prefix_lm", "PrefixLM.source_target", "(text, first), (text, ~first)",
             "(text, first | True), (text, ~first)"),
        "accounting: source and target end to end", prefixes, "windows, cuts",
        "the loss falls to 0 at once: the model copies; given a beginning alone, it has nothing to say",
    ),
    other(
        "prefix LM: cut in the middle, always",
        Edit("objectives.prefix_lm", "PrefixLM.source_target", "(numbers * (text.shape[1] - 1))",
             "(0 * numbers + (text.shape[1] - 1) // 2)"),
        "accounting: source and target end to end", prefixes, "cuts",
        "trains well; asked with a prefix of another length it is at a loss",
    ),
    other(
        "pairs: targets of other sources",
        Edit("data.text_pairs", "TextPairs.rows", "gather(self.targets, self.target_starts, chosen, fill)",
             "gather(self.targets, self.target_starts, np.roll(chosen, 1), fill)"),
        "accounting: pairs stay together", pairs_stay_together, "walked together, drawn together",
        "the loss stops at that of a language model: the source says nothing of the target",
    ),
    other(
        "pairs: the last ones never walked",
        Edit("objectives.pairs", "Pairs.walk", "range(0, len(chosen), rows)", "range(0, len(chosen) - rows, rows)"),
        "accounting: pairs stay together", pairs_stay_together, "walked together, walked",
        "validation loss says nothing of the shortest texts, which are walked last",
    ),
]  # fmt: skip
