"""Training of the Unigram tokenizer: expectation against all cuts one by one, seeds and losses by
their definitions, and what comes out.
"""

import io
import itertools
import json
import math
import time
from collections import Counter

import numpy as np
import pytest
from tokenizers_oracle import tokenizers_oracle

from minigpt.data import plays, split_each, tiny_shakespeare
from minigpt.errors import MinigptError
from minigpt.tokenizers import UnigramTokenizer
from minigpt.tokenizers.unigram_files import T5_NORMALIZER, T5_PRE_TOKENIZER, count_words
from minigpt.tokenizers.unigram_lattice import backward, forward, lattice_of
from minigpt.tokenizers.unigram_training import (
    count_parts,
    digamma,
    expectation,
    losses,
    maximisation,
    most_missed,
    own_lattice,
    seed_pieces,
    train_pieces,
)
from minigpt.tokenizers.viterbi import best_cut, table

TEXT = (
    "the cat sat on the mat and the rat ate the cat that sat there , then that mattered to the fat rats ; "
    "other cats hated the other rats , and neither the mother nor the father of the rats ate on that mat ."
)
WORDS = Counter("▁" + word for word in TEXT.split())


def cuts(word, pieces):
    """All ways to cut a word, by the book."""
    for joints in itertools.product((False, True), repeat=len(word) - 1):
        places = [0, *(i for i, cut in enumerate(joints, 1) if cut), len(word)]
        cut = tuple(word[a:b] for a, b in itertools.pairwise(places))
        if all(piece in pieces for piece in cut):
            yield cut


def random_model(rng, letters="abc", size=14):
    """piece -> its score, of random strings of 2 to 4 letters and the letters."""
    pieces = dict.fromkeys(letters)
    while len(pieces) < size:
        pieces["".join(rng.choice(list(letters), rng.integers(2, 5)))] = None
    scores = np.log(rng.dirichlet(np.ones(len(pieces))))
    return dict(zip(pieces, scores.tolist()))


def random_words(rng, letters="abc"):
    """word -> how often, of 1 to 9 letters, each length once."""
    return {"".join(rng.choice(list(letters), n)): int(rng.integers(1, 50)) for n in rng.permutation(np.arange(1, 10))}


def score_of(cut, model):
    return sum(model[piece] for piece in cut)


def viterbi(word, model):
    """The best cut, of equal ones that with the longest last piece, and so on."""
    return max(cuts(word, model), key=lambda cut: (score_of(cut, model), [len(piece) for piece in reversed(cut)]))


def arrays(model):
    return list(model), np.array(list(model.values()))


# Expectation


def test_expected_counts_are_those_of_all_cuts(rng):
    for _ in range(5):
        model, words = random_model(rng), random_words(rng)
        expected, log_z = dict.fromkeys(model, 0.0), []
        for word, count in words.items():
            chances = {cut: math.exp(score_of(cut, model)) for cut in cuts(word, model)}
            log_z.append(math.log(sum(chances.values())))
            for cut, chance in chances.items():
                for piece in cut:
                    expected[piece] += count * chance / sum(chances.values())
        names, scores = arrays(model)
        lattice, counts = lattice_of(list(words), names), np.array(list(words.values()), float)
        np.testing.assert_allclose(forward(lattice, scores)[0], log_z, rtol=1e-13)
        found = expectation(lattice, scores, counts)
        np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12, atol=1e-12)


def test_best_cuts_are_those_of_all_cuts(rng):
    for _ in range(5):
        model, words = random_model(rng), random_words(rng)
        names, scores = arrays(model)
        lattice = lattice_of(list(words), names)
        best, weights = forward(lattice, scores, best=True)
        uses = Counter()
        for word, count in words.items():
            for piece in viterbi(word, model):
                uses[piece] += count
        np.testing.assert_allclose(best, [score_of(viterbi(word, model), model) for word in words], rtol=1e-13)
        counts = np.array(list(words.values()), float)
        found = np.bincount(lattice.piece, backward(lattice, weights, counts), len(names))
        assert found.tolist() == [uses[name] for name in names]


def test_of_equal_cuts_the_one_with_the_longest_last_piece_is_best():
    lattice = lattice_of(["abc", "aab"], ["a", "b", "c", "ab", "bc", "aa"])
    _, weights = forward(lattice, np.full(6, -1.0), best=True)
    assert np.bincount(lattice.piece, backward(lattice, weights, np.array([1.0, 10.0])), 6).tolist() == [
        11, 0, 0, 10, 1, 0,
    ]  # fmt: skip


def test_small_probabilities_of_long_words_stay_numbers():
    word = "ab" * 400
    lattice = lattice_of([word], ["a", "b", "ab"])
    scores = np.array([-30.0, -25.0, -55.0])
    log_z, _ = forward(lattice, scores)
    np.testing.assert_allclose(log_z, 400 * (math.log(2) - 55), rtol=1e-14)
    np.testing.assert_allclose(expectation(lattice, scores, np.array([3.0])), [600, 600, 600], rtol=1e-12)


def test_a_lattice_without_some_pieces_is_that_of_the_others(rng):
    model, words = random_model(rng), list(random_words(rng))
    names = list(model)
    kept = rng.random(len(names)) < 0.5
    kept[:3] = True  # the letters
    found = lattice_of(words, names).keep(kept)
    again = lattice_of(words, list(itertools.compress(names, kept)))
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_likelihood_never_falls_with_plain_maximisation(rng):
    for _ in range(3):
        names, scores = arrays(random_model(rng, size=20))
        words = random_words(rng)
        lattice, counts = lattice_of(list(words), names), np.array(list(words.values()), float)
        likelihoods = []
        for _ in range(12):
            likelihoods.append(forward(lattice, scores)[0] @ counts)
            expected = expectation(lattice, scores, counts)
            kept = expected > 1e-9
            lattice, expected = lattice.keep(kept), expected[kept]
            scores = np.log(expected / expected.sum())
        assert (np.diff(likelihoods) > -1e-6).all() and likelihoods[-1] > likelihoods[0] + 1


# Maximisation


def test_digamma_is_what_books_say():
    # Abramowitz and Stegun, table 6.1 and 6.3.3; ln(x) - 1/(2x) far out
    found = digamma([0.5, 1, 2, 100, 1e12])
    known = [-1.96351002602142347944, -0.57721566490153286061, 0.42278433509846713939, 4.60016185273808740100]
    np.testing.assert_allclose(found, [*known, 12 * math.log(10) - 5e-13], rtol=1e-13)
    x = np.geomspace(1e-2, 1e3, 101)
    np.testing.assert_allclose(digamma(x + 1), digamma(x) + 1 / x, rtol=1e-13, atol=1e-13)


def test_maximisation_drops_what_is_rare_but_for_characters():
    expected, always = np.array([0.1, 7.0, 0.49, 0.5, 2.0]), np.array([True, False, False, False, False])
    kept, scores = maximisation(expected, always)
    assert kept.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(scores, digamma([0.5, 7, 0.5, 2]) - digamma(10), rtol=1e-14)
    assert maximisation(expected, always, least=5)[0].all()


# Seeds


SEED_WORDS = {
    "▁banana": 2,
    "▁ananas,": 1,
    "▁it's": 3,
    "▁he's": 1,
    "▁42": 6,
    "nab": 1,
    "\0a": 2,
    "x" * 20: 1,
    "▁once": 1,
}


def test_seeds_are_the_substrings_that_repeat():
    """And go on in more than one way, the end of a word being one; and all characters."""
    often, after = Counter(), {}
    for word, count in SEED_WORDS.items():
        for i, j in itertools.combinations(range(len(word) + 1), 2):
            if j - i <= 16:
                often[word[i:j]] += count
                after.setdefault(word[i:j], set()).add(word[j : j + 1] if j - i < 16 else None)
    seeded = {
        p: n
        for p, n in often.items()
        if len(p) == 1 or (n >= 2 and (after[p] - {"", None} != after[p] or len(after[p]) > 1))
    }
    seeds = seed_pieces(list(SEED_WORDS), np.array(list(SEED_WORDS.values())), 1000)
    pieces = seeds.pieces()
    assert dict(zip(pieces, (seeds.weight / seeds.size).tolist())) == seeded
    assert len(pieces) == len(seeded)
    rest = [(-w, len(p), p) for p, w in zip(pieces, seeds.weight) if len(p) > 1]
    assert rest == sorted(rest) and len(rest) > 10
    characters = sorted({*"".join(SEED_WORDS)})
    assert pieces[: len(characters)] == characters


def test_seeds_know_all_places_of_their_pieces():
    seeds = seed_pieces(list(SEED_WORDS), np.array(list(SEED_WORDS.values())), 1000)
    places = []
    for word, begin in zip(SEED_WORDS, seeds.begins.tolist()):
        assert seeds.text[begin : begin + len(word)] == word
        places += [(begin + i, k) for k, p in enumerate(seeds.pieces()) for i in range(20) if word.startswith(p, i)]
    assert sorted(zip(seeds.place.tolist(), seeds.piece.tolist())) == sorted(places)
    assert (np.diff(seeds.place) >= 0).all()


def test_limit_of_seeds_leaves_out_those_of_the_least_weight():
    words, counts = list(SEED_WORDS), np.array(list(SEED_WORDS.values()))
    every, few = seed_pieces(words, counts, 1000), seed_pieces(words, counts, 7)
    letters = len({*"".join(words)})
    assert few.pieces() == every.pieces()[: letters + 7]


# Pruning


def test_losses_are_those_of_their_definition():
    words = dict(WORDS)
    counts = np.array(list(words.values()), float)
    seeds = seed_pieces(list(words), counts, 60)
    names = seeds.pieces()
    lattice, scores = lattice_of(list(words), names), np.log(seeds.weight / seeds.weight.sum())
    _, scores = maximisation(expectation(lattice, scores, counts), np.ones(len(names), bool))
    model = dict(zip(names, scores.tolist()))
    uses = Counter()
    for word, count in words.items():
        for piece in viterbi(word, model):
            uses[piece] += count
    total, kinds = sum(uses.values()), Counter()
    for name, loss in zip(names, losses(seeds, lattice, scores, counts).tolist()):
        if len(name) == 1:
            assert loss == math.inf
            continue
        others = {piece: score for piece, score in model.items() if piece != name}
        cut, n = viterbi(name, others), uses[name]
        if n == 0:
            kinds["of no use"] += 1
            assert loss == -math.inf
            continue
        kinds["used"] += 1
        after = sum(math.log((uses[q] + n) / (total + n * (len(cut) - 1))) for q in cut)
        assert loss == pytest.approx(n / total * (math.log(n / total) - after), rel=1e-11)
    assert min(kinds.values()) >= 10


def test_pieces_are_not_cut_into_themselves():
    seeds = seed_pieces(["▁that", "▁hat", "▁at"], np.array([3, 2, 4]), 100)
    names, long = seeds.pieces(), np.flatnonzero(seeds.size > 1)
    own, pieces = own_lattice(seeds, long), np.array(names)
    again = lattice_of([names[k] for k in long], names)
    whole = pieces[again.piece] == pieces[long][again.word[again.end]]
    assert sorted(zip(pieces[own.piece], own.word[own.end])) == sorted(
        zip(pieces[again.piece][~whole], again.word[again.end][~whole])
    )


def test_most_missed_keeps_the_largest_losses():
    loss = np.array([math.inf, 0.1, 0.3, -math.inf, 0.2, -math.inf, 0.3, 0.05])

    def chosen(wanted, least=0):
        return np.flatnonzero(most_missed(loss, wanted, least)).tolist()

    assert chosen(8) == chosen(7) == [0, 1, 2, 4, 6, 7]
    assert chosen(1) == [0, 1, 2, 4, 6, 7]  # 85% of 8 are 6
    assert chosen(1, 7) == [0, 1, 2, 3, 4, 6, 7]
    many = np.arange(100.0)
    assert np.flatnonzero(most_missed(many, 10)).tolist() == list(range(15, 100))
    assert np.flatnonzero(most_missed(many, 90)).tolist() == list(range(10, 100))


# Training


def test_there_are_as_many_pieces_as_asked_for_all_characters_among_them():
    characters = {*"".join(WORDS)}
    for size in range(len(characters), 41):
        pieces = train_pieces(WORDS, size)
        names, scores = zip(*pieces)
        assert len(names) == len(set(names)) == size and characters <= set(names)
        assert pieces == sorted(pieces, key=lambda pair: (-pair[1], pair[0]))
        assert all(math.isfinite(score) and score < 0 and score == round(score, 6) for score in scores)
        assert sum(map(math.exp, scores)) < 1.01
    assert {"▁the", "▁that", "▁rat"} <= set(names)


def test_every_size_up_to_the_most_is_trained(rng):
    """Also where a later round has no use for pieces that are wanted: 7 and 9, here."""
    words = {"".join(rng.choice(list("ab"), rng.integers(1, 9))): int(rng.integers(1, 6)) for _ in range(50)}
    with pytest.raises(MinigptError, match="at most") as error:
        train_pieces(words, 1000)
    most = int(str(error.value).split("at most ")[1].split(":")[0])
    assert [len(train_pieces(words, size)) for size in range(2, most + 1)] == [*range(2, most + 1)]


def test_training_does_not_depend_on_the_order_of_words():
    shuffled = dict(sorted(WORDS.items(), key=lambda pair: hash(pair[0][::-1])))
    assert list(shuffled) != list(WORDS)
    assert train_pieces(shuffled, 35) == train_pieces(WORDS, 35)


def test_pieces_are_the_better_the_more_often_they_are_used():
    words = {"▁aa": 100, "▁bb": 10, "▁cc": 3, "▁a": 3, "▁b": 3, "▁c": 3}
    names = [name for name, _ in train_pieces(words, 6)]
    assert names[0] == "▁aa" and "▁bb" in names and "▁cc" not in names
    words["▁cc"] = 1000
    names = [name for name, _ in train_pieces(words, 6)]
    assert names[:2] == ["▁cc", "▁aa"] and "▁bb" not in names


def test_pieces_hold_characters_of_one_kind_unless_they_may_mix():
    words = {"▁yes,": 30, "▁no,": 20, "▁yes": 2, "▁no": 1, "▁1st": 9, "▁1": 2, "▁a\u0301b": 5, "▁a": 3, "▁b": 2}
    size = len({*"".join(words)}) + 5
    plain, mixed = ({name for name, _ in train_pieces(words, size, mixed=mixed)} for mixed in (False, True))
    assert {"▁yes", "▁no", "▁a\u0301b"} <= plain and not any("," in name[1:] for name in plain)
    assert {"▁yes,", "▁no,", "▁1st"} <= mixed


def test_words_are_cut_where_no_piece_may_be():
    words = {"▁it's": 2, "▁'tis": 1, "▁": 3, "▁1½st!?": 1, "a\u0301b": 1, "ab▁c": 1, "": 9, "▁no": 0}
    parts = {"▁it": 2, "'": 2, "s": 2, "▁'": 1, "tis": 1, "▁": 4, "▁1½": 1, "st": 1, "!?": 1, "a\u0301b": 1}
    assert count_parts(words, mixed=False) == parts | {"ab": 1, "c": 1}
    assert count_parts(words, mixed=True) == {word: count for word, count in words.items() if word and count}
    assert count_parts({"a" * 556: 2, "a" * 256: 1}, mixed=False) == {"a" * 256: 5, "a" * 44: 2}


def test_a_long_word_takes_little_time(rng):
    start = time.perf_counter()
    word = "".join(rng.choice(list("abcd"), 10_000))
    assert len(train_pieces({word: 1, word[:100]: 2}, 100)) == 100
    assert time.perf_counter() - start < 5


def test_what_is_beside_is_no_piece_but_for_characters():
    pieces = dict(train_pieces(WORDS, 30))
    assert "▁the" in pieces
    beside = {"▁the", "a", "<pad>"}
    others = dict(train_pieces(WORDS, 30, beside=beside))
    assert "▁the" not in others and "a" in others and len(others) == 30
    with pytest.raises(MinigptError, match="vocab_size is 1,003, it may be at most") as error:
        train_pieces(WORDS, 1000, beside=beside)
    most = int(str(error.value).split("at most ")[1].split(":")[0])
    assert len(train_pieces(WORDS, most - 3, beside=beside)) == most - 3
    with pytest.raises(MinigptError, match=f"vocab_size is {most + 1}, it may be at most {most}"):
        train_pieces(WORDS, most - 2, beside=beside)


@pytest.mark.parametrize("words", [{}, {"": 3}, {"▁a": 0}])
def test_a_text_without_words_is_refused(words):
    with pytest.raises(MinigptError, match="the text has no words"):
        train_pieces(words, 10)


def test_sizes_that_are_impossible_are_refused():
    with pytest.raises(MinigptError, match="vocab_size is 5, it must be at least 17: 17 characters and 0 other tokens"):
        train_pieces(WORDS, 5)
    with pytest.raises(MinigptError, match="size is 0"):
        train_pieces(WORDS, 0)
    with pytest.raises(MinigptError, match=r"size is 2\.5"):
        train_pieces(WORDS, 2.5)
    with pytest.raises(
        MinigptError, match=r"vocab_size is 10,000, it may be at most (\d+): the text has no use for more pieces"
    ) as error:
        train_pieces(WORDS, 10_000)
    most = int(str(error.value).split("at most ")[1].split(":")[0])
    assert most >= 40 and len(train_pieces(WORDS, most)) == most
    with pytest.raises(MinigptError, match=f"vocab_size is {most + 1}, it may be at most {most}:"):
        train_pieces(WORDS, most + 1)


# The tokenizer


LINES = [
    TEXT,
    "The quick, brown fox (42 of them) jumps: \u00bd \ufb01t.\n\tIt  \u00e9tait l\u00e0, 1999 \u6f22\u5b57.",
] * 2
LAST = ["<extra_id_2>", "<extra_id_1>", "<extra_id_0>"]


def test_train_lays_the_vocabulary_out_as_t5s():
    tokenizer = UnigramTokenizer.train(LINES, 80, extra_ids=3)
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.vocab_size)]
    assert len(tokens) == 80 and tokens[:3] == ["<pad>", "</s>", "<unk>"] and tokens[-3:] == LAST
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    assert tokenizer.sentinel_ids.tolist() == [79, 78, 77]
    pieces = tokenizer.pieces_and_scores[3:-3]
    words = count_words(LINES, T5_NORMALIZER, T5_PRE_TOKENIZER)
    assert pieces == train_pieces(words, 74) and {"▁fit.", "▁1⁄2"} <= words.keys()
    assert tokenizer.encode("the cat", special=True).tolist() == [*tokenizer.encode("the cat"), 1]
    assert tokenizer.decode(tokenizer.encode(" the  cat\nsat")) == "the cat sat"
    again = UnigramTokenizer.train("\n".join(LINES), 80, extra_ids=3)
    assert again.to_json() == tokenizer.to_json()


def test_train_with_bytes_writes_every_character():
    tokenizer = UnigramTokenizer.train(TEXT, 290, extra_ids=0, byte_fallback=True)
    assert [tokenizer.id_to_token(i) for i in (3, 258)] == ["<0x00>", "<0xFF>"]
    assert {score for _, score in tokenizer.pieces_and_scores[:259]} == {0.0}
    assert tokenizer.tokens("caf\u00e9")[-2:] == ["<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("cat 漢字 caf\u00e9")) == "cat 漢字 caf\u00e9"
    assert UnigramTokenizer.train(TEXT, 43, extra_ids=0).tokens("漢字 cat")[:2] == ["▁", "<unk>"]


def test_train_that_keeps_spaces_writes_the_text_as_it_is():
    tokenizer = UnigramTokenizer.train(LINES, 320, extra_ids=0, byte_fallback=True, keep_spaces=True)
    beginnings = (" cat", "cat", "   cat  ", "\n cat", " ", "  ", "")
    for text in (*LINES, *beginnings):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len({tuple(tokenizer.encode(text)) for text in beginnings}) == len(beginnings)
    plain = UnigramTokenizer.train(LINES, 60, extra_ids=0, keep_spaces=True)
    assert [plain.decode(plain.encode(text)) for text in ("  cat", "cat ")] == ["  cat", "cat "]
    # what is read as something else: the name of a byte, and the mark of a space
    assert tokenizer.decode(tokenizer.encode("<0x41> ▁cat")) == "A  cat"
    assert any("\n" in tokenizer.id_to_token(i) for i in tokenizer.encode(LINES[1]))


def test_train_mixes_characters_where_asked():
    text = "yes, " * 9 + "no, " * 5 + "yes no"
    plain, mixed = (UnigramTokenizer.train(text, 14, extra_ids=2, mixed=flag) for flag in (False, True))
    assert mixed.tokens("yes,") == ["▁yes,"] and plain.tokens("yes,") == ["▁yes", ","]


def test_pieces_are_none_of_the_special_tokens():
    """A piece that is one would have two ids; a character that is one has its id alone."""
    text = "the theme of the them or the then"
    tokenizer = UnigramTokenizer.train(text, 16, special_tokens=("▁the", "</s>", "e", "<unk>"), extra_ids=1)
    assert tokenizer.vocab_size == 16 and [tokenizer.id_to_token(i) for i in (0, 2)] == ["▁the", "e"]
    assert "▁them" in tokenizer.vocab and "▁the" in dict(train_pieces(count_words(text, None, T5_PRE_TOKENIZER), 12))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": ""}, "the text has no words"),
        ({"text": " \n"}, "the text has no words"),
        ({"text": b"bytes"}, "text is b'bytes', it must be a string"),
        ({"text": ["a", 3]}, "text is 3, it must be a string"),
        ({"vocab_size": 6}, "vocab_size is 6, it must be a whole number from 7"),
        ({"vocab_size": 21}, r"vocab_size is 21, it must be at least 23: 17 characters and 6 other tokens"),
        ({"vocab_size": 900}, r"vocab_size is 900, it may be at most \d\d: the text has no use for more pieces"),
        ({"vocab_size": 46.0}, "vocab_size is 46.0"),
        ({"extra_ids": -1}, "extra_ids is -1"),
        ({"extra_ids": "3"}, "extra_ids is '3'"),
        ({"special_tokens": ("</s>", "<unk>", "</s>")}, r"special_tokens\[2\], '</s>', stands twice"),
        ({"special_tokens": ("<pad>", "</s>")}, "special_tokens are '<pad>', '</s>'; '.UNK.' must be among them"),
        ({"special_tokens": ("<unk>",)}, "must be among them"),
        ({"special_tokens": ("</s>", "<unk>", "<extra_id_0>")}, "'<extra_id_0>' has a place of its own"),
        ({"special_tokens": "<unk>"}, "special_tokens is '<unk>', it must be a list of strings"),
        ({"byte_fallback": 1}, "byte_fallback is 1, it must be true or false"),
        ({"keep_spaces": None}, "keep_spaces is None"),
        ({"mixed": "no"}, "mixed is 'no'"),
    ],
)
def test_train_refuses(settings, message):
    arguments = {"text": TEXT, "vocab_size": 40, "extra_ids": 3} | settings
    with pytest.raises(MinigptError, match=message):
        UnigramTokenizer.train(arguments.pop("text"), arguments.pop("vocab_size"), **arguments)


# Against the libraries


def held_out_tokens(pieces, words):
    """How many pieces words are written with: {word: count}."""
    best = table(dict(pieces), min(score for _, score in pieces) - 10)
    return sum(count * len(best_cut(word, best).ends) for word, count in words.items())


@pytest.mark.parity
@pytest.mark.parametrize("size", [500, 1000, 8000])
def test_held_out_texts_have_as_few_tokens_as_with_the_libraries(size):
    """At most 2% more than theirs, each trained on the same words, with as many pieces."""
    sentencepiece, tokenizers = pytest.importorskip("sentencepiece"), tokenizers_oracle()
    texts, held_out = ("\n".join(part) for part in split_each(plays(tiny_shakespeare(say=lambda line: None).text)))
    words, held_out = (Counter("▁" + word for word in text.split()) for text in (texts, held_out))
    ours = held_out_tokens(train_pieces(words, size), held_out)
    written, lines = io.BytesIO(), texts.splitlines()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, vocab_size=size + 3, character_coverage=1.0,
        model_type="unigram", normalization_rule_name="identity", num_threads=1, minloglevel=2,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    theirs = [(model.id_to_piece(i), model.get_score(i)) for i in range(3, model.get_piece_size())]
    assert len(theirs) == size and ours <= 1.02 * held_out_tokens(theirs, held_out)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    split = [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(split)
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=size + 1, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    theirs = [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"] if piece != "<unk>"]
    assert len(theirs) == size and ours <= 1.02 * held_out_tokens(theirs, held_out)


@pytest.mark.parity
def test_a_trained_folder_has_the_ids_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    for i, settings in enumerate(({}, {"byte_fallback": True, "keep_spaces": True})):
        tokenizer = UnigramTokenizer.train(LINES, 330, extra_ids=3, **settings) if settings else None
        tokenizer = tokenizer or UnigramTokenizer.train(LINES, 80, extra_ids=3)
        tokenizer.save(tmp_path / str(i))
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / str(i))
        for text in (*LINES, "a cat's <extra_id_1> hat", "漢  é\n\n cat", "  cat ", " ", ""):
            ids = tokenizer.encode(text, special=True)
            assert theirs(text)["input_ids"] == ids.tolist()
            assert theirs.decode(ids) == tokenizer.decode(ids)
