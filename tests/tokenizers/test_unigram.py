import copy
import itertools
import json
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unigram_samples import ALL, PIECES, PLAIN, SENTINELS, SPECIAL, T5_LIKE, UNCUT, WITH_BYTES, added, t5_like

import minigpt
from minigpt import MinigptError, UnigramTokenizer
from minigpt.tokenizers import AddedToken, many_words, unigram, viterbi
from minigpt.tokenizers.parts import encode_parts
from minigpt.tokenizers.unigram_files import BYTES, METASPACE

SCORES = {piece: score for piece, score in PIECES if piece not in SPECIAL}
TEXTS = st.text(st.sampled_from("▁thesnailcafé.<>wly \n☃🐌"), max_size=40)


def cuts(text):
    """All ways to cut a text into parts."""
    for places in itertools.product([False, True], repeat=max(len(text) - 1, 0)):
        ends = [i + 1 for i, cut in enumerate(places) if cut] + [len(text)]
        yield [text[a:b] for a, b in itertools.pairwise([0, *ends])]


@settings(deadline=None, max_examples=60)
@given(st.text(st.sampled_from("▁thesnai☃"), min_size=1, max_size=9))
def test_best_is_the_largest_sum_of_all_cuts(text):
    table = viterbi.table(SCORES, -30.0)
    ends = viterbi.best_cut(text, table).ends

    def total(parts):
        scores = [SCORES.get(part, -30.0 if len(part) == 1 else -np.inf) for part in parts]
        return sum(scores)

    best = total([text[a:b] for a, b in itertools.pairwise([0, *ends])])
    assert best == pytest.approx(max(map(total, cuts(text))), abs=1e-12)


def test_of_equal_cuts_the_last_piece_is_the_longest():
    table = viterbi.table({"a": -1.0, "aa": -2.0}, -11.0)
    assert viterbi.best_cut("aaa", table).ends == [1, 3]
    assert viterbi.best_cut("aaaa", table).ends == [2, 4]


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens"),
    [
        (T5_LIKE, "", []),
        (T5_LIKE, " \n\t ", []),
        (T5_LIKE, "the snails", ["▁the", "▁snail", "s"]),
        (T5_LIKE, "  the\n\nsnail ", ["▁the", "▁snail"]),
        (T5_LIKE, "▁the", ["▁the"]),
        (T5_LIKE, "the▁snail", ["▁the", "▁snail"]),
        (T5_LIKE, "ﬁ cafe\u0301", ["▁", "<unk>", "▁caf", "é"]),
        (T5_LIKE, "☃🐌the☃", ["▁", "<unk>", "t", "he", "<unk>"]),
        (T5_LIKE, "slowly", ["▁slow", "ly"]),
        (PLAIN, "the  snail ", ["▁the", "▁", "▁snail", "▁"]),
        (PLAIN, "the\nsnail", ["▁the", "<unk>", "s", "n", "ai", "<unk>"]),
        (PLAIN, " the", ["▁the"]),
        (WITH_BYTES, "the ☃", ["▁the", "▁", "<0xE2>", "<0x98>", "<0x83>"]),
        (UNCUT, "the ☃ the", ["▁the", "▁", "<unk>", "▁the"]),
    ],
)
def test_tokens(tokenizer, text, tokens):
    assert tokenizer.tokens(text) == tokens
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.tolist() == [tokenizer.token_to_id(token) for token in tokens]
    assert tokenizer.pieces(text)[0].tolist() == ids.tolist()


def test_special_tokens_are_text_unless_asked_for():
    text = "the</s> <extra_id_1>☃<unk>"
    as_text = ["▁the", "<", "<unk>", "s", ">", "▁", "<", "e", "<unk>", "t", "<unk>", "ai", "<unk>", ">"]
    assert not set(T5_LIKE.encode(text)) & {0, 1, *T5_LIKE.sentinel_ids}
    assert T5_LIKE.tokens("the</s>") == as_text[:5]
    tokens = ["▁the", "</s>", "<extra_id_1>", "▁", "<unk>", "<unk>", "</s>"]
    assert T5_LIKE.tokens(text, special=True) == tokens


def test_an_unknown_run_that_spells_a_special_token_is_unknown():
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -1.0)]
    tokenizer = UnigramTokenizer(pieces, unk_id=0, added=added(pieces, ("<s>", "<unk>")))
    assert tokenizer.tokens("<s>") == ["▁", "<unk>"]


def test_sentinels_and_roles():
    assert T5_LIKE.sentinel_ids.tolist() == [23, 22, 21] and T5_LIKE.sentinel_ids.dtype == np.int64
    assert [T5_LIKE.pad_id, T5_LIKE.eos_id, T5_LIKE.unk_id] == [0, 1, 2]
    assert T5_LIKE.sep_id is T5_LIKE.bos_id is T5_LIKE.cls_id is None
    assert PLAIN.sentinel_ids.tolist() == minigpt.CharTokenizer("ab").sentinel_ids.tolist() == []
    assert T5_LIKE.special_ids.tolist() == [0, 1, 2, 21, 22, 23]


def test_continues():
    tokens = {T5_LIKE.id_to_token(i) for i in np.flatnonzero(T5_LIKE.continues)}
    assert tokens == {"t", "h", "e", "s", "he", "s▁", "ai", "n", "é", ".", "<", ">", "ly"}


@pytest.mark.parametrize(
    ("tokenizer", "text", "offsets"),
    [
        (T5_LIKE, "the  snails", [(0, 3), (5, 10), (10, 11)]),
        (T5_LIKE, "☃ ☃☃", [(0, 1), (0, 1), (2, 3), (2, 4)]),
        (T5_LIKE, "cafe\u0301s", [(0, 3), (3, 4), (5, 6)]),
        (PLAIN, "the  snail", [(0, 3), (3, 4), (4, 10)]),
        (WITH_BYTES, "the ☃", [(0, 3), (3, 4), (4, 5), (4, 5), (4, 5)]),
        (UNCUT, "the ☃🐌", [(0, 3), (3, 4), (4, 6)]),
    ],
)
def test_offsets(tokenizer, text, offsets):
    assert [tuple(span) for span in tokenizer.encoding(text, special=False).offsets.tolist()] == offsets


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=60)
@given(text=TEXTS)
def test_pieces_and_streams_agree_with_encode_and_decode(name, text):
    tokenizer = ALL[name]
    for special in (False, True):
        ids, offsets = tokenizer.pieces(text, special)
        assert ids.tolist() == tokenizer.text_ids(text, special).tolist()
        assert all(0 <= start < end <= len(text) for start, end in offsets.tolist())
        stream = tokenizer.stream()
        assert "".join([stream.push([i]) for i in ids]) + stream.push([]) + stream.end() == tokenizer.decode(ids)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=30))
def test_bytes_give_every_text_back(text):
    text = text.replace("▁", " ")
    assert WITH_BYTES.decode(WITH_BYTES.encode(text)) == text.removeprefix(" ")


def test_decode():
    assert T5_LIKE.decode(T5_LIKE.encode("the snails", special=True)) == "the snails</s>"
    assert T5_LIKE.decode(T5_LIKE.encode("the snails", special=True), skip_special=True) == "the snails"
    assert PLAIN.decode([3, 3, 4]) == "  the" and PLAIN.decode([4, 3]) == "the "
    byte = len(PIECES)
    assert WITH_BYTES.decode([4, byte + 0xC3, byte + 0xA9, byte + 0xFF, 4]) == "the\ufffd\ufffd\ufffd the"
    stream = WITH_BYTES.stream()
    assert [stream.push([4]), stream.push([byte + 0xC3]), stream.push([byte + 0xA9]), stream.end()] == [
        "the",
        "",
        "",
        "é",
    ]


def test_spelled():
    assert T5_LIKE.spelled(4) == " the" and T5_LIKE.spelled(1) == "</s>"
    assert WITH_BYTES.spelled(len(PIECES) + 0xC3) == "\udcc3" and WITH_BYTES.spelled(len(PIECES) + 0x41) == "A"


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_prepend_scheme(scheme):
    pre_tokenizer = METASPACE | {"prepend_scheme": scheme}
    tokenizer = UnigramTokenizer(PIECES, unk_id=2, pre_tokenizer=pre_tokenizer, added=added(PIECES))
    first = ["▁the"] if scheme != "never" else ["t", "he"]
    after = ["▁the"] if scheme == "always" else ["t", "he"]
    for text in ("the</s>the the", "the</s>the▁the"):
        assert tokenizer.tokens(text, special=True) == [*first, "</s>", *after, "▁the"]
    assert tokenizer.tokens("</s>the", special=True) == ["</s>", *after]


def test_another_replacement():
    pieces = [(piece.replace("▁", "_"), score) for piece, score in PIECES]
    underlined = METASPACE | {"replacement": "_"}
    tokenizer = UnigramTokenizer(pieces, unk_id=2, pre_tokenizer=underlined, decoder=underlined)
    assert tokenizer.tokens("the snails") == ["_the", "_snail", "s"]
    assert tokenizer.decode(tokenizer.encode("the snails")) == "the snails" and tokenizer.spelled(4) == " the"


def test_a_piece_may_cross_a_mark_where_a_text_is_not_cut():
    pieces = [("<unk>", 0.0), ("▁a", -2.0), ("a", -3.0), ("▁", -3.0), ("a▁b", -1.0), ("b", -2.0), ("▁▁", -1.0)]
    tokenizer = UnigramTokenizer(pieces, unk_id=0, pre_tokenizer=METASPACE | {"split": False})
    assert tokenizer.tokens("a b  a") == ["▁", "a▁b", "▁▁", "a"]
    assert tokenizer.tokens("b   b a b") == ["▁", "b", "▁", "▁▁", "b", "▁", "a▁b"]
    cut = UnigramTokenizer(pieces, unk_id=0)
    assert cut.tokens("a b  a") == ["▁a", "▁", "b", "▁", "▁a"]


def test_unknown_characters_are_one_token_in_a_text_that_is_not_cut():
    pieces = [("<unk>", 0.0), ("a", -1.0), ("▁a", -1.0)]
    for split, tokens in ((False, ["<unk>", "a", "<unk>"]), (True, ["<unk>", "<unk>", "a", "<unk>"])):
        tokenizer = UnigramTokenizer(pieces, unk_id=0, pre_tokenizer=METASPACE | {"split": split})
        assert tokenizer.tokens("x ya z") == tokens
        assert tokenizer.pieces("x ya z")[0].tolist() == tokenizer.encode("x ya z").tolist()


def test_long_texts_take_time_in_proportion():
    start = time.perf_counter()
    tokenizer = UnigramTokenizer(T5_LIKE.pieces_and_scores, unk_id=2)
    assert len(tokenizer.encode("snail" * 20_000)) == 79_997
    assert len(UNCUT.encode("☃" * 100_000)) == 2
    tokenizer.encode("▁" * 100_000)
    assert time.perf_counter() - start < 5


def test_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(unigram, "CACHED_WORDS", 10)
    tokenizer = copy.deepcopy(PLAIN)
    for i in range(100):
        text = f"the{i} {'s' * 200}{i}"
        assert tokenizer.encode(text).tolist() == tokenizer.pieces(text)[0].tolist()
        assert len(tokenizer._cache) <= 10
    assert all(len(word) <= 100 for word in tokenizer._cache)


def test_threads_share_a_tokenizer(monkeypatch):
    monkeypatch.setattr(unigram, "CACHED_WORDS", 7)
    texts = [f"the snails {'slowly ' * i}cafés {i}" for i in range(30)]
    expected, wrong = [PLAIN.encode(text).tolist() for text in texts], []
    tokenizer = copy.deepcopy(PLAIN)

    def run():
        wrong.extend(text for text, ids in zip(texts * 3, expected * 3) if tokenizer.encode(text).tolist() != ids)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ALL)
def test_copies_pickles_and_files_are_whole(name, tmp_path):
    tokenizer, text = ALL[name], "the snails</s> ☃ café<extra_id_0>"
    tokenizer.save(tmp_path)
    others = [copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer)), minigpt.load_tokenizer(tmp_path)]
    others.append(UnigramTokenizer.from_json(tokenizer.to_json()))
    for other in others:
        assert other.values() == tokenizer.values() and other.roles == tokenizer.roles
        for special in (False, True):
            assert other.encode(text, special).tolist() == tokenizer.encode(text, special).tolist()
    assert {path.name for path in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("name", ALL)
def test_parts_of_a_text_have_the_ids_of_the_whole(name, monkeypatch):
    monkeypatch.setattr("minigpt.tokenizers.parts.PART", 5)
    tokenizer, text = ALL[name], "the snails  slowly\nthe\n\n ☃ ☃☃ the "
    for size in range(1, 9):
        parts = [text[i : i + size] for i in range(0, len(text), size)]
        ids = np.concatenate(list(encode_parts(tokenizer, parts, special=True)))
        assert ids.tolist() == tokenizer.encode(text, special=True).tolist()


def test_parts_are_not_cut_where_a_word_may_go_on(monkeypatch):
    monkeypatch.setattr("minigpt.tokenizers.parts.PART", 5)
    strip, never = {"type": "Strip", "strip_left": True, "strip_right": False}, METASPACE | {"prepend_scheme": "never"}
    uncut = UnigramTokenizer([("<unk>", 0.0), ("a", -1.0)], unk_id=0, pre_tokenizer=METASPACE | {"split": False})
    for tokenizer, text in (
        (t5_like(normalizer=strip, pre_tokenizer=never), "the snail the"),
        (uncut, "x y z a b " * 3),
    ):
        parts = [text[i : i + 3] for i in range(0, len(text), 3)]
        assert np.concatenate(list(encode_parts(tokenizer, parts))).tolist() == tokenizer.encode(text).tolist()


@pytest.mark.parametrize("name", ALL)
def test_long_texts_are_taken_in_blocks(name, monkeypatch):
    text = "the snails  slowly\nthe\n\n ☃ ☃☃ the " * 3
    expected = ALL[name].encode(text).tolist()
    monkeypatch.setattr("minigpt.tokenizers.basic.BLOCK", 7)
    assert ALL[name].encode(text).tolist() == expected == ALL[name].pieces(text)[0].tolist()


def test_an_unknown_run_that_spells_a_piece_is_that_piece():
    """Which is so where scores are large, as in `tokenizers`; also of many words at once."""
    pieces = [("<unk>", 40.0), ("☃☃", 25.0), ("▁", 30.0), ("a", 30.0)]
    tokenizer = UnigramTokenizer(pieces, unk_id=0)
    assert tokenizer.tokens("☃☃ ☃") == ["▁", "☃☃", "▁", "<unk>"]
    many = " ".join(f"☃☃{'a' * n}" for n in range(many_words.FEW + 9)).replace("aaaaaaaa", "b")
    assert tokenizer.encode(many).tolist() == tokenizer.pieces(many)[0].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab": []}, "pieces has 0 pieces, there must be 1 to"),
        ({"vocab": {"a": 0}}, "pieces is .* it must be a list of pieces and their scores"),
        ({"vocab": ["ab"]}, r"pieces\[0\] is 'ab', it must be a piece and its score"),
        ({"vocab": [("a", 0.0), ("b",)]}, r"pieces\[1\] is \('b',\)"),
        ({"vocab": [("a", 0.0), ("a", -1.0)]}, r"pieces\[1\] is 'a', which stands at 0 already"),
        ({"vocab": [("a", 0.0), ("", -1.0)]}, r"pieces\[1\] is '', a piece must have at least 1 character"),
        ({"vocab": [("a", float("nan"))]}, "the score of 'a' is nan, it must be a number"),
        ({"vocab": [("a", float("-inf"))]}, "the score of 'a' is -inf"),
        ({"vocab": [("a", 1e31)]}, "the score of 'a' is 1e[+]31, it must be a number from -1e[+]30 to 1e[+]30"),
        ({"vocab": [("a", "0")]}, "the score of 'a' is '0'"),
        ({"vocab": [("a", True)]}, "the score of 'a' is True"),
        ({"vocab": [(5, 0.0)]}, r"pieces\[0\] is 5, it must be a string"),
        ({"vocab": [("\ud800", 0.0)]}, "half of a UTF-16 pair"),
        ({"unk_id": len(PIECES)}, "unk_id is 21, it must be a whole number from 0 to 20"),
        ({"unk_id": -1}, "unk_id is -1"),
        ({"unk_id": "2"}, "unk_id is '2'"),
        ({"byte_fallback": 1}, "byte_fallback is 1, it must be true or false"),
        ({"byte_fallback": True}, "byte_fallback is true, the piece <0x00> is missing"),
        ({"byte_fallback": True, "vocab": [(b, 0.0) for b in BYTES[:-1]], "unk_id": 0}, "the piece <0xFF> is missing"),
        ({"added": [AddedToken("the", 3)]}, "'▁' and 'the' have the same id, 3|no token has the id"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer: type is 'Whitespace', it must be one of Metaspace"),
        ({"decoder": {"type": "WordPiece"}}, "decoder: type is 'WordPiece'"),
        ({"normalizer": {"type": "BertNormalizer"}}, "normalizer: type is 'BertNormalizer'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(MinigptError, match=message):
        UnigramTokenizer(**({"vocab": PIECES, "unk_id": 2} | arguments))


def test_too_many_pieces(monkeypatch):
    monkeypatch.setattr("minigpt.tokenizers.unigram_files.LARGEST_VOCABULARY", 3)
    with pytest.raises(MinigptError, match="pieces has 21 pieces, there must be 1 to 3"):
        UnigramTokenizer(PIECES, unk_id=2)


def test_what_is_unknown_needs_an_unknown_token():
    tokenizer = UnigramTokenizer(PIECES)
    assert tokenizer.tokens("the") == ["▁the"] and tokenizer.unk_id is None
    with pytest.raises(MinigptError, match="'☃' is not in the vocabulary, which has no unknown token either"):
        tokenizer.encode("the ☃")


@pytest.mark.parametrize("text", [None, 5, b"the", ["the"], "the \ud800"])
def test_what_is_no_text(text):
    for encode in (T5_LIKE.encode, T5_LIKE.encoding):
        with pytest.raises(MinigptError):
            encode(text)


@pytest.mark.parametrize("wrong", [-1, len(PIECES) + len(SENTINELS)])
def test_id_out_of_range(wrong):
    for decode in (T5_LIKE.decode, T5_LIKE.stream().push):
        with pytest.raises(MinigptError, match=f"token id {wrong} is out of range"):
            decode([0, wrong])


def test_pairs_and_batches():
    encoding = T5_LIKE.encoding("the snail", "slowly")
    assert [T5_LIKE.id_to_token(i) for i in encoding.ids] == ["▁the", "▁snail", "</s>", "▁slow", "ly", "</s>"]
    batch = T5_LIKE.batch(["the", "the snails"])
    assert batch["ids"].tolist() == [[4, 1, 0, 0], [4, 10, 8, 1]] and batch["attention_mask"].sum() == 6


def test_values_are_those_of_the_format():
    values = json.loads(t5_like().to_json())
    assert list(values)[:6] == ["version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"]
    assert values["model"]["vocab"][4] == ["▁the", -3.0] and values["model"]["unk_id"] == 2
