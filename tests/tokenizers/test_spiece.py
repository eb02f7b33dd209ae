"""sentencepiece's files: read by hand, and texts normalised and cut as sentencepiece does."""

import base64
import copy
import itertools
import json
import pickle
import struct
import time

import numpy as np
import pytest
from charsmaps import charsmap_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from real_unigrams import real_folder
from spieces import (
    BYTES,
    CHARSMAP,
    CONTROL,
    NORMAL,
    NORMALS,
    SPECIAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    VARIANTS,
    field,
    message,
    spiece,
    varint,
)
from tokenizers_oracle import tokenizers_oracle

import minigpt
from minigpt import GPT, GPTConfig, MinigptError
from minigpt.data import tiny_shakespeare
from minigpt.data.packages import SPIECE_FILES, SPIECE_PACKAGE
from minigpt.tokenizers import many_words, viterbi
from minigpt.tokenizers.parts import encode_parts
from minigpt.tokenizers.protobuf import Message
from minigpt.tokenizers.spiece import SentencePieceTokenizer

ALL = {name: SentencePieceTokenizer(data) for name, data in VARIANTS.items()}
T5 = SentencePieceTokenizer(VARIANTS["T5"], t5=True, extra_ids=3)
TEXTS = st.text(st.sampled_from("the snailéaaf  ▁.<\t\x01\u0301ﬁ…ﷺ\u2003\u3000☃🐌\n"), max_size=40)


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("T5", "", []),
        ("T5", "  ", []),
        ("T5", "the  snails ", ["▁the", "▁snail", "s"]),
        ("T5", "\tthe\x01 ☃☃", ["▁the", "▁", "<unk>"]),
        ("T5", "☃ the☃", ["▁", "<unk>", "▁the", "<unk>"]),
        ("T5", "the \x01 s", ["▁the", "▁", "s"]),
        ("T5", "ﬁ…", ["▁", "f", "i", ".", ".", "."]),
        ("T5", "e\u0301\u0301", ["▁", "é", "<unk>"]),
        ("T5", "<pad>the</s>", ["▁", "<", "<unk>", "a", "<unk>", "t", "he", "<", "<unk>", "s", "<unk>"]),
        ("no charsmap", "e\u0301ﬁ", ["▁", "e", "<unk>"]),
        ("bytes", "the ☃", ["▁the", "▁", "<0xE2>", "<0x98>", "<0x83>"]),
        ("spaces stay", " the  s ", ["▁", "▁the", "▁", "▁", "s", "▁"]),
        ("no prefix", " the the", ["t", "he", "▁the"]),
        ("neither", "  the ", ["▁", "▁the", "▁"]),
        ("suffix", "the the  s", ["the▁", "the▁", "s▁"]),
        ("users", "thesnails  e  s", ["▁the", "snail", "s", "▁", "e", "▁", "▁", "s"]),
        ("surface", "ae ta", ["▁", "a", "e▁t", "a"]),
    ],
)
def test_tokens(name, text, tokens):
    tokenizer = ALL[name]
    ids = tokenizer.encode(text)
    assert tokenizer.tokens(text) == tokens and ids.dtype == np.int64
    assert tokenizer.pieces(text)[0].tolist() == ids.tolist()


def test_the_longest_string_of_the_charsmap_is_taken():
    table = {"a": "b", "\r\n": "n", "a\u0301": "c", "a\u0301\u0302\u0303": "d", "\u0302": "e"}
    tokenizer = SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], charsmap=table))
    for text, normal in (
        ("a\u0301a", "cb"),
        ("a\u0301\u0302", "ce"),
        ("a\u0301\u0302\u0303a", "db"),
        ("aa\u0302", "bbe"),
        ("\ra\r\n", "\rbn"),
    ):
        assert tokenizer.normalize(text) == tokenizer.align(text)[0] == f"▁{normal}"


def test_a_string_of_the_charsmap_may_go_on_with_ascii():
    tokenizer = SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], charsmap={"éa": "e"}))
    assert tokenizer.normalize("éaéé a") == "▁eéé▁a"


def test_what_a_user_defined_has_a_score_by_its_bytes():
    """0.1 for each but the first, in float32."""
    tokenizer = SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS, ("éé", 0.0, USER_DEFINED)]))
    assert tokenizer.lattice()[0]["éé"] == float(np.float32(0.1 * 3)) and tokenizer.tokens("aéés") == [
        "▁",
        "a",
        "éé",
        "s",
    ]


def test_what_a_user_defined_is_not_normalised():
    users = [("x", 0.0, USER_DEFINED), ("xﬁ", 0.0, USER_DEFINED)]
    tokenizer = SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS, *users], charsmap=CHARSMAP))
    assert tokenizer.normalize("xﬁﬁx") == "▁xﬁfix"


def test_t5_layout():
    assert T5.tokens("the<extra_id_1>\x01s", special=True) == ["▁the", "<extra_id_1>", "▁", "s", "</s>"]
    assert T5.sentinel_ids.tolist() == [26, 25, 24] and T5.vocab_size == 27
    assert [T5.pad_id, T5.eos_id, T5.unk_id, T5.bos_id] == [0, 1, 2, None]
    assert T5.special_ids.tolist() == [0, 1, 2, 24, 25, 26]
    assert T5.encoding("the", "s").ids.tolist() == [4, 1, 3, 8, 1]
    assert SentencePieceTokenizer(VARIANTS["T5"]).encode("the", special=True).tolist() == [4]


@pytest.mark.parametrize(
    ("name", "text", "offsets"),
    [
        ("T5", "  the\t snails", [(2, 5), (5, 12), (12, 13)]),
        ("T5", "the  ", [(0, 3)]),
        ("T5", "e\u0301…", [(0, 0), (0, 2), (2, 2), (2, 2), (2, 3)]),
        ("bytes", "a☃", [(0, 0), (0, 1), (1, 2), (1, 2), (1, 2)]),
        ("suffix", "the", [(0, 3)]),
    ],
)
def test_offsets(name, text, offsets):
    assert [tuple(span) for span in ALL[name].encoding(text, special=False).offsets.tolist()] == offsets


def test_decode():
    tokenizer, snail = ALL["T5"], "the snails"
    assert tokenizer.decode(tokenizer.encode(snail)) == snail
    assert tokenizer.decode([3, 3, 4, 2, 3]) == "the \u2047  " and ALL["spaces stay"].decode([3, 3, 4]) == "  the"
    assert tokenizer.decode([0, 4, 1]) == "<pad> the</s>" and tokenizer.decode([0, 4, 1], skip_special=True) == "the"
    assert ALL["surface"].decode([2, 4]) == "[?] the" and ALL["neither"].decode([4]) == " the"
    first = len(SPECIAL)
    ids = [first + byte for byte in b"\xc3\xa9\xff\xe2\x98\x83\xe2"]
    assert ALL["bytes"].decode(ids) == "é\ufffd☃\ufffd"
    stream = ALL["bytes"].stream()
    assert [stream.push(ids[:1]), stream.push(ids[1:]), stream.end()] == ["", "", "é\ufffd☃\ufffd"]


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=40)
@given(text=TEXTS)
def test_pieces_and_streams_agree_with_encode_and_decode(name, text):
    tokenizer = ALL[name]
    ids, offsets = tokenizer.pieces(text)
    assert ids.tolist() == tokenizer.encode(text).tolist() and tokenizer.align(text)[0] == tokenizer.normalize(text)
    assert all(0 <= start <= end <= len(text) for start, end in offsets.tolist())
    stream = tokenizer.stream()
    assert "".join([stream.push([i]) for i in ids]) + stream.end() == tokenizer.decode(ids)


@pytest.mark.parametrize("name", ALL)
def test_copies_pickles_and_checkpoints_are_whole(name, tmp_path):
    tokenizer, text = ALL[name], "the  snails</s> ☃ caféa\u0301 "
    GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=2, n_layer=1, n_head=1, n_embd=2)).save(
        tmp_path, tokenizer
    )
    others = [copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer)), minigpt.load_tokenizer(tmp_path)]
    for other in [*others, SentencePieceTokenizer.from_json(tokenizer.to_json())]:
        assert other.values() == tokenizer.values() and other.roles == tokenizer.roles
        for special in (False, True):
            assert other.encode(text, special).tolist() == tokenizer.encode(text, special).tolist()


@pytest.mark.parametrize(("tokenizer", "name"), [(T5, "spiece.model"), (ALL["users"], "tokenizer.model")])
def test_folders(tokenizer, name, tmp_path):
    tokenizer.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"spiece.model", "tokenizer_config.json"}
    (tmp_path / "spiece.model").rename(tmp_path / name)
    other = minigpt.load_tokenizer(tmp_path)
    assert other.values() == tokenizer.values() and other.template == tokenizer.template


def test_t5_is_known_by_either_config(tmp_path):
    (tmp_path / "spiece.model").write_bytes(VARIANTS["T5"])
    assert minigpt.load_tokenizer(tmp_path).values() == ALL["T5"].values()
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    assert len(minigpt.load_tokenizer(tmp_path).sentinel_ids) == 100
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 2, "additional_special_tokens": ["<extra_id_0>"]}')
    tokenizer = minigpt.load_tokenizer(tmp_path)
    assert tokenizer.t5 and tokenizer.sentinel_ids.tolist() == [25, 24]
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "x_token": "a"}'
    )
    (tmp_path / "config.json").unlink()
    assert minigpt.load_tokenizer(tmp_path).encode("the", special=True).tolist() == [4, 1]
    (tmp_path / "added_tokens.json").write_text('{"<new>": 24}')
    assert minigpt.load_tokenizer(tmp_path).tokens("the<new>", True) == ["▁the", "<new>", "</s>"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", '{"tokenizer_class": "AlbertTokenizer"}', "tokenizer_class is 'AlbertTokenizer'"),
        ("tokenizer_config.json", '{"extra_ids": -1}', "extra_ids is -1"),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "T5Tokenizer", "eos_token": "<end>"}',
            "T5's end of a text, '<end>'",
        ),
        ("config.json", '{"model_type": "xlnet"}', "model_type is 'xlnet', of sentencepiece's files computed is t5"),
    ],
)
def test_folders_of_other_models_are_refused(tmp_path, name, content, message):
    (tmp_path / "spiece.model").write_bytes(VARIANTS["T5"])
    (tmp_path / name).write_text(content)
    with pytest.raises(MinigptError, match=message):
        minigpt.load_tokenizer(tmp_path)


def test_save_where_another_file_would_be_read(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(MinigptError, match=r"tokenizer\.json is there, which is read in place of spiece\.model"):
        T5.save(tmp_path)
    GPT(GPTConfig(vocab_size=4, block_size=2, n_layer=1, n_head=1, n_embd=2)).save(tmp_path / "model")
    with pytest.raises(MinigptError, match="has a checkpoint: save the model with its tokenizer"):
        T5.save(tmp_path / "model")


def test_parts_of_a_text_have_the_ids_of_the_whole(monkeypatch):
    monkeypatch.setattr("minigpt.tokenizers.parts.PART", 5)
    text = "the snails  ☃\n ☃☃ the "
    parts = [text[i : i + 3] for i in range(0, len(text), 3)]
    assert np.concatenate(list(encode_parts(T5, parts, special=True))).tolist() == T5.encode(text, True).tolist()


# Sums of floats


def test_rounding_decides_between_equal_ways():
    """a aa and aa a are equal; which sum of float32 is larger depends on what stands before."""
    pieces = [("▁", -2.1, NORMAL), ("a", -3.3, NORMAL), ("aa", -7.7, NORMAL), ("b", -4.1, NORMAL)]
    tokenizer = SentencePieceTokenizer(spiece([("<unk>", 0.0, UNKNOWN), *pieces]))
    word, found = "aaa", set()
    for n in range(60):
        tokens = tokenizer.tokens("b" * n + word)
        found.add(tuple(tokens[-2:]))
        ids = tokenizer.pieces("b" * n + word)[0]
        assert ids.tolist() == tokenizer.encode("b" * n + word).tolist()
    assert found == {("a", "a")}  # a a a has -9.9
    close = [("▁", -2.1, NORMAL), ("a", -3.3, NORMAL), ("aa", -5.2, NORMAL), ("b", -4.1, NORMAL)]
    tokenizer = SentencePieceTokenizer(spiece([("<unk>", 0.0, UNKNOWN), *close]))
    assert len({tuple(tokenizer.tokens("b" * n + word)[-2:]) for n in range(60)}) == 2


def exact(parts, table, code):
    """All parts anew, as whole_text would have it if it trusted none."""
    begin, found = 0.0, []
    for part in parts:
        ends, begin = viterbi.rounded_ends(part, table, begin, code)
        found.append(ends)
    return found


def close_table(rng):
    """Pieces that are worth nearly as much as their characters."""
    single = {c: np.float32(-rng.uniform(1, 9)) for c in "▁ab"}
    pieces = {"".join(rng.choice(list("ab"), n)) for n in [2, 2, 2, 3, 3, 4] * 3}
    pieces |= {f"▁{piece}" for piece in sorted(pieces)[::2]}
    scores = {p: float(np.float32(sum(map(single.get, p)) + rng.choice([0, 1e-6, -1e-5, 2e-4, 0.3]))) for p in pieces}
    return viterbi.table(scores | {c: float(score) for c, score in single.items()}, -20.0)


@pytest.mark.parametrize("code", "fd")
def test_what_is_not_cut_anew_needs_not_be(code, rng, monkeypatch):
    """And sums that start anew at 100,000."""
    monkeypatch.setattr(viterbi, "RESET", 3000.0)
    table = close_table(rng)
    parts = ["▁" + "".join(rng.choice(list("aabbc"), rng.integers(0, 9))) for _ in range(1500)]
    cuts = [viterbi.best_cut(part, table) for part in parts]
    anew = viterbi.whole_text(parts, cuts, table, code)
    assert exact(parts, table, code) == [anew.get(at, cut.ends) for at, cut in enumerate(cuts)]
    assert 0 < len(anew) < len(parts)


def slow_float32(text, table, begin, limit):
    """What sentencepiece computes, sum by sum: where the pieces end, and the last sum."""
    best, start_of = {0: np.float32(begin)}, {}
    for start in range(len(text)):
        if abs(best[start]) > limit:
            here = best[start]
            best = {at: np.float32(score - here) if at >= start else score for at, score in best.items()}
        for end in range(start + 1, len(text) + 1):
            score = table.scores.get(text[start:end], table.unknown if end == start + 1 else None)
            if score is not None:
                total = np.float32(np.float32(score) + best[start])
                if end not in best or total > best[end]:
                    best[end], start_of[end] = total, start
    return viterbi.ends_of([0, *(start_of[end] for end in range(1, len(text) + 1))]), float(best[len(text)])


def test_sums_of_float32_are_those_of_sentencepiece(rng, monkeypatch):
    """Wherever in a part they start anew."""
    monkeypatch.setattr(viterbi, "RESET", 40.0)
    far = {"a": -4.25, "b": -5.1, "c": -6.7, "▁": -3.3, "bc": -11.8, "cabca": -26.2, "abab": -18.7}
    far = viterbi.table({piece: float(np.float32(score)) for piece, score in far.items()}, -20.0)
    for table in [close_table(rng), far] * 200:
        text, begin = "▁" + "".join(rng.choice(list("aabbc"), 12)), float(np.float32(-rng.uniform(0, 60)))
        assert tuple(viterbi.rounded_ends(text, table, begin, "f")) == slow_float32(text, table, begin, 40)


def test_the_longest_pieces_and_words_are_cut_together_with_others():
    long = "ab" * (many_words.LONGEST // 2)
    words = [long, f"{long}a", long[1:], *(f"b{n}" for n in range(many_words.FEW))]
    pieces = [("<unk>", 0.0), ("a", -2.0), ("b", -3.0), (long, -5.0), (f"{long}a", -6.0)]
    tokenizer = minigpt.UnigramTokenizer(pieces, unk_id=0, pre_tokenizer=None)
    found = tokenizer.cuts_of(words)
    assert [np.frombuffer(found[word].ids, np.int64).tolist() for word in words[:2]] == [[3], [4]]
    assert np.frombuffer(found[words[2]].ids, np.int64).tolist() == [2, *[1, 2] * 23]


def test_many_words_are_cut_as_one_by_one(rng):
    scores = {"".join(rng.choice(list("▁abc"), n)): -float(rng.integers(1, 20)) for n in [1] * 9 + [2, 3, 4, 9] * 9}
    ids = {piece: i for i, piece in enumerate(scores)}
    table, trie = viterbi.table(scores, -25.0), many_words.make_trie(scores, ids, -25.0)
    words = sorted({"".join(rng.choice(list("▁abc☃"), rng.integers(1, 30))) for _ in range(500)})
    cuts, unknown = many_words.cut_words(words, trie)
    for i, (word, cut) in enumerate(zip(words, cuts)):
        best = viterbi.best_cut(word, table)
        starts = [0, *best.ends]
        found = [ids.get(word[a:b], -1) for a, b in zip(starts, best.ends)]
        assert (cut.scores, cut.total, cut.gap) == best[1:]
        assert np.frombuffer(cut.ids, np.int64).tolist() == found
        assert unknown.get(i, best.ends) == best.ends and (i in unknown) == (-1 in found)
    fused, none = many_words.cut_words(words, many_words.make_trie(scores, ids, -25.0, 99))
    for cut, other in zip(fused, cuts):
        runs = itertools.groupby(np.frombuffer(other.ids, np.int64).tolist(), lambda i: -1 if i < 0 else object())
        expected = [i for key, run in runs for i in ([99] if key == -1 else run)]
        assert np.frombuffer(cut.ids, np.int64).tolist() == expected and cut[1:] == other[1:] and not none


def test_long_texts_take_time_in_proportion():
    start = time.perf_counter()
    assert len(T5.encode("snail" * 5_000)) > 10_000
    assert len(T5.encode("☃" * 50_000)) == 2
    T5.encode("e\u0301" * 10_000 + "\u0301" * 10_000)
    T5.encode(" " * 100_000)
    assert time.perf_counter() - start < 6


# Damaged files


GOOD = VARIANTS["T5"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "spiece.model has no normal piece"),
        (GOOD[:-1], "bytes, .* are left"),
        (GOOD[:700], "are left|does not end"),
        (b"\xff" * 20, "a number at byte 0 of 20 does not end"),
        (b"\x00\x00", "a field at byte 1 has the number 0"),
        (b"\x0b", "field 1 at byte 1 has the unknown wire type 3"),
        (b"\x0a\xff\xff\xff\xff\x0f", "field 1 has 4,294,967,295 bytes, 0 are left"),
        (b"\x08\x01", "pieces has the wire type 0, it must be 2"),
        (spiece([*SPECIAL, *NORMALS], {3: 2}), "model_type is BPE, computed is UNIGRAM"),
        (spiece([*SPECIAL, *NORMALS], {3: 9}), "model_type is 9"),
        (spiece([*SPECIAL, *NORMALS], {3: -(1 << 40)}), "model_type is -1099511627776, it must be a number of 32 bits"),
        (spiece([*SPECIAL, *NORMALS], {35: 1.0}), "byte_fallback has the wire type 5, it must be 0"),
        (spiece([*SPECIAL, *NORMALS], {35: True}), "byte_fallback is true, the byte <0x00> is missing"),
        (spiece([*SPECIAL, *NORMALS, *BYTES]), "has the byte <0x00>, although byte_fallback is false"),
        (spiece([*SPECIAL, *NORMALS, *BYTES[1:]], {35: True}), "the byte <0x00> is missing"),
        (spiece([*SPECIAL, *NORMALS, ("<0x0a>", 0.0, 6)], {35: True}), "is '<0x0a>', a byte is <0x00> to <0xFF>"),
        (spiece([*SPECIAL, *NORMALS], {44: b"\xff"}), "unk_surface is .* not UTF-8"),
        (spiece([*SPECIAL, *NORMALS], (), {5: False}), "escape_whitespaces is false, which is not computed"),
        (spiece([*SPECIAL, *NORMALS]) + field(5, message({2: b"x"})), "denormalizer_spec has a charsmap"),
        (spiece([*SPECIAL, *NORMALS, ("a", 0.0, NORMAL)]), r"pieces\[24\] is 'a', which stands at 10 already"),
        (spiece([*SPECIAL, *NORMALS, ("", 0.0, NORMAL)]), r"pieces\[24\] has 0 bytes, it must have 1 to 7,999"),
        (spiece([*SPECIAL, *NORMALS, ("x" * 8000, 0.0, NORMAL)]), "has 8,000 bytes"),
        (spiece([*SPECIAL, *NORMALS, ("\0", 0.0, NORMAL)]), r"is '\\x00', no piece has a NUL"),
        (spiece([*SPECIAL, *NORMALS, ("x", float("nan"), NORMAL)]), "the score of 'x' is nan"),
        (spiece([*SPECIAL, *NORMALS, ("x", float("inf"), NORMAL)]), "the score of 'x' is inf"),
        (
            spiece([*SPECIAL, *NORMALS, ("x", -3e38, NORMAL)]),
            "the score of 'x' is -3.0[0-9]*e[+]38",
        ),
        (spiece([*SPECIAL, *NORMALS, ("x", 0.0, 7)]), "'x': type is 7, it must be 1 to 6"),
        (spiece([*SPECIAL, *NORMALS, ("x", 0.0, UNKNOWN)]), "has 2 pieces of type UNKNOWN, it must have 1"),
        (spiece(NORMALS), "has 0 pieces of type UNKNOWN"),
        (spiece(SPECIAL), "has no normal piece"),
        (spiece([("\ud800".encode("utf-8", "surrogatepass"), 0.0, NORMAL)]), "piece is .*, which is not UTF-8"),
        (spiece([*SPECIAL, *NORMALS], (), {2: b"abc"}), "the charsmap has 3 bytes"),
    ],
)
def test_a_wrong_file_is_refused(data, text, tmp_path):
    (tmp_path / "spiece.model").write_bytes(data)
    with pytest.raises(MinigptError, match=text) as error:
        minigpt.load_tokenizer(tmp_path)
    assert str(error.value).startswith(str(tmp_path)) and str(error.value).isprintable()


def test_unknown_fields_are_skipped():
    more = field(77, 5) + field(78, b"abc") + field(79, 1.0) + varint(80 << 3 | 1) + bytes(8)
    assert SentencePieceTokenizer(GOOD + more).encode("the").tolist() == [4]


def test_a_message_that_stands_twice_is_both():
    twice = GOOD + field(2, message({35: False, 44: "?"})) + field(2, message({44: "!"}))
    assert SentencePieceTokenizer(twice).decode([2]) == "!"
    tokenizer = SentencePieceTokenizer(GOOD + field(3, message({4: False})))  # and its charsmap is still there
    assert tokenizer.tokens("the  ﬁ") == ["▁the", "▁", "▁", "f", "i"]


def test_limits_of_sizes(monkeypatch):
    with pytest.raises(MinigptError, match="has 67,108,865 bytes, it may have at most 67,108,864"):
        SentencePieceTokenizer(bytes((1 << 26) + 1))
    monkeypatch.setattr("minigpt.tokenizers.protobuf.MOST", 3)
    with pytest.raises(MinigptError, match="field 1 stands more than 3 times"):
        SentencePieceTokenizer(GOOD)
    monkeypatch.undo()
    for table, text in (
        ({"a" * 257: "b"}, "has strings of more than 256 bytes"),
        ({"a": "b" * (1 << 23)}, "at most 8,388,608"),
    ):
        with pytest.raises(MinigptError, match=text):
            SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], charsmap=table))
    assert SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], charsmap={"a" * 256: "b"})).normalize("a" * 257) == "▁ba"


def test_numbers_of_more_than_64_bits_lose_what_is_above():
    more = b"\xff" * 9
    assert Message(b"\x18" + more + b"\x01", "x").whole(3, "n", 0) == -1
    assert Message(b"\x18" + more + b"\x7f", "x").whole(3, "n", 0) == -1


def test_a_nul_that_is_not_used_may_be_a_piece():
    assert SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS, ("\0", 0.0, UNUSED)])).encode("the").tolist() == [4]


def test_too_many_pieces(monkeypatch):
    monkeypatch.setattr("minigpt.tokenizers.spiece_files.LARGEST_VOCABULARY", 3)
    with pytest.raises(MinigptError, match="has more than 3 pieces"):
        SentencePieceTokenizer(GOOD)


def damaged_charsmap(table, **changes):
    """A charsmap's bytes with a unit of its trie changed, unit0=..., or its size, or its texts."""
    data = bytearray(charsmap_bytes(table))
    for name, value in changes.items():
        at = 0 if name == "size" else 4 + 4 * int(name.removeprefix("unit"))
        data[at : at + 4] = struct.pack("<I", value)
    return bytes(data)


LEAF = struct.unpack("<256I", charsmap_bytes({"a": "b"})[4:1028])
NODE = LEAF[0] >> 10 ^ ord("a")  # of "a", where a string ends
VALUE = NODE ^ LEAF[NODE] >> 10  # the unit that holds what it becomes


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\0", "the charsmap has 1 bytes, its trie would have 0"),
        (charsmap_bytes({"a": "b"})[:1000], "the charsmap has 1,000 bytes, its trie would have 1,024"),
        (charsmap_bytes({"a": "b"})[:-1], "the charsmap is cut off, it must end with a zero byte"),
        (damaged_charsmap({"a": "b"}, size=1026), "its trie would have 1,026"),
        (damaged_charsmap({"a": "b"}, size=1 << 31), "its trie would have 2,147,483,648"),
        (damaged_charsmap({"a": "b"}, **{f"unit{VALUE}": 0x80000002}), "points at byte 2, it has 2"),
        (damaged_charsmap({"a": "é"}, **{f"unit{VALUE}": 0x80000001}), "points into the middle of a character"),
        (charsmap_bytes({"a": "é"})[:-3] + b"\xff\0", "the charsmap's texts are not UTF-8, at byte"),
    ],
)
def test_a_damaged_charsmap_is_refused(data, text):
    with pytest.raises(MinigptError, match=text):
        SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], (), {2: data}))
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}
    with pytest.raises(MinigptError, match=text):
        minigpt.UnigramTokenizer([("a", 0.0)], normalizer=normalizer)


def test_a_trie_that_points_outside_or_goes_in_a_circle():
    """A node whose children would be far away has none; one that leads to itself is read, and no
    text makes it go on for ever.
    """
    data = damaged_charsmap({"a": "b"}, **{f"unit{NODE}": LEAF[NODE] & 0x1FF | 1 << 30})
    with pytest.raises(MinigptError, match="points at unit 1,048,672, it has 256"):
        SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], (), {2: data}))
    data = damaged_charsmap({"a": "b"}, **{f"unit{NODE}": ord("a") | (NODE ^ LEAF[0] >> 10) << 10})
    tokenizer = SentencePieceTokenizer(spiece([*SPECIAL, *NORMALS], (), {2: data}))
    assert tokenizer.normalize("a" * 1000) == "▁" + "a" * 1000


def test_json_that_is_none(tmp_path):
    values = json.loads(T5.to_json())
    for key, value, text in (
        ("file", "!", "file is not base64"),
        ("file", base64.b64encode(GOOD[:50]).decode(), "are left"),
        ("roles", {"end": "</s>"}, "unknown key 'end'"),
        ("extra_ids", 1 << 40, "extra_ids is 1099511627776"),
        ("t5", 1, "t5 is 1"),
        ("new", 1, "unknown key 'new'"),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(values | {key: value}))
        with pytest.raises(MinigptError, match=text):
            minigpt.load_tokenizer(tmp_path)


# Compared with sentencepiece


def processor(data):
    """sentencepiece's own reading of a file's bytes."""
    sentencepiece = pytest.importorskip("sentencepiece")
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def compare(ours, theirs, text):
    """Ids, offsets but for bytes, and decoding."""
    ids, offsets = ours.pieces(text)
    other = theirs.encode(text, return_type="offset_mapping")
    assert ours.encode(text).tolist() == ids.tolist() == other["ids"] == theirs.encode(text)
    if not ours.byte_fallback:
        assert [tuple(span) for span in offsets.tolist()] == [tuple(span) for span in other["offsets"]]
    assert ours.decode(ids) == theirs.decode(other["ids"])


@pytest.mark.parity
@pytest.mark.parametrize("name", VARIANTS)
def test_equal_to_sentencepiece(name):
    theirs = processor(VARIANTS[name])

    @settings(deadline=None, max_examples=300)
    @given(TEXTS | st.text(max_size=20), st.lists(st.integers(3, theirs.get_piece_size() - 1), max_size=9))
    def check(text, ids):
        compare(ALL[name], theirs, text)
        assert ALL[name].decode(ids) == theirs.decode(ids)

    check()


@pytest.fixture(scope="module")
def t5_model(tmp_path_factory):
    """T5's layout, trained by sentencepiece on tiny Shakespeare: bytes."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("t5")
    (folder / "text.txt").write_text(tiny_shakespeare(say=lambda line: None).text, encoding="utf-8")
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2, "num_threads": 1}
    model = {"input": folder / "text.txt", "model_prefix": folder / "spiece", "vocab_size": 4000}
    sentencepiece.SentencePieceTrainer.train(**model, **ids)
    return (folder / "spiece.model").read_bytes()


@pytest.mark.parity
@pytest.mark.slow
def test_equal_to_sentencepiece_on_whole_texts(t5_model):
    """In one call, to the last rounding of float32; and odd texts with the real charsmap."""
    text = tiny_shakespeare(say=lambda line: None).text
    folder = real_folder(SPIECE_PACKAGE, SPIECE_FILES, sdist=True)
    botchan = (folder / "botchan.txt").read_text(encoding="utf-8")
    models = [
        t5_model,
        *((folder / f"{name}.model").read_bytes() for name in ("botchan_en_unigram_1000", "kyoto_ja_unigram_8000")),
    ]
    for data in models:
        ours, theirs = SentencePieceTokenizer(data), processor(data)
        for whole in (text, botchan, text.replace("\n", " ").lower(), "".join(text.split())[:50_000]):
            assert np.array_equal(ours.encode(whole), theirs.encode(whole))
        for line in botchan.splitlines()[::4]:
            compare(ours, theirs, line)
    with pytest.raises(MinigptError, match="model_type is BPE, computed is UNIGRAM"):
        SentencePieceTokenizer((folder / "botchan_en_bpe_1000.model").read_bytes())


ODD_CHARACTERS = (
    "abthe  \t\r\n.'é\u0301\u0302\u0323\u200d\u200c\xa0\u3000中가\u1100\u1161\u11a8İßﬁⅣ½ｆﾊﾞガ😀👩🏻\ufe0f\0\x01\x85"
)
ODD = st.text(st.sampled_from(ODD_CHARACTERS + "\u0915\u093f\u0e33\u0600▁"), max_size=30)


@pytest.mark.parity
@pytest.mark.slow
def test_equal_to_sentencepiece_on_odd_texts(t5_model):
    ours, theirs = SentencePieceTokenizer(t5_model), processor(t5_model)

    @settings(deadline=None, max_examples=2000)
    @given(ODD | st.text(max_size=30))
    def check(text):
        compare(ours, theirs, text)

    check()


@pytest.mark.parity
def test_a_folder_with_a_model_has_the_ids_of_transformers(tmp_path):
    """Which takes texts apart by graphemes: those of plain texts are the same."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("google.protobuf")
    tokenizers_oracle()
    T5.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(other) == T5.vocab_size
    for text in ("the snails <extra_id_0> s", "  the☃ ﬁ\tcafé"):
        assert other(text)["input_ids"] == T5.encode(text, special=True).tolist()
    assert [other.pad_token_id, other.eos_token_id, other.unk_token_id] == [0, 1, 2]


@pytest.mark.parity
@pytest.mark.parametrize("kind", [CONTROL, UNKNOWN])
def test_sentencepiece_refuses_the_same(kind):
    """What is refused here is no file for sentencepiece either."""
    for data in (
        spiece([*SPECIAL, *NORMALS, ("a", 0.0, NORMAL)]),
        spiece(NORMALS),
        spiece([*SPECIAL, ("", 0.0, kind)]),
    ):
        with pytest.raises(RuntimeError):
            processor(data)
        with pytest.raises(MinigptError):
            SentencePieceTokenizer(data)
