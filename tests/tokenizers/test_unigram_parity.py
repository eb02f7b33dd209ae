"""Unigram in tokenizer.json against `tokenizers` and `transformers`."""

import base64
import io
import itertools
import json
import unicodedata

import numpy as np
import pytest
import regex
from charsmaps import charsmap_bytes, precompiled
from code_points import some_code_points
from hypothesis import given, settings
from hypothesis import strategies as st
from real_unigrams import MON, MON_FILES, real_folder
from tokenizers_oracle import tokenizers_oracle
from unigram_samples import ALL, METASPACE, PIECES, T5_LIKE, added, t5_like

import minigpt
from minigpt import UnigramTokenizer
from minigpt.tokenizers import AddedToken
from minigpt.tokenizers.charsmap import Charsmap
from minigpt.tokenizers.normalizers import normalize, normalizer_from
from minigpt.tokenizers.spiece import SentencePieceTokenizer

LETTERS = "theosnailcafé .<>'-"
ODD = "\t\r\n\xa0\u3000\u2028\x1c\x85É\u0301\u0302\u0323\u0345\u200d\u200c\u1100\u1161\u11a8가İßΣςﬁﬀⅣ½①ｆｕアﾊﾞガ中"
ODD += "😀👨\ufe0f👩🏻🇳🇱\0\x01\x7f\ufffd\u0627\u094d\u0915\u093f\u0e33\u0600\u0d4eﷺ…™©▁__"
WORDS = (
    "the snails",
    "</s>",
    "<unk>",
    "<pad>",
    " <extra_id_0> ",
    "<0xC3>",
    "  ",
    "\r\n",
    "👨\u200d👩\u200d👧",
    "e\u0301\u0302",
    "▁▁",
)
TEXTS = st.lists(st.sampled_from([*LETTERS, *ODD, *WORDS]), max_size=25).map("".join) | st.text(max_size=12)
CHARSMAP = precompiled(
    {"ﬁ": "fi", "ﬀ": "ff", "e\u0301": "é", "É": "E\u0301", "\t": " ", "\x01": "", "…": "...", "a": "a"}
)
SEQUENCE = {"type": "Sequence", "normalizers": [CHARSMAP, {"type": "Strip", "strip_left": False, "strip_right": True}]}
SEQUENCE["normalizers"].append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"})
MANY = [*PIECES, ("▁▁", -6.0), ("<0xC3>", -9.0), ("the▁snail", -7.0), ("ff", -5.0), ("aa", -6.0)]
SPLIT = {"type": "WhitespaceSplit"}
SETTINGS = {  # more of them
    "real charsmap": None,
    "charsmap": {"normalizer": CHARSMAP},
    "newer T5": {"normalizer": SEQUENCE, "pre_tokenizer": METASPACE},
    "strips left": {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": False}},
    "first": {"normalizer": {"type": "NFC"}, "pre_tokenizer": METASPACE | {"prepend_scheme": "first"}},
    "first, not cut": {
        "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
        "pre_tokenizer": METASPACE | {"prepend_scheme": "first", "split": False},
    },
    "never": {"normalizer": {"type": "NFKD"}, "pre_tokenizer": METASPACE | {"prepend_scheme": "never"}},
    "first at white space": {
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, METASPACE | {"prepend_scheme": "first"}]},
    },
    "early": {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}},
    "nothing": {"normalizer": {"type": "NFD"}, "pre_tokenizer": None, "decoder": None},
    "of transformers": {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]},
    },
}


@pytest.fixture(scope="module")
def real_charsmap():
    """sentencepiece's NFKC, as every model trained the usual way has it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    lines = iter(["the snail is slow"] * 10)
    options = {"vocab_size": 20, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=model, **options)
    charsmap = SentencePieceTokenizer(model.getvalue()).spiece.charsmap
    units = np.array(charsmap.units, "<u4").tobytes()
    data = len(units).to_bytes(4, "little") + units + charsmap.texts
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


def made(name, real_charsmap):
    """A tokenizer by its name among the samples or the settings."""
    if name in ALL:
        return ALL[name]
    changes = {"normalizer": real_charsmap} if SETTINGS[name] is None else SETTINGS[name]
    return t5_like(MANY, **changes)


def mark_on_one_of_several(ours, text):
    """Whether a mark stands behind a character that becomes several, such as a ligature's: put on
    the last of these, it is within the place of that one in tokenizers, and not in ours.
    """
    return any(len(ours.normalize(c)) > 1 and unicodedata.combining(mark) for c, mark in itertools.pairwise(text))


def compare(ours, other, text, decodes=True):
    """Ids, offsets and both ways of decoding, with special tokens and without."""
    ids, theirs = ours.encode(text, special=True).tolist(), other.encode(text)
    assert ids == theirs.ids
    encoding = ours.encoding(text)
    assert encoding.ids.tolist() == ids
    # one that is removed at the beginning moves all places there
    if all(map(ours.normalize, text)) and not mark_on_one_of_several(ours, text):
        assert [tuple(span) for span in encoding.offsets.tolist()] == theirs.offsets
    for skip in (False, True) if decodes else ():
        assert ours.decode(ids, skip) == other.decode(ids, skip_special_tokens=skip)


@pytest.mark.parity
@pytest.mark.parametrize("name", [*ALL, *SETTINGS])
def test_equal_to_tokenizers(name, real_charsmap):
    ours = made(name, real_charsmap)
    other = tokenizers_oracle().Tokenizer.from_str(ours.to_json())
    assert (
        UnigramTokenizer.from_json(other.to_str()).encode("the snails").tolist() == ours.encode("the snails").tolist()
    )

    @settings(deadline=None, max_examples=150)
    @given(TEXTS, st.lists(st.integers(0, ours.vocab_size - 1), max_size=12))
    def check(text, ids):
        compare(ours, other, text)
        assert ours.decode(ids) == other.decode(ids, skip_special_tokens=False)

    check()


@pytest.mark.parity
@pytest.mark.parametrize("changes", [{}, {"prepend_scheme": "first", "split": False}])
def test_added_tokens_of_all_sorts_are_those_of_tokenizers(changes):
    pieces = [*PIECES, ("snail", -5.0), ("<x>", -1.0)]
    tokens = [
        *added(PIECES),
        AddedToken("snail", 21, special=False, normalized=True),
        AddedToken("<x>", 22, lstrip=True),
    ]
    tokens += [
        AddedToken("new", 23, single_word=True, special=False),
        AddedToken("É", 24, normalized=True, rstrip=True),
    ]
    ours = UnigramTokenizer(pieces, unk_id=2, normalizer=CHARSMAP, pre_tokenizer=METASPACE | changes, added=tokens)
    other = tokenizers_oracle().Tokenizer.from_str(ours.to_json())
    parts = st.sampled_from(["snail", "<x>", "new", "É", "E\u0301", "the", " ", "s", "☃", "</s>"])

    @settings(deadline=None, max_examples=150)
    @given(st.lists(parts).map("".join))
    def check(text):
        compare(ours, other, text, decodes="É" not in ours.tokens(text, True))  # which it writes in its normal form

    check()


# Normalizers, every code point


def blocks_of_code_points():
    """Texts in which each code point stands alone and between letters and marks."""
    codes = some_code_points()
    for i in range(0, len(codes), 4000):
        yield "".join(f"a{c}e {c} \u0301{c}\u0323 " for c in map(chr, codes[i : i + 4000]))


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("name", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "charsmap"])
def test_every_code_point_is_normalised_as_in_tokenizers(name, real_charsmap):
    source = real_charsmap if name == "charsmap" else {"type": name}
    values = UnigramTokenizer([("a", 0.0)], normalizer=source).values()
    other = tokenizers_oracle().Tokenizer.from_str(json.dumps(values)).normalizer
    steps = normalizer_from(source)
    for text in blocks_of_code_points():
        ours, theirs = normalize(steps, text), other.normalize_str(text)
        assert ours == theirs, next((a, b) for a, b in zip(ours.split(" "), theirs.split(" ")) if a != b)


@pytest.mark.parity
def test_graphemes_are_those_of_tokenizers():
    """What a character becomes drops what else is in its grapheme, so that its end shows."""
    table = {"a": "X", "é": "Y", "e": "E", "\r": "R", "\n": "N", "\u0301": "M", "\u0600": "P", "\u0e33": "Q"}
    data = charsmap_bytes(table)
    other, ours = tokenizers_oracle().normalizers.Precompiled(data), Charsmap(data, "charsmap")
    special = regex.compile(
        r"[\p{M}\p{Cf}\p{Cc}\p{GCB=Extend}\p{GCB=Prepend}\p{GCB=SpacingMark}\p{Extended_Pictographic}]"
    )
    codes = [c for c in some_code_points() if c and (c % 97 == 0 or special.match(chr(c)))]
    around = [("a", ""), ("é", ""), ("", "e"), ("a", "\u0301"), ("\u0600", ""), ("a\u200d", ""), ("\u0301", "")]
    for before, after in [*around, ("가", ""), ("\r", "\n"), ("🇳", "\u0301")]:
        for code in codes:
            text = before + chr(code) + after
            assert ours.by_grapheme(text) == other.normalize_str(text), ascii(text)


# Real files, and transformers


@pytest.mark.parity
@pytest.mark.slow
def test_a_real_tokenizer_with_bytes():
    """Mon, Burmese and English, of 64,256 pieces."""
    path = real_folder(MON, MON_FILES) / "tokenizer.json"
    ours, other = minigpt.load_tokenizer(path.parent), tokenizers_oracle().Tokenizer.from_file(str(path))
    tokens = ours.tokens("The quick brown fox translates sentences.")
    assert tokens == ["▁The", "▁quick", "▁brown", "▁", "fox", "▁translate", "s", "▁sentence", "s."]

    @settings(deadline=None, max_examples=500)
    @given(TEXTS | st.text(st.characters(min_codepoint=0x1000, max_codepoint=0x109F), max_size=20))
    def check(text):
        compare(ours, other, text)

    check()


@pytest.mark.parity
@pytest.mark.parametrize("name", ["T5", "bytes", "newer T5", "first"])
def test_saved_folders_load_in_transformers(name, tmp_path, real_charsmap):
    transformers = pytest.importorskip("transformers")
    tokenizer = made(name, real_charsmap)
    tokenizer.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(other) == tokenizer.vocab_size
    assert [other.pad_token_id, other.eos_token_id, other.unk_token_id] == [0, 1, 2]
    for text in ("the snails</s> café<extra_id_0>, the", "", " the  ☃ "):
        ids = tokenizer.encode(text, special=True).tolist()
        assert other(text)["input_ids"] == ids and other.decode(ids) == tokenizer.decode(ids)
    assert other("the", "snail")["input_ids"] == tokenizer.encoding("the", "snail").ids.tolist()


@pytest.mark.parity
def test_t5_tokenizer_of_transformers_reads_what_is_saved(tmp_path):
    """The class by its name, which makes its own parts around the pieces and the charsmap."""
    transformers = pytest.importorskip("transformers")
    tokenizer = t5_like(normalizer=CHARSMAP)
    tokenizer.save(tmp_path)
    other = transformers.T5Tokenizer.from_pretrained(tmp_path, extra_ids=3)
    for text in ("the snails</s> café<extra_id_0>, the", "", " the  ﬁ ☃ "):
        assert other(text)["input_ids"] == tokenizer.encode(text, special=True).tolist()
    assert other.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_2>"]) == T5_LIKE.sentinel_ids[[0, 2]].tolist()
