"""T5's objective: spans of a text are to be found again from what stands around them.

Shapes: B rows, L tokens of text.
"""

import numpy as np

from minigpt.checks import flag, number
from minigpt.errors import MinigptError
from minigpt.objectives.batch import Batch
from minigpt.objectives.shown import spelt
from minigpt.objectives.source_target import SourceTarget
from minigpt.objectives.spans import MEAN_SPAN, RATE, random_numbers, span_counts, span_mask
from minigpt.ops.loss import IGNORED
from minigpt.tables import text_table


class SpanCorruption(SourceTarget):
    """A share of a window's tokens, in spans, each of which is replaced by one sentinel; the target
    is each sentinel and after it what it stands for (Raffel et al. 2019, arXiv:1910.10683, sections
    3.1.4 and 3.3.4):

        text    Thank you for inviting me to your party last week
        source  Thank you <extra_id_0> me to your party <extra_id_1> week </s>
        target  <extra_id_0> for inviting <extra_id_1> last </s>

    A row's first span has <extra_id_0>. Special tokens are never corrupted: the share is of the
    others, and a span that meets one goes on behind it as the next span. Where there are more spans
    than sentinels, the last ones stay text. A walk corrupts 15% in spans of 3 in the mean, whatever
    a run is trained with.

    As in T5 all rows of one length have as many corrupted tokens, in as many spans. A model of
    short rows soon knows these numbers, and writes as much whatever it is asked; varied, each row
    that is drawn has a share of its own, from none, but at least a token, to twice mask_rate.
    """

    name = "span_corruption"

    def __init__(self, tokenizer, length, *, mask_rate=RATE, mean_span=MEAN_SPAN, varied=False):
        """mask_rate: share of the tokens that is corrupted; mean_span: tokens of a span in the
        mean, see spans.span_counts; others as for SourceTarget.
        MinigptError for a share or mean out of range, a row without room for the spans, too few
        sentinels, and one that is not of the tokenizer's vocabulary.
        """
        super().__init__(tokenizer, length, at_least=2)
        self.mask_rate = number("mask rate", mask_rate, at_least=0, below=1)
        self.mean_span = number("mean span", mean_span, at_least=1)
        if flag("varied", varied):
            number("twice the mask rate, which a row of its own may have,", 2 * mask_rate, below=1)
        self.varied = varied
        self.sentinels = np.asarray(tokenizer.sentinel_ids, np.int64)
        if len(self.sentinels) and self.sentinels.max() >= tokenizer.vocab_size:
            last = self.sentinels.max()
            raise MinigptError(f"sentinel {last} is not of the tokenizer's {tokenizer.vocab_size} tokens")
        self.ordinary = np.ones(tokenizer.vocab_size, bool)
        for special in (tokenizer.special_ids, self.sentinels, [tokenizer.pad_id, tokenizer.eos_id]):
            self.ordinary[special] = False
        self.check_room()
        for rate, mean in ((self.most, self.mean_span), (RATE, MEAN_SPAN)):
            self.check_sentinels(rate, mean)

    @property
    def most(self):
        """The largest share that a row's corrupted tokens may be."""
        return 2 * self.mask_rate if self.varied else self.mask_rate

    def check_room(self):
        """MinigptError where a row has no room for text between its spans."""
        (corrupted,), (spans,) = span_counts(np.array([self.length]), self.mask_rate, self.mean_span)
        if spans < (wanted := round(corrupted / self.mean_span)):
            shares = f"a mask rate of {self.mask_rate} in spans of {self.mean_span}"
            raise MinigptError(f"{shares}: {wanted} spans in a row of {self.length} tokens have no text between them")

    def check_sentinels(self, rate, mean_span):
        """MinigptError where the tokenizer has too few sentinels for a row's spans."""
        _, (spans,) = span_counts(np.array([self.length]), rate, mean_span)
        if spans > len(self.sentinels):
            have, shares = (
                f"the tokenizer has {len(self.sentinels)} sentinels",
                f"rate of {rate} in spans of {mean_span}",
            )
            raise MinigptError(f"{have}, a mask {shares} needs {spans} in a row of {self.length} tokens")

    @property
    def settings(self):
        """What a run with this objective has to keep, to be resumed -> dict for JSON."""
        settings = {"objective": self.name, "sequence_length": self.length}
        return settings | {"mask_rate": self.mask_rate, "mean_span": self.mean_span, "varied": self.varied}

    @property
    def numbers(self):
        """How many random numbers a row takes."""
        return 1 + random_numbers(self.length)

    def check(self, tokens, vocab_size, name="text"):
        """MinigptError as for SourceTarget, and where no window has what may be corrupted."""
        super().check(tokens, vocab_size, name)
        if not any((batch["targets"] != IGNORED).sum() > batch.rows for batch in self.walk(tokens, 32)):
            raise MinigptError(f"{name}: all tokens are special, such as the unknown one: no span can be corrupted")

    def source_target(self, text, numbers, *, held_out=False):
        """See SourceTarget.source_target."""
        own = self.most * numbers[:, 0] if self.varied else np.full(len(text), self.mask_rate)
        rate, mean_span = (RATE, MEAN_SPAN) if held_out else (own, self.mean_span)
        corrupted = np.zeros(text.shape, bool)
        ordinary = self.ordinary[text]
        lengths = ordinary.sum(axis=1)
        mask = span_mask(lengths, rate, mean_span, numbers[:, 1:])
        corrupted[ordinary] = mask[np.arange(text.shape[1]) < lengths[:, None]]
        begins = corrupted.copy()
        begins[:, 1:] &= ~corrupted[:, :-1]
        span = np.cumsum(begins, axis=1) - 1  # (B, L), of a corrupted token: which span it is of
        corrupted &= span < len(self.sentinels)
        begins &= corrupted
        sentinel = self.sentinels[np.minimum(np.maximum(span, 0), len(self.sentinels) - 1)]
        source = np.where(begins, sentinel, text), begins | ~corrupted
        both = np.stack([sentinel, text], axis=2), np.stack([begins, corrupted], axis=2)  # (B, L, 2)
        return source, tuple(part.reshape(len(text), -1) for part in both)

    def parts(self, batch):
        """The targets of a batch apart: tokens of the text, and sentinels with </s>, which say
        where a span ends -> dict of two Batches, whose other targets are -100.
        """
        targets = batch["targets"]
        of_text = (targets != IGNORED) & self.ordinary[np.maximum(targets, 0)]
        parts = {"span_text": of_text, "sentinels": ~of_text}
        return {name: Batch({**batch, "targets": np.where(part, targets, IGNORED)}) for name, part in parts.items()}

    def show(self, text, seed=0):
        """What the objective makes of a sentence, as text. MinigptError for one that is too
        short.
        """
        ids = self.text_of(text)
        numbers = np.random.default_rng(seed).random((1, 1 + random_numbers(ids.shape[1])))
        batch = self.batch(ids, numbers)
        lines = [("text", ids[0]), ("source", batch["ids"][0]), ("target", batch["targets"][0])]
        table = [("sentinel", "span")]
        for token in batch["targets"][0].tolist():
            spelling = self.tokenizer.id_to_token(token)
            if token in self.sentinels:
                table.append((spelling, ""))
            elif token != self.tokenizer.eos_id:
                table[-1] = (table[-1][0], f"{table[-1][1]} {spelling}".strip())
        lines = [f"{name:<8} {spelt(self.tokenizer, row)}" for name, row in lines]
        return "\n".join([*lines, "", *text_table(table, left=(0, 1))])
