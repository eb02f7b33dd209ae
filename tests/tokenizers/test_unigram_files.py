"""Unigram's tokenizer.json: what is read, and what is refused by name."""

import json

import numpy as np
import pytest
from charsmaps import precompiled
from unigram_samples import T5_LIKE, t5_like

import minigpt
from minigpt import MinigptError, UnigramTokenizer
from minigpt.tokenizers.decoders import Decoding, decoder_from
from minigpt.tokenizers.normalizers import Form, align, normalize, normalizer_from
from minigpt.tokenizers.unigram_files import BYTE_DECODER, METASPACE


def changed(path, value):
    """tokenizer.json with one value, "model/unk_id", replaced, or removed (...)."""
    values = json.loads(T5_LIKE.to_json())
    *keys, last = path.split("|" if "|" in path else "/")
    place = values
    for key in keys:
        place = place[int(key) if isinstance(place, list) else key]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return values


def metaspace(**changes):
    return METASPACE | changes


SPLIT = {"type": "WhitespaceSplit"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model/vocab", {}, "model: vocab is {}, it must be a list"),
        ("model/vocab", [], "vocab has 0 pieces, there must be 1 to"),
        ("model/vocab", ..., "vocab is missing"),
        ("model/vocab/3", "▁", r"vocab\[3\] is '▁', it must be a piece and its score"),
        ("model/vocab/3", ["▁"], r"vocab\[3\] is \['▁'\]"),
        ("model/vocab/3", [3, 0.0], r"vocab\[3\] is 3, it must be a string"),
        ("model/vocab/3", ["", 0.0], r"vocab\[3\] is '', a piece must have at least 1 character"),
        ("model/vocab/3", ["▁the", 0.0], r"vocab\[4\] is '▁the', which stands at 3 already"),
        ("model/vocab/3", ["▁", "0"], "the score of '▁' is '0', it must be a number"),
        ("model/vocab/3", ["▁", None], "the score of '▁' is None"),
        ("model/vocab/3", ["▁", 1e300], "the score of '▁' is 1e[+]300, it must be a number from -1e[+]30 to 1e[+]30"),
        ("model/vocab/3", ["\udc00", 0.0], "half of a UTF-16 pair"),
        ("model/unk_id", 99, "unk_id is 99, it must be a whole number from 0 to 23"),
        ("model/unk_id", -1, "unk_id is -1"),
        ("model/unk_id", 2.0, "unk_id is 2.0"),
        ("model/byte_fallback", True, "byte_fallback is true, the piece <0x00> is missing"),
        ("model/byte_fallback", "no", "byte_fallback is 'no', it must be true or false"),
        ("model/new", 1, "model: unknown key 'new'"),
        ("model/type", "unigram", "type is 'unigram'"),
        ("normalizer", {"type": "Nmt"}, "normalizer: type is 'Nmt', it must be one of Precompiled, Strip, Replace"),
        ("normalizer", {"type": "NFC", "x": 1}, "normalizer: unknown key 'x'"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "!"}, "precompiled_charsmap is not base64"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "é"}, "precompiled_charsmap is not base64"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "the charsmap has 3 bytes"),
        ("normalizer", {"type": "Precompiled"}, "precompiled_charsmap is missing"),
        ("normalizer", {"type": "Strip", "strip_left": 1, "strip_right": True}, "strip_left is 1"),
        ("normalizer", {"type": "Replace", "pattern": {"String": ""}, "content": ""}, "is '', it must have at least 1"),
        ("normalizer", {"type": "Replace", "pattern": "a", "content": ""}, "pattern is 'a', it must be a JSON object"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a|b)+"}, "content": ""}, r"'\(a\|b\)\+' is not"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "a{3,1}"}, "content": ""}, r"'a\{3,1\}'"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "[b-a]"}, "content": ""}, r"'\[b-a\]'"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "\\x{999999}"}, "content": ""}, "regular expression"),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Sequence"}]}, "type is 'Sequence'"),
        ("pre_tokenizer", metaspace(replacement="__"), "replacement is '__', it must be one character"),
        ("pre_tokenizer", metaspace(replacement="\ud800"), "must be one character"),
        ("pre_tokenizer", metaspace(prepend_scheme="often"), "prepend_scheme is 'often', it must be one of always"),
        ("pre_tokenizer", metaspace(split=0), "split is 0"),
        ("pre_tokenizer", metaspace(add_prefix_space=False), "add_prefix_space is false, prepend_scheme is always"),
        ("pre_tokenizer", metaspace(new=1), "unknown key 'new'"),
        ("pre_tokenizer", {"type": "ByteLevel"}, "pre_tokenizer: type is 'ByteLevel', it must be one of Metasp"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [METASPACE, SPLIT]}, "computed is Metaspace, or"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [SPLIT | {"x": 1}, METASPACE]}, "unknown key 'x'"),
        ("decoder", {"type": "BPEDecoder"}, "decoder: type is 'BPEDecoder'"),
        ("decoder", {"type": "Strip", "content": " ", "start": 1, "stop": 0}, "computed is one character, after Fuse"),
        ("decoder", BYTE_DECODER | {"decoders": [{"type": "CTC"}]}, "type is 'CTC'"),
        ("decoder/new", 1, "unknown key 'new'"),
        ("post_processor|special_tokens|</s>|ids", [7], "gives '</s>' the id 7, which has the id 1 in the vocabulary"),
        ("added_tokens/0/id", 5, "'<pad>' has two ids, 5 among the added tokens and 0 in the vocabulary"),
    ],
)  # fmt: skip
def test_a_wrong_tokenizer_json_is_refused(tmp_path, path, value, message):
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(MinigptError, match=message) as error:
        minigpt.load_tokenizer(tmp_path)
    assert str(error.value).startswith(str(tmp_path)) and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ({"type": "Fuse"}, None, None),
        ({"type": "Strip", "content": " ", "start": 1, "stop": 1}, None, "stop is 1, it must be 0"),
        ({"type": "Strip", "content": "ab", "start": 1, "stop": 0}, None, "content is 'ab'"),
        ({"type": "Strip", "content": " ", "start": -1, "stop": 0}, None, "start is -1"),
        ({"type": "Replace", "pattern": {"String": "ab"}, "content": ""}, None, "computed is one character"),
        ({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}, None, "unknown key 'Regex'"),
    ],
)
def test_what_stands_after_fuse(part, text, message):
    source = {"type": "Sequence", "decoders": [{"type": "Fuse"}, part]}
    if message is None:
        assert Decoding(decoder_from(source)).all(["a", "b"]) == "ab"
    else:
        with pytest.raises(MinigptError, match=message):
            decoder_from(source)


def test_early_files_are_read():
    """A model without its type, Metaspace without its scheme."""
    values = json.loads(T5_LIKE.to_json())
    del values["model"]["type"], values["model"]["byte_fallback"], values["version"]
    early = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"}
    values["pre_tokenizer"]["pretokenizers"][1] = values["decoder"] = early
    read = UnigramTokenizer.from_json(json.dumps(values))
    assert read.metaspace == T5_LIKE.metaspace and read.decode([4, 10]) == "the snail"
    values["pre_tokenizer"] = early | {"add_prefix_space": False}
    assert UnigramTokenizer.from_json(json.dumps(values)).tokens("the the") == ["t", "he", "▁the"]


def test_a_folder_names_the_kind_without_a_type(tmp_path):
    values = json.loads(T5_LIKE.to_json())
    del values["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert minigpt.load_tokenizer(tmp_path).encode("the").tolist() == [4]


# Normalizers


@pytest.mark.parametrize(
    ("source", "text", "normal", "places"),
    [
        ({"type": "NFC"}, "e\u0301x\u0323\u0301", "éx\u0323\u0301", [0, 2, 3, 4]),
        ({"type": "NFC"}, "a\u0323\u0307", "ạ\u0307", [0, 2]),
        ({"type": "NFD"}, "éﬁ", "e\u0301ﬁ", [0, 0, 1]),
        ({"type": "NFKC"}, "½ﬁａ\u1100\u1161", "1⁄2fia가", [0, 0, 0, 1, 1, 2, 3]),
        ({"type": "NFKD"}, "가ﬁ", "\u1100\u1161fi", [0, 0, 1, 1]),
        ({"type": "NFKC"}, "㋿\ua7f2", "㋿\ua7f2", None),  # of a newer Unicode than that of tokenizers
        ({"type": "Lowercase"}, "AİB", "ai\u0307b", [0, 1, 1, 2]),
        ({"type": "Strip", "strip_left": True, "strip_right": True}, " \u3000a b\n ", "a b", [2, 3, 4]),
        ({"type": "Strip", "strip_left": False, "strip_right": False}, " a ", " a ", None),
        ({"type": "Strip", "strip_left": True, "strip_right": True}, "  ", "", []),
        ({"type": "Replace", "pattern": {"String": "ab"}, "content": "\\1"}, "xabab", "x\\1\\1", [0, 2, 2, 4, 4]),
        ({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}, "a   b c", "a▁b c", [0, 3, 4, 5, 6]),
        ({"type": "Replace", "pattern": {"Regex": "[\\u00ADb-c\\x{1F600}]+"}, "content": ""}, "ab\xad😀", "a", [0]),
        ({"type": "Replace", "pattern": {"Regex": "\\p{Zs}"}, "content": " "}, "a\xa0b\n", "a b\n", [0, 1, 2, 3]),
        ({"type": "Precompiled", "precompiled_charsmap": ""}, "ﬁ", "ﬁ", None),
        (precompiled({"ﬁ": "fi", "\x01": "", "e\u0301": "é"}), "\x01ﬁe\u0301\u0302x", "fiéx", [1, 1, 2, 5]),
        (precompiled({"e\u0301": "xyz"}), "ae\u0301", "axyz", [0, 1, 2, 2]),
        (precompiled({"a": "b", "a\u0301": "c"}), "a\u0301a", "bb", [0, 2]),  # the shortest, of the whole grapheme
        (precompiled({"a": "b"}), "a\u200da\u200d\u0301", "bb\u200d\u0301", [0, 2, 3, 4]),  # of less than six bytes
        (precompiled({"a": "b", "\r": "x"}), "a\u0301\u0301\u0301a\r\na\u05c8", "b\u0301\u0301\u0301bxb\u05c8", None),
    ],
)  # fmt: skip
def test_normalizers(source, text, normal, places):
    steps = normalizer_from(source)
    assert normalize(steps, text) == normal
    same, found = align(steps, text)
    assert same == normal
    if places is not None:
        assert found.tolist() == places
    else:
        assert found is None or len(found) == len(normal)


def test_marks_take_time_in_proportion():
    """Python's own normal forms sort them in time growing with their square."""
    text = "a" + "\u0323\u0301" * 30_000
    for name in ("NFC", "NFKD"):
        normal, _ = Form(name)(text)
        assert normal.count("\u0323") + normal.count("ạ") == 30_000 and normal.endswith("\u0301\u0301")


def test_whole_sequences():
    source = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip"}]}
    source["normalizers"][2] |= {"strip_left": True, "strip_right": False}
    steps = normalizer_from(source)
    text, places = align(steps, " \u3000ＡﬁB ")
    assert text == "afib " and places.tolist() == [2, 3, 3, 4, 5] and normalizer_from(None) == []


def test_scheme_first_asks_what_stood_first_in_the_original():
    strip = {"type": "Strip", "strip_left": True, "strip_right": False}
    tokenizer = t5_like(normalizer=strip, pre_tokenizer=METASPACE | {"prepend_scheme": "first"})
    assert tokenizer.tokens("the") == ["▁the"] and tokenizer.tokens(" the") == ["t", "he"]
    assert np.array_equal(tokenizer.encode("the</s>the", special=True), [4, 1, 5, 9, 1])
