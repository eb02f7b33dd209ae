import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import CharTokenizer, MinigptError


@settings(deadline=None)
@given(st.text(min_size=1))
def test_char_round_trip(text):
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),)
    assert tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == len(set(text)) == ids.max() + 1
    loaded = CharTokenizer.from_json(tokenizer.to_json())
    assert loaded.characters == tokenizer.characters and loaded.decode(loaded.encode(text)) == text


def test_char_ids_are_places_in_the_vocabulary():
    tokenizer = CharTokenizer("hélo")
    assert tokenizer.encode("ohé").tolist() == [3, 0, 1]
    assert tokenizer.decode([3, 0, 1]) == "ohé"
    assert CharTokenizer.from_text("hello").characters == ["e", "h", "l", "o"]


def test_char_of_nothing():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""


def test_char_json_is_plain_ascii():
    text = CharTokenizer("a☃\n😀").to_json()
    assert text.isascii() and json.loads(text)["characters"] == "a☃\n😀"


@pytest.mark.parametrize(
    ("text", "words"), [("abxa", ["'x'", "position 2", "2 characters"]), ("\n", ["'\\n'", "position 0"])]
)
def test_char_encode_names_the_unknown_character(text, words):
    with pytest.raises(MinigptError) as error:
        CharTokenizer("ab").encode(text)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("wrong", [2, -1, 99])
def test_char_decode_names_the_wrong_id(wrong):
    with pytest.raises(MinigptError, match=f"token id {wrong} is out of range, it must be 0 to 1"):
        CharTokenizer("ab").decode([0, wrong, 1])


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ("", "empty"),
        ([], "empty"),
        ("aba", "'a' stands twice"),
        (["a", "bc"], "1 is 'bc'"),
        (["a", 5], "1 is 5"),
        (["a", ""], "1 is ''"),
        ("\ud83d\ude00", r"0 is '\\ud83d'"),
    ],
)
def test_char_vocabulary_error(characters, message):
    with pytest.raises(MinigptError, match=message):
        CharTokenizer(characters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file.json is not valid JSON"),
        ("no json", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{}", "file.json: type is missing"),
        ('{"type": "char"}', "file.json: characters is missing"),
        ('{"type": "bpe", "characters": "ab"}', "type is 'bpe', it must be 'char'"),
        ('{"type": ["char"], "characters": "ab"}', "it must be 'char'"),
        ('{"type": "char", "characters": ["a"]}', r"characters is \['a'\], it must be a string"),
        ('{"type": "char", "characters": ""}', "file.json: the vocabulary is empty"),
    ],
)
def test_char_json_error(text, message):
    with pytest.raises(MinigptError, match=message):
        CharTokenizer.from_json(text, "file.json")


def test_char_json_with_a_bad_vocabulary():
    with pytest.raises(MinigptError, match="stands twice"):
        CharTokenizer.from_json('{"type": "char", "characters": "aa"}')
