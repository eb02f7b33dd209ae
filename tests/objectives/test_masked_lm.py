import time
from dataclasses import replace

import numpy as np
import pytest
from pieces import Pieces

from minigpt import MinigptError
from minigpt.data.documents import Documents
from minigpt.objectives import MaskedLM, NextSentence

TOKENIZER = Pieces([f"{'##' if i % 3 == 2 else ''}{i}" for i in range(300)])
SEP = TOKENIZER.sep_id


@pytest.fixture
def tokens(rng):
    return rng.integers(5, TOKENIZER.vocab_size, 700).astype(np.uint16)


def unmasked(batch):
    return np.where(batch["targets"] >= 0, batch["targets"], batch["ids"])


def starts(batch, tokens):
    """Where a batch's windows begin in tokens that are all different in any three."""
    text = "".join(map(chr, tokens + 100))
    return [text.index("".join(map(chr, row[1:-1] + 100))) for row in unmasked(batch)]


def test_windows_are_text_between_the_tokens_around_it(rng, tokens):
    batch = MaskedLM(TOKENIZER, 12).draw(tokens, 30, rng)
    assert batch["ids"].shape == batch["targets"].shape == (30, 12)
    assert batch["ids"].dtype == batch["targets"].dtype == np.int64
    assert (unmasked(batch)[:, 0] == TOKENIZER.cls_id).all() and (unmasked(batch)[:, -1] == SEP).all()
    places = starts(batch, tokens)
    assert len(set(places)) > 20 and min(places) < 100 and max(places) > 550


def test_first_and_last_window_are_drawn(rng):
    tokens = np.arange(5, 17)
    places = starts(MaskedLM(TOKENIZER, 12).draw(tokens, 99, rng), tokens)
    assert set(places) == {0, 1, 2}


def test_walk_shows_the_text_once_with_the_same_masks_at_the_papers_rate(tokens):
    first, again = (list(MaskedLM(TOKENIZER, 12, mask_rate=0.5).walk(tokens, 32)) for _ in range(2))
    assert [batch.rows for batch in first] == [32, 32, 6]
    text = np.concatenate([unmasked(batch)[:, 1:-1].ravel() for batch in first])
    np.testing.assert_array_equal(text, tokens)
    for a, b in zip(first, again):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert sum((batch["targets"] >= 0).sum() for batch in first) == pytest.approx(0.15 * 700, abs=8)
    other = list(MaskedLM(TOKENIZER, 12, seed=5, static=True).walk(tokens, 9))  # whatever seed, kind and batch
    for name in ("ids", "targets"):
        np.testing.assert_array_equal(*(np.concatenate([b[name] for b in run]) for run in (first, other)))


def masks_by_place(objective, tokens, seeds=range(6)):
    found = {}
    for seed in seeds:
        batch = objective.draw(tokens, 32, np.random.default_rng(seed))
        for place, ids, targets in zip(starts(batch, tokens), batch["ids"], batch["targets"]):
            found.setdefault(place, set()).add((ids.tobytes(), targets.tobytes()))
    return found


def test_static_masks_are_those_of_a_place_and_dynamic_ones_are_new(tokens):
    static = masks_by_place(MaskedLM(TOKENIZER, 12, static=True), tokens)
    assert all(place % 10 == 0 for place in static) and len(static) > 60
    assert {len(masks) for masks in static.values()} == {1}
    assert len({next(iter(masks))[1] for masks in static.values()}) == len(static)  # not one mask for all places
    other = masks_by_place(MaskedLM(TOKENIZER, 12, static=True, seed=1), tokens)
    assert sum(static[place] == other[place] for place in static.keys() & other.keys()) < 20
    dynamic = masks_by_place(MaskedLM(TOKENIZER, 12), tokens[:14], seeds=range(2))
    assert min(len(masks) for masks in dynamic.values()) > 5


def test_equal_generators_draw_equal_batches(tokens):
    for static in (False, True):
        objective = MaskedLM(TOKENIZER, 12, static=static, whole_words=True)
        a, b, c = (objective.draw(tokens, 8, np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert all((a[name] == b[name]).all() for name in a)
        assert any((a[name] != c[name]).any() for name in a)


def test_texts_and_lengths_that_do_not_fit_are_named(tokens):
    objective = MaskedLM(TOKENIZER, 12)
    objective.check(tokens[:10], TOKENIZER.vocab_size)
    with pytest.raises(MinigptError, match="play: 9 tokens, at least 10 are needed for a sequence of 12"):
        objective.check(tokens[:9], TOKENIZER.vocab_size, "play")
    with pytest.raises(MinigptError, match=r"play: token id \d+, the model's vocab_size is 9"):
        objective.check(tokens, 9, "play")
    with pytest.raises(MinigptError, match="the tokenizer has 305 tokens, the model's vocab_size is 300"):
        objective.check(tokens * 0 + 7, 300)
    special = np.full(35, TOKENIZER.special_ids[0])
    special[30] = 9  # behind the last whole window
    with pytest.raises(MinigptError, match="essay: all tokens are special, such as the unknown one: none of them can"):
        objective.check(special, TOKENIZER.vocab_size, "essay")
    special[29] = 9
    objective.check(special, TOKENIZER.vocab_size)
    with pytest.raises(MinigptError, match="sequence length is 3, it must be a whole number of at least 4"):
        MaskedLM(TOKENIZER, 3)
    with pytest.raises(MinigptError, match="sequence length is 4, it must be a whole number of at least 5"):
        NextSentence(TOKENIZER, 4)


def a_play(number, sentences, rng):
    """A document of tokens that no other one has, in sentences of 3 to 9."""
    return "\n".join(" ".join(TOKENIZER.pieces[5 + 50 * number + i] for i in rng.integers(0, 50, n)) for n in sentences)


@pytest.fixture
def documents(rng):
    plays = [a_play(number, rng.integers(3, 10, 40), rng) for number in range(4)]
    return Documents.of([*plays[:3], "", plays[3]], TOKENIZER, lines=True)


def test_documents_know_where_they_and_their_sentences_begin(documents):
    assert len(documents) == len(documents.tokens) and documents.tokens.dtype == np.uint16
    np.testing.assert_array_equal(np.flatnonzero(documents.tokens == SEP), documents.ends[:-1])
    assert documents.ends[-1] == len(documents)
    assert len(documents.starts) == 4 and len(documents.sentences) == 160
    assert set(documents.starts) <= set(documents.sentences)
    for number, (start, end) in enumerate(zip(documents.starts, documents.ends)):
        assert set((documents.tokens[start:end] - 5) // 50) == {number}
    with pytest.raises(MinigptError, match="the text has no token"):
        Documents.of(["", " \n"], TOKENIZER, lines=True)
    whole = Documents.of(["1 3\n4", "6"], TOKENIZER)
    np.testing.assert_array_equal(whole.tokens, [6, 8, 9, SEP, 11])
    np.testing.assert_array_equal(whole.sentences, [0, 4])


def parts(batch):
    """A and B of each row."""
    for row in unmasked(batch):
        first, last = np.flatnonzero(row == SEP)
        assert last == len(row) - 1
        yield row[1:first], row[first + 1 : -1]


@pytest.mark.parametrize("alone", [False, True])
def test_half_of_the_second_segments_follow_and_the_others_are_from_elsewhere(rng, documents, alone):
    if alone:  # one document: elsewhere is outside the row's own text
        documents = Documents.of([a_play(0, rng.integers(3, 10, 80), rng)], TOKENIZER, lines=True)
    length, text = 27, "".join(map(chr, documents.tokens + 100))
    batch = NextSentence(TOKENIZER, length).draw(documents, 600, rng)
    assert batch["ids"].shape == (600, length) and batch["next_sentence"].shape == (600,)
    assert abs(batch["next_sentence"].mean() - 0.5) < 0.07
    begins_with_a_sentence = {0: [], 1: []}  # where B is from says nothing of how it begins
    for (a, b), kinds, label in zip(parts(batch), batch["token_type_ids"], batch["next_sentence"]):
        np.testing.assert_array_equal(kinds, np.repeat([0, 1], [len(a) + 2, len(b) + 1]))
        assert min(len(a), len(b)) >= 6 and len(a) + len(b) == length - 3
        assert {SEP, TOKENIZER.cls_id}.isdisjoint([*a, *b])  # neither reaches over the end of a document
        at, there = (text.index("".join(map(chr, part + 100))) for part in (a, b))
        assert at in documents.sentences
        begins_with_a_sentence[label].append(there in documents.sentences)
        if label == 0:
            assert there == at + len(a)
        else:
            assert abs(there - at) >= length - 3 if alone else (a[0] - 5) // 50 != (b[0] - 5) // 50
    shares = [np.mean(begins) for begins in begins_with_a_sentence.values()]
    assert min(shares) > 0.85 and abs(shares[0] - shares[1]) < 0.08


def test_elsewhere_is_any_other_document(rng, documents):
    batch = NextSentence(TOKENIZER, 27).draw(documents, 2000, rng)
    pairs = {
        ((a[0] - 5) // 50, (b[0] - 5) // 50)
        for (a, b), label in zip(parts(batch), batch["next_sentence"])
        if label == 1
    }
    assert pairs == {(i, j) for i in range(4) for j in range(4) if i != j}


def test_static_rows_are_those_of_a_place_in_all_they_are(documents):
    found = {}
    for seed in range(8):
        batch = NextSentence(TOKENIZER, 27, static=True).draw(documents, 16, np.random.default_rng(seed))
        for i, (a, _) in enumerate(parts(batch)):
            row = tuple(batch[name][i].tobytes() for name in batch)
            found.setdefault(a[:6].tobytes(), set()).add(row)
    assert {len(rows) for rows in found.values()} == {1} and len(found) > 20


def test_walk_of_pairs_is_the_same_each_time_and_does_not_overlap(documents):
    first, again = (list(NextSentence(TOKENIZER, 27, mask_rate=0.3).walk(documents, 7)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert all((a[name] == b[name]).all() for name in a)
    text = "".join(map(chr, documents.tokens + 100))
    places = [text.index("".join(map(chr, a + 100))) for batch in first for a, _ in parts(batch)]
    assert min(np.diff(places)) >= 24 and len(places) > 0.75 * len(documents) / 24
    labels = np.concatenate([batch["next_sentence"] for batch in first])
    assert 0.25 < labels.mean() < 0.75


def test_documents_that_are_too_short_are_refused(rng, documents):
    vocab_size = TOKENIZER.vocab_size
    NextSentence(TOKENIZER, 27).check(documents, vocab_size)
    special = replace(documents, tokens=np.full_like(documents.tokens, SEP))
    with pytest.raises(MinigptError, match="play: all tokens are special"):
        NextSentence(TOKENIZER, 27).check(special, vocab_size, "play")
    with pytest.raises(MinigptError, match="texts is a string, it must be a list of strings"):
        Documents.of("alas, poor Yorick", TOKENIZER)
    with pytest.raises(MinigptError, match=r"play: the longest document has \d+ tokens, at least 446 are needed"):
        NextSentence(TOKENIZER, 300).check(documents, vocab_size, "play")
    alone = Documents.of([a_play(0, [9] * 8, rng)], TOKENIZER, lines=True)
    NextSentence(TOKENIZER, 16).check(alone, vocab_size)
    with pytest.raises(MinigptError, match="too short to draw a second segment from elsewhere"):
        NextSentence(TOKENIZER, 27).check(alone, vocab_size)
    with pytest.raises(MinigptError, match="the model's vocab_size is 99"):
        NextSentence(TOKENIZER, 27).check(documents, 99)


@pytest.mark.parametrize("kind", [MaskedLM, NextSentence])
def test_a_batch_is_drawn_in_little_time(rng, kind):
    documents = Documents.of(
        [a_play(number, rng.integers(3, 10, 1500), rng) for number in range(4)], TOKENIZER, lines=True
    )
    objective, text = kind(TOKENIZER, 128), documents if kind is NextSentence else documents.tokens
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        objective.draw(text, 32, rng)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.005  # 0.7 ms on a quiet machine


def test_show_says_what_became_of_a_sentence():
    words = Pieces(["to", "be", "or", "not", "##to", "king", "queen"])
    shown = MaskedLM(words, 12, mask_rate=0.9).show("to be or not ##to be or not", seed=4)
    lines = shown.splitlines()
    assert lines[0].split() == ["text", "[CLS]", *["to", "be", "or", "not", "##to", "be", "or", "not"], "[SEP]"]
    before, after = lines[0].split()[1:], lines[1].split()[1:]
    assert lines[1].startswith("shown ") and lines[3].split() == ["place", "target", "shown", "as"]
    places = set()
    for place, target, seen, what in (line.split() for line in lines[4:]):
        assert before[int(place)] == target and after[int(place)] == seen
        assert what == {"[MASK]": "masked", target: "kept"}.get(seen, "random")
        places.add(int(place))
    assert all(before[i] == after[i] for i in range(10) if i not in places) and len(places) >= 7
    assert shown == MaskedLM(words, 12, mask_rate=0.9).show("to be or not ##to be or not", seed=4)
    with pytest.raises(MinigptError, match="the sentence is empty"):
        MaskedLM(words, 12).show(" ")


def test_show_of_two_sentences_has_segments_and_their_label():
    objective = NextSentence(Pieces(["to", "be", "or", "not", "king"]), 12)
    lines = objective.show("to be", "or not").splitlines()
    assert lines[2].split() == ["segments", *"AAAABBB"]
    assert lines[3].split(maxsplit=1) == ["next_sentence", "0: B follows A"]
    assert "1: B is from elsewhere" in objective.show("to be", "king", follows=False)
    with pytest.raises(MinigptError, match="a sentence is empty"):
        objective.show("to be", "")


@pytest.mark.parametrize("kind", [MaskedLM, NextSentence])
def test_short_rows_come_first_and_more_of_them(rng, documents, kind):
    text = documents if kind is NextSentence else documents.tokens
    options = {"mask_rate": 0.4, "whole_words": True, "static": True, "seed": 3}
    objective = kind(TOKENIZER, 27, short_length=12, short_share=0.25, **options)
    assert objective.at(0.25) is objective and objective.at(0.99) is objective
    assert [objective.at(progress).length for progress in (0, 0.124, 0.125, 0.249)] == [12, 12, 24, 24]
    assert [kind(TOKENIZER, 24, short_length=12, short_share=0.5).at(p).length for p in (0, 0.49, 0.5)] == [12, 12, 24]
    assert objective.at(0.2).draw(text, 5, rng)["ids"].shape == (5, 24)
    short = objective.at(0.12).draw(text, 5, np.random.default_rng(1))
    assert short["ids"].shape == (10, 12)
    alone = kind(TOKENIZER, 12, **options).draw(text, 10, np.random.default_rng(1))
    assert all((short[name] == alone[name]).all() for name in alone)
    assert next(objective.walk(text, 3))["ids"].shape == (3, 27)
    plain = kind(TOKENIZER, 27, short_length=12)
    assert plain.at(0.0) is plain
    with pytest.raises(MinigptError, match="short length is 28, it must be a whole number of at most 27"):
        kind(TOKENIZER, 27, short_length=28, short_share=0.1)
    with pytest.raises(MinigptError, match=r"short share is 1\.5"):
        kind(TOKENIZER, 27, short_length=8, short_share=1.5)
