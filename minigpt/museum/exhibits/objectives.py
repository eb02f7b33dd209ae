"""Mistakes planted in what makes batches of hidden tokens and of pairs of sentences."""

from minigpt.museum.objective_oracles import (
    every_window,
    mask_accounting,
    mask_shares,
    new_masks,
    next_sentences,
    whole_words,
)
from minigpt.museum.planting import Edit, other

EXHIBITS = [
    other(
        "masks: every token a target, not the hidden ones alone",
        Edit("objectives.masking", "Masking.apply", "np.where(chosen, ids, IGNORED)", "ids"),
        "accounting: 15% are targets", mask_shares, "masked, random, targets",
        "the loss falls to a seventh at once: most targets are in plain sight; it hardly learns to fill in",
    ),
    other(
        "masks: targets read after the tokens were hidden",
        Edit("objectives.masking", "Masking.apply", "np.where(chosen, ids,", "np.where(chosen, shown,"),
        "accounting: targets are the hidden tokens", mask_accounting, "targets",
        "the loss falls to a fraction of a nat: the model says [MASK] wherever it sees it",
    ),
    other(
        "masks: hidden tokens always masked, never kept",
        Edit("objectives.masking", "Masking.apply", "chosen & (fate < MASKED), self.mask_id", "chosen, self.mask_id"),
        "accounting: 80% masked", mask_shares, "masked",
        "none in pre-training; fine-tuned, where no mask is seen, it is a little worse",
    ),
    other(
        "masks: the tenth that should be random left as it is",
        Edit("objectives.masking", "Masking.apply", "random, shown)", "ids, shown)"),
        "accounting: 10% random", mask_shares, "random",
        "the loss is a little too good: what is not masked is always right",
    ),
    other(
        "masks: special tokens hidden, too",
        Edit("objectives.masking", "Masking.apply", "~self.special[ids]", "np.ones(ids.shape, bool)"),
        "accounting: no special token is a target", mask_accounting, "special tokens hidden",
        "the loss is too good: [CLS] and [SEP] are the easiest tokens to find again",
    ),
    other(
        "masks: random tokens drawn from the special ones, too",
        Edit(
            "objectives.masking", "Masking.apply",
            "self.ordinary[(other * len(self.ordinary)).astype(np.int64)]",
            "(other * len(self.special)).astype(np.int64)",
        ),
        "accounting: no special token is drawn", mask_accounting, "special tokens drawn",
        "none with 30,000 tokens; with a small vocabulary a [SEP] now and then in the middle of a sentence",
    ),
    other(
        "masks: a word's pieces hidden one by one",
        Edit("objectives.masking", "Masking.choose", "if self.continues is not None", "if False"),
        "accounting: words hidden whole", whole_words, "words cut",
        "the loss is lower than that of whole words: a piece gives its neighbours away",
    ),
    other(
        "masks: drawn once and for all, not anew",
        Edit("objectives.masked_lm", "MaskedLM.draw", "if self.static:", "if True:"),
        "accounting: new masks each time", new_masks, "dynamic",
        "trains on, and learns the masks by heart: training loss falls below that of held-out text",
    ),
    other(
        "masked LM: the text's last window never drawn",
        Edit("objectives.masked_lm", "MaskedLM.any_places", "len(tokens) - self.room + 1", "len(tokens) - self.room"),
        "accounting: every window", every_window, "windows",
        "none",
    ),
    other(
        "next sentence: the label flipped",
        Edit("objectives.next_sentence", "NextSentence.rows", '"next_sentence": label', '"next_sentence": 1 - label'),
        "accounting: 0 where the second follows", next_sentences, "labels",
        "none at all in training; a checkpoint from elsewhere is wrong about every pair",
    ),
    other(
        "next sentence: one kind of token for both segments",
        Edit("objectives.next_sentence", "NextSentence.rows", "behind >= 0", "behind > ids.shape[1]"),
        "accounting: token types", next_sentences, "token types",
        "none to speak of: [SEP] tells the segments apart as well; a row of the table is never trained",
    ),
]  # fmt: skip
