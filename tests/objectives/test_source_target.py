"""Objectives of an encoder and a decoder: what they make of a text is all there, no more."""

import re
import time

import numpy as np
import pytest
from pieces import SentinelPieces

from minigpt import MinigptError
from minigpt.objectives import PrefixLM, SpanCorruption

TOKENIZER = SentinelPieces([str(i) for i in range(300)], sentinels=9)
PAD, EOS, UNK = TOKENIZER.pad_id, TOKENIZER.eos_id, TOKENIZER.unk_id
VOCAB = TOKENIZER.vocab_size
KINDS = {"spans": SpanCorruption, "prefix": PrefixLM}


@pytest.fixture
def tokens(rng):
    return rng.integers(3, VOCAB - 9, 900).astype(np.uint16)


def rows(batch):
    """Source and target of each row, without padding; what is said of a batch is checked."""
    assert all(value.dtype == np.int64 for value in batch.values())
    for ids, mask, targets, inputs, seen in zip(*(batch[name] for name in (
        "ids", "attention_mask", "targets", "decoder_input_ids", "decoder_attention_mask"
    ))):  # fmt: skip
        source, target = ids[mask == 1].tolist(), targets[targets != -100].tolist()
        assert mask.tolist() == [1] * len(source) + [0] * (len(ids) - len(source))
        assert seen.tolist() == [1] * len(target) + [0] * (len(targets) - len(target))
        assert (ids[len(source) :] == PAD).all() and (targets[len(target) :] == -100).all()
        assert inputs[: len(target)].tolist() == [PAD, *target[:-1]]
        assert source[-1] == target[-1] == EOS
        yield source[:-1], target[:-1]


def spans_of(target, sentinels):
    """sentinel -> the tokens after it."""
    spans, order = {}, []
    for token in target:
        if token in sentinels:
            order.append(token)
            spans[token] = []
        else:
            spans[order[-1]].append(token)
    assert order == list(sentinels[: len(order)])  # in order, downwards, none twice
    return spans


def restored(source, target, sentinels=TOKENIZER.sentinel_ids):
    """The text that a row was made of."""
    spans = spans_of(target, sentinels)
    assert [token for token in source if token in sentinels] == list(spans)
    return [t for token in source for t in spans.get(token, [token])]


def places_in(text, tokens):
    return "".join(map(chr, np.asarray(tokens) + 100)).find("".join(map(chr, np.asarray(text) + 100)))


def test_text_is_restored_from_source_and_target(rng, tokens):
    batch = SpanCorruption(TOKENIZER, 40, mask_rate=0.3).draw(tokens, 50, rng)
    texts = [restored(*row) for row in rows(batch)]
    assert {len(text) for text in texts} == {40}
    places = [places_in(text, tokens) for text in texts]
    assert min(places) >= 0 and len(set(places)) > 40
    assert batch["ids"].shape == (50, 40 - 12 + 4 + 1) and batch["targets"].shape == (50, 12 + 4 + 1)
    assert batch["targets"].max() == VOCAB - 1 == TOKENIZER.token_to_id("<extra_id_0>")


def test_rate_and_mean_span_are_those_asked_for(rng, tokens):
    for rate, mean in ((0.15, 3.0), (0.5, 4.0), (0.2, 1.0)):
        objective = SpanCorruption(
            SentinelPieces([str(i) for i in range(300)], 40), 100, mask_rate=rate, mean_span=mean
        )
        spans = [
            span
            for _, target in rows(objective.draw(tokens, 40, rng))
            for span in spans_of(target, objective.tokenizer.sentinel_ids).values()
        ]
        assert sum(map(len, spans)) == 40 * 100 * rate
        assert np.mean([len(span) for span in spans]) == pytest.approx(mean, rel=0.05)
        assert min(map(len, spans)) >= 1


def test_rows_of_their_own_shares_have_the_same_in_the_mean(rng, tokens):
    objective = SpanCorruption(SentinelPieces([str(i) for i in range(300)], 40), 100, mask_rate=0.25, varied=True)
    sentinels, counts = objective.tokenizer.sentinel_ids, []
    for _ in range(3):
        batch = objective.draw(tokens, 60, rng)
        counts += [(len(target) - len(spans_of(target, sentinels)), len(spans_of(target, sentinels)))
                   for _, target in rows(batch)]  # fmt: skip
        assert {len(restored(*row, sentinels)) for row in rows(batch)} == {100}
    corrupted, spans = np.array(counts).T
    assert corrupted.mean() == pytest.approx(25, rel=0.15)
    assert corrupted.min() < 3 and corrupted.max() > 47 and np.std(corrupted) == pytest.approx(50 / 12**0.5, rel=0.15)
    assert corrupted.sum() / spans.sum() == pytest.approx(3, rel=0.1)
    plain = SpanCorruption(objective.tokenizer, 100)
    assert [*map(list, rows(next(plain.walk(tokens, 9))))] == [*map(list, rows(next(objective.walk(tokens, 9))))]


def test_special_tokens_stay_and_cut_spans(rng, tokens):
    tokens[::4] = rng.choice([EOS, UNK, PAD, VOCAB - 3], len(tokens[::4]))
    batch = SpanCorruption(TOKENIZER, 40, mask_rate=0.4).draw(tokens, 60, rng)
    cut = 0
    for (ids, mask), targets in zip(zip(batch["ids"], batch["attention_mask"]), batch["targets"]):
        source, target = ids[mask == 1][:-1].tolist(), targets[targets != -100][:-1]
        spans, number = {}, -1
        for token in target.tolist():  # nothing but sentinels in order, and ordinary tokens
            if number + 1 < 9 and token == TOKENIZER.sentinel_ids[number + 1]:
                number += 1
                spans[number] = []
            else:
                assert 3 <= token < VOCAB - 9
                spans[number].append(token)
        assert sum(map(len, spans.values())) <= 0.4 * 30 + 1
        cut += number + 1 > 4
        texts, number = [], 0  # the sentinel that stands in the text itself looks like one of ours
        for token in source:
            mine = number in spans and token == TOKENIZER.sentinel_ids[number]
            texts += spans[number] if mine else [token]
            number += mine
        if VOCAB - 3 not in source:
            assert places_in(texts, tokens) >= 0
    assert cut > 20


def test_spans_beyond_the_last_sentinel_stay_text(rng):
    tokenizer = SentinelPieces([str(i) for i in range(300)], sentinels=4)
    tokens = rng.integers(3, 303, 900)
    tokens[::3] = UNK
    batch = SpanCorruption(tokenizer, 40, mask_rate=0.3).draw(tokens, 60, rng)
    texts = [restored(*row, tokenizer.sentinel_ids) for row in rows(batch)]
    assert {len(text) for text in texts} == {40} and all(places_in(text, tokens) >= 0 for text in texts)
    assert max(len(spans_of(target, tokenizer.sentinel_ids)) for _, target in rows(batch)) == 4


def test_prefix_is_cut_anywhere(rng, tokens):
    batch = PrefixLM(TOKENIZER, 12).draw(tokens, 400, rng)
    pairs = list(rows(batch))
    assert {len(source) + len(target) for source, target in pairs} == {12}
    assert {len(source) for source, _ in pairs} == set(range(1, 12))
    assert np.bincount([len(source) for source, _ in pairs]).max() < 70
    assert all(places_in(source + target, tokens) >= 0 for source, target in pairs)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_walk_shows_the_text_once_and_the_same_each_time(tokens, kind):
    first, again = (list(kind(TOKENIZER, 40).walk(tokens, size)) for size in (9, 5))
    assert [batch.rows for batch in first] == [9, 9, 4] and sum(batch.rows for batch in again) == 22
    join = restored if kind is SpanCorruption else lambda source, target: source + target
    made = [[row for batch in run for row in rows(batch)] for run in (first, again)]
    assert made[0] == made[1]
    np.testing.assert_array_equal(np.concatenate([join(*row) for row in made[0]]), tokens[: 22 * 40])
    assert len({(len(source), tuple(target[:2])) for source, target in made[0]}) > 15  # not one mask for all


def test_walk_is_at_the_papers_rate_whatever_the_run(tokens):
    ours, theirs = (
        [row for batch in SpanCorruption(TOKENIZER, 40, **options).walk(tokens, 9) for row in rows(batch)]
        for options in ({}, {"mask_rate": 0.5, "mean_span": 4.0})
    )
    assert ours == theirs
    assert sum(len(target) - 2 for _, target in ours) == 22 * 6


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_equal_generators_draw_equal_batches(tokens, kind):
    objective = kind(TOKENIZER, 40)
    a, b, c = (objective.at(0.3).draw(tokens, 8, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all((a[name] == b[name]).all() for name in a)
    assert a["ids"].shape != c["ids"].shape or (a["ids"] != c["ids"]).any()
    places = [
        places_in(row[:1], tokens[:42])
        for row, _ in rows(kind(TOKENIZER, 40).draw(tokens[:42], 200, np.random.default_rng(0)))
    ]
    assert kind is SpanCorruption or set(places) == {0, 1, 2}  # the first and the last window too


def test_parts_are_text_and_what_says_where_it_ends(rng, tokens):
    objective = SpanCorruption(TOKENIZER, 40)
    batch = objective.draw(tokens, 7, rng)
    parts = objective.parts(batch)
    text, others = (part["targets"] for part in parts.values())
    assert list(parts) == ["span_text", "sentinels"]
    np.testing.assert_array_equal(np.maximum(text, others), batch["targets"])
    assert (text >= 0).sum() == 7 * 6 and ((text < VOCAB - 9) & ((text >= 3) | (text == -100))).all()
    assert (others >= 0).sum() == 7 * 3
    for part in parts.values():
        assert all(part[name] is batch[name] for name in batch if name != "targets")


def test_show_is_what_a_batch_has():
    tokenizer = SentinelPieces("Thank you for inviting me to your party last week .".split())  # noqa: SIM905
    text = "Thank you for inviting me to your party last week ."
    shown = SpanCorruption(tokenizer, 20, mask_rate=0.4, mean_span=2.0).show(text, seed=4)
    lines = dict(re.findall(r"^(text|source|target) +(.+)$", shown, re.M))
    assert lines["text"] == text
    source, target = (tokenizer.encode(lines[name]).tolist() for name in ("source", "target"))
    assert source[-1] == target[-1] == EOS
    assert restored(source[:-1], target[:-1], tokenizer.sentinel_ids) == tokenizer.encode(text).tolist()
    spans = spans_of(target[:-1], tokenizer.sentinel_ids)
    assert len(spans) == 2
    for sentinel, span in spans.items():
        words = " ".join(tokenizer.pieces[i] for i in span)
        assert re.search(rf"^{tokenizer.pieces[sentinel]} +{re.escape(words)}$", shown, re.M)
    assert shown == SpanCorruption(tokenizer, 20, mask_rate=0.4, mean_span=2.0).show(text, seed=4)
    lines = dict(re.findall(r"^(source|target) +(.+) </s>$", PrefixLM(tokenizer, 20).show(text), re.M))
    assert f"{lines['source']} {lines['target']}" == text
    for kind in KINDS.values():
        with pytest.raises(MinigptError, match="the sentence has 1 tokens, at least 2 are needed"):
            kind(tokenizer, 20).show("party")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_rate": 1.0}, "mask rate is 1.0, it must be a number of at least 0 and less than 1"),
        ({"mask_rate": -0.1}, "mask rate is -0.1"),
        ({"mean_span": 0.5}, "mean span is 0.5, it must be a number of at least 1"),
        ({"mask_rate": 0.9, "mean_span": 1.0}, "36 spans in a row of 40 tokens have no text between them"),
        ({"mask_rate": 0.5, "varied": True}, "twice the mask rate, which a row of its own may have, is 1.0"),
        ({"varied": 1}, "varied is 1, it must be true or false"),
        ({"mask_rate": 0.3, "varied": True, "mean_span": 2.0}, "9 sentinels, a mask rate of 0.6 in spans of 2.0"),
        ({"length": 1}, "sequence length is 1, it must be a whole number of at least 2"),
        ({"length": 400}, "9 sentinels, a mask rate of 0.15 in spans of 3.0 needs 20 in a row of 400 tokens"),
        ({"mask_rate": 0.5, "mean_span": 2.0}, "9 sentinels, a mask rate of 0.5 in spans of 2.0 needs 10 in"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named(options, message):
    with pytest.raises(MinigptError, match=message):
        SpanCorruption(TOKENIZER, **{"length": 40} | options)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_texts_and_tokenizers_that_do_not_fit_are_named(tokens, kind):
    objective = kind(TOKENIZER, 40)
    objective.check(tokens[:40], VOCAB)
    with pytest.raises(MinigptError, match="play: 39 tokens, at least 40 are needed for a row"):
        objective.check(tokens[:39], VOCAB, "play")
    with pytest.raises(MinigptError, match=r"play: token id \d+, the model's vocab_size is 9"):
        objective.check(tokens, 9, "play")
    with pytest.raises(MinigptError, match=f"the tokenizer has {VOCAB} tokens, the model's vocab_size is {VOCAB - 1}"):
        objective.check(tokens * 0 + 7, VOCAB - 1)
    for name, message in (("pad_id", "has no padding token"), ("eos_id", "has no token that ends a text")):
        broken = SentinelPieces(["a", "b"])
        setattr(broken, name, None)
        with pytest.raises(MinigptError, match=message):
            kind(broken, 40)


def test_sentinels_beyond_the_vocabulary_and_texts_of_specials_are_named(tokens):
    with pytest.raises(MinigptError, match="play: all tokens are special"):
        SpanCorruption(TOKENIZER, 40).check(np.full_like(tokens, UNK), VOCAB, "play")
    beyond = SentinelPieces([str(i) for i in range(300)])
    beyond.sentinel_ids = beyond.sentinel_ids + 2
    with pytest.raises(MinigptError, match=f"sentinel {VOCAB + 1} is not of the tokenizer's {VOCAB} tokens"):
        SpanCorruption(beyond, 40)
    with pytest.raises(MinigptError, match="the tokenizer has 0 sentinels"):
        SpanCorruption(SentinelPieces(["a", "b"], sentinels=0), 40)


def test_a_batch_is_drawn_in_about_a_millisecond(rng, tokens):
    objective = SpanCorruption(TOKENIZER, 128)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        objective.draw(tokens, 32, rng)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 4e-3
