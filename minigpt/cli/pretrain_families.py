"""What `minigpt pretrain` does for each family: its tokenizer, its objective, its model, and what
its loss is compared with.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigpt.checks import number
from minigpt.models.t5 import FEED_FORWARD
from minigpt.objectives import MaskedLM, NextSentence, SpanCorruption, baseline_losses
from minigpt.objectives.spans import MEAN_SPAN, RATE, span_counts
from minigpt.ops.activations import ACTIVATIONS

ENCODER_OPTIONS = ("mask_rate", "whole_words", "static", "short_length", "short_share")
SPAN_OPTIONS = ("mask_rate", "mean_span", "varied")
SENTINELS = 20  # of a T5's tokenizer, or as many as its rows need: gaps that a sentence may have


class Family(NamedTuple):
    """How a family is pre-trained."""

    train_tokenizer: Callable  # texts, settings -> tokenizer
    lines: bool  # whether each line of a document is a sentence by itself
    objective: Callable  # tokenizer, settings -> objective
    options: tuple  # settings of the objective that are its own, beside sequence_length
    documents: bool  # whether the objective takes Documents, not a row of tokens
    fields: Callable  # tokenizer, objective -> fields of the model's config that are no options
    fixed: tuple  # fields of the config that are no options
    choices: dict  # of those that are: name -> values
    example: str  # a text to fill
    verdict: Callable  # trainer, batches, baselines -> lines


def train_wordpiece(texts, settings):
    """BERT's tokenizer."""
    from minigpt.tokenizers import WordPieceTokenizer

    return WordPieceTokenizer.train("\n".join(texts), settings["tokenizer_vocab_size"])


def train_byte_level(texts, settings):
    """RoBERTa's tokenizer."""
    from minigpt.tokenizers import BPETokenizer
    from minigpt.tokenizers.bpe_files import ROBERTA

    return BPETokenizer.train("\n".join(texts), settings["tokenizer_vocab_size"], ROBERTA)


def train_unigram(texts, settings):
    """T5's tokenizer, with as many sentinels as a row has spans, and no less than SENTINELS."""
    from minigpt.tokenizers import UnigramTokenizer

    length = np.array([settings["sequence_length"]])
    number("mask rate", settings["mask_rate"], at_least=0, below=1)  # as the objective says, before it is made
    number("mean span", settings["mean_span"], at_least=1)
    most = settings["mask_rate"] * (2 if settings["varied"] else 1)
    shares = ((most, settings["mean_span"]), (RATE, MEAN_SPAN))
    needed = max(int(span_counts(length, *share)[1][0]) for share in shares)
    return UnigramTokenizer.train("\n".join(texts), settings["tokenizer_vocab_size"], extra_ids=max(SENTINELS, needed))


def encoder_fields(head, unused):
    """The fields of an encoder's config that its tokenizer and objective decide; unused: positions
    that no token has.
    """

    def fields(tokenizer, objective):
        positions = objective.length + unused(tokenizer)
        return {"pad_token_id": tokenizer.pad_id, "head": head, "max_position_embeddings": positions}

    return fields


def t5_fields(tokenizer, objective):
    """Those of a T5's."""
    pad = tokenizer.pad_id
    return {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": tokenizer.eos_id}


def baselines(trainer):
    """The held-out batches of a run, and baseline_losses on them -> batches, dict."""
    train = getattr(trainer.train_tokens, "tokens", trainer.train_tokens)
    batches = list(trainer.objective.walk(trainer.val_tokens, 32))
    return batches, baseline_losses(train, batches, trainer.tokenizer.vocab_size, trainer.tokenizer.special_ids)


def compared(what, own, nats, count):
    """How a loss compares with what knows no context -> two lines."""
    unigram, bigram = nats["unigram"], nats["bigram"]
    yield f"{what}: {own:.4f} nats each, {own / unigram:.3f} of what their frequencies alone give"
    known = f"bigram, the piece before known, {bigram:.4f}, {bigram / unigram:.3f}"
    yield f"  (unigram {unigram:.4f}; {known}; {count:,} held-out pieces)"


def encoder_verdict(trainer):
    """How the loss of hidden tokens compares with that of predictors without context, and how often
    the model is right about the next sentence -> lines.
    """
    batches, nats = baselines(trainer)
    hidden = sum(batch.counts["targets"] for batch in batches)
    yield from compared("hidden pieces", trainer.measures["masked_lm"], nats, hidden)
    if "next_sentence_accuracy" in trainer.measures:
        pairs, share = sum(batch.rows for batch in batches), trainer.measures["next_sentence_accuracy"]
        yield f"next sentence: right about {share:.1%} of {pairs:,} held-out pairs"


def span_verdict(trainer):
    """How the loss of the pieces in spans compares with that of predictors without context, on the
    same pieces; and by itself that of sentinels and </s>, which say where a span ends -> lines.
    """
    batches, nats = baselines(trainer)
    apart = [trainer.objective.parts(batch) for batch in batches]
    text, ends = (sum(parts[kind].counts["targets"] for parts in apart) for kind in ("span_text", "sentinels"))
    own, of_ends = (trainer.measures[kind] for kind in ("span_text", "sentinels"))
    yield from compared("pieces in spans", own, nats, text)
    yield f"  sentinels and </s> apart: {of_ends:.4f} nats each of {ends:,}; the validation loss is of all targets"


FIXED = ("vocab_size", "pad_token_id")  # fields of every config that the tokenizer decides
ENCODER = {"fixed": (*FIXED, "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "head", "num_labels")}
ENCODER |= {"choices": {"activation": tuple(ACTIVATIONS)}, "options": ENCODER_OPTIONS}
ENCODER |= {"example": "To be or not to {}", "verdict": encoder_verdict}
FAMILIES = {
    "bert": Family(
        train_wordpiece, objective=NextSentence, documents=True, lines=True,
        fields=encoder_fields("pretraining", lambda tokenizer: 0), **ENCODER,
    ),
    "roberta": Family(
        train_byte_level, objective=MaskedLM, documents=False, lines=False,
        fields=encoder_fields("masked_lm", lambda tokenizer: tokenizer.pad_id + 1), **ENCODER,
    ),
    "t5": Family(
        train_unigram, objective=SpanCorruption, documents=False, lines=False, options=SPAN_OPTIONS, fields=t5_fields,
        fixed=(*FIXED, "layer_norm_epsilon", "scale_decoder_outputs", "eos_token_id", "decoder_start_token_id"),
        choices={"feed_forward_proj": tuple(FEED_FORWARD)}, example="To be or {} to be", verdict=span_verdict,
    ),
}  # fmt: skip
