import doctest
import time
import unicodedata

import numpy as np
import pytest
from code_points import some_code_points
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_oracle import tokenizers_oracle

from minigpt.tokenizers import basic, unicode_tables
from minigpt.tokenizers.basic import Basic, blocks, taken_apart

SETTINGS = [Basic(), Basic(lowercase=False), Basic(strip_accents=False), Basic(lowercase=False, strip_accents=True)]
SETTINGS += [Basic(clean_text=False), Basic(handle_chinese_chars=False), Basic(False, False, False, False)]
UNCHANGED = SETTINGS[-1]


def test_module_examples():
    assert doctest.testmod(basic).failed == doctest.testmod(unicode_tables).failed == 0


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("HeLLo \t\r\n\u3000W", "hello     w"),
        ("a\x00b\x0bc\x85\u200b\ufffd\x7fd\xad", "abcd"),
        ("Ångström", "angstrom"),
        ("a\u0323\u0301\u0345", "a"),
        ("日本go", " 日  本 go"),
        ("ΑΣ ΑΣΑ", "ασ ασα"),  # no final sigma, which Python would make of the first
        ("≠\u037e\u1fef", "=;`"),
        ("\uac01", "\u1100\u1161\u11a8"),
        ("\u1c89\ua7cb\U00010d50\U00016ea0", "\u1c8a\u0264\U00010d70\U00016ebb"),
        ("\ua7cd", "\ua7cd"),
        ("\U00011938\U000113c5", "\U00011938\U000113c5"),  # younger than the decompositions
    ],
)
def test_normalize(text, normal):
    assert Basic().normalize(text) == normal


def test_normalize_by_its_settings():
    text = "É\x00\t中ΐ"
    assert Basic(lowercase=False).normalize(text) == "É  中 ΐ"
    assert Basic(strip_accents=False).normalize(text) == "é  中 ΐ"
    assert Basic(lowercase=False, strip_accents=True).normalize(text) == "E  中 ι"
    assert Basic(clean_text=False).normalize(text) == "e\x00\t 中 ι"
    assert Basic(handle_chinese_chars=False).normalize(text) == "e 中ι"
    assert UNCHANGED.normalize(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n ", []),
        ("don't", ["don", "'", "t"]),
        ("a+b <c>|~", ["a", "+", "b", "<", "c", ">", "|", "~"]),
        ("«a»—b…", ["«", "a", "»", "—", "b", "…"]),
        ("a\u2028b\xa0c\u202fd", ["a", "b", "c", "d"]),
        ("\u166d\U000111c9", ["\u166d", "\U000111c9"]),  # punctuation in Unicode 8
        ("a\u09fd\u1b4eb", ["a\u09fd\u1b4eb"]),  # punctuation since
        ("₤5€", ["₤5€"]),
        ("👩\u200d🚀!", ["👩🚀", "!"]),
    ],
)
def test_words(text, words):
    assert Basic().words(text) == words


def test_words_of_a_text_that_is_not_cleaned():
    assert UNCHANGED.words("a\x0bb\x85c\x1fd") == ["a", "b", "c\x1fd"]


TEXTS = (
    st.text(st.sampled_from("aAéÉİΣ \t.\0\u0301\u0323\u0345\u200b中각\U0001d165\u302e\U0001d16d\u0344\u0f73ǅ"))
    | st.text()
)


@settings(deadline=None, max_examples=200)
@given(TEXTS, st.sampled_from(SETTINGS))
def test_align_gives_the_same_text_and_places_in_order(text, rules):
    normal, places = rules.align(text)
    assert normal == rules.normalize(text)
    if places is None:
        assert len(normal) == len(text)
    else:
        assert places.shape == (len(normal),)
        assert (np.diff(places) >= 0).all()
        assert ((places >= 0) & (places < len(text))).all()


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_the_parts_of_a_text_normalise_as_the_text(text):
    """What a word becomes depends on the word alone, wherever it stands."""
    for rules in SETTINGS:
        assert rules.words(f"{text} x{text}") == [*rules.words(text), *rules.words(f"x{text}")]


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_normalising_again_changes_nothing_but_spaces(text):
    normal = Basic().normalize(text)
    assert Basic().normalize(normal).split() == normal.split()


def test_marks_that_change_places_stand_for_what_stands_there():
    text = "a\u0301\u0323\u1e0b\u0323"  # the dot below, class 220, goes before marks above, 230
    result, places = taken_apart(text, np.arange(5))
    assert result == unicodedata.normalize("NFD", text) == "a\u0323\u0301d\u0323\u0307"
    assert places.tolist() == [0, 1, 2, 3, 4, 4]


def test_many_marks_are_sorted_as_few_are(monkeypatch, rng):
    marks = list("\u0301\u0323\u0345\u302e\U0001d165\U0001d16d\u0344\u0f73\u1acf\u094d")
    for size in (1, 5, 63, 64, 65, 200):
        text = f"aé{''.join(rng.choice(marks, size))}각b"
        with monkeypatch.context() as patch:
            patch.setattr(basic, "MANY_MARKS", "(?!)")
            expected = basic.nfd(text)
        assert basic.nfd(text) == expected


def test_a_hundred_thousand_marks_take_little_time():
    text = "a" + "\u302e\u0323\U0001d165" * 40_000  # of three classes, two of which are kept
    start = time.perf_counter()
    normal, places = Basic().align(text)
    assert len(normal) == len(places) == 80_001
    assert time.perf_counter() - start < 5  # Python's own sort: minutes


def test_blocks_are_the_text_cut_at_spaces(monkeypatch):
    monkeypatch.setattr(basic, "BLOCK", 4)
    for text in ("", "a", "aaa bbb", "aaaa bb c ddddddddd e", "aaaaaaaaaaaa", "    ", "aaaa "):
        parts = list(blocks(text))
        assert "".join(parts) == text
        assert all(part.startswith(" ") for part in parts[1:])
    assert list(blocks("aaaa bb cc dd ee")) == ["aaaa", " bb cc", " dd ee"]


# Compared with `tokenizers`


@pytest.fixture(scope="module")
def theirs():
    tokenizers = tokenizers_oracle()

    def normalizer(rules):
        return tokenizers.normalizers.BertNormalizer(**rules._asdict()).normalize_str

    def words(text):
        return [word for word, _ in tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]

    return normalizer, words


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("rules", SETTINGS, ids=str)
def test_every_code_point_is_treated_as_in_tokenizers(theirs, rules):
    """Alone and between letters, with any Python and any version of `regex`: none is left out."""
    normalizer, words = theirs
    normalize = normalizer(rules)
    for code in some_code_points():
        text = f"{chr(code)}\nA{chr(code)}B"
        normal = normalize(text)
        assert rules.normalize(text) == normal, hex(code)
        assert rules.words(text) == words(normal), hex(code)


@pytest.mark.parity
@settings(deadline=None, max_examples=500)
@given(TEXTS, st.sampled_from(SETTINGS))
def test_texts_are_normalised_as_in_tokenizers(theirs, text, rules):
    normalizer, words = theirs
    normal = normalizer(rules)(text)
    assert rules.normalize(text) == normal
    assert rules.words(text) == words(normal)
