import threading

import numpy as np
import pytest
from bpe_samples import GPT2_LIKE, PREFIXED, ROBERTA_LIKE, TEXT, TEXTS, with_words
from code_points import code_points
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import BPETokenizer, MinigptError
from minigpt.tokenizers import AddedToken, bpe
from minigpt.tokenizers.bpe_training import count_words
from minigpt.tokenizers.byte_level import ALPHABET, BLOCK, BYTES, CHARACTERS, any_words, blocks, words

MERGES = [("l", "o"), ("lo", "w"), ("e", "r"), ("Ġ", "low")]
VOCAB = {token: i for i, token in enumerate([*ALPHABET, *("".join(pair) for pair in MERGES)])}
ANY = st.text(st.characters(exclude_categories=("Cs",)))


def test_bytes_are_characters_and_back():
    assert len(BYTES) == 256 and [BYTES[c] for c in CHARACTERS] == list(range(256))
    assert all(c.isprintable() and not c.isspace() for c in CHARACTERS)
    assert [CHARACTERS[b] for b in b"!~\xa1 \x00\xad"] == ["!", "~", "¡", "Ġ", "Ā", "Ń"]


@settings(deadline=None)
@given(ANY)
def test_words_are_the_text_and_ascii_is_no_exception(text):
    assert "".join(words(text)) == text
    plain = text.encode("ascii", "replace").decode()
    assert words(plain) == any_words()(plain)


def test_ascii_is_cut_as_any_text(rng):
    letters = list("aZ09'srtlvedm .\t\n\r\x0b\x0c\x1c\x1f\x00_-")
    for _ in range(300):
        text = "".join(rng.choice(letters, 40))
        assert words(text) == any_words()(text)


def test_blocks_end_where_words_do(monkeypatch, rng):
    monkeypatch.setattr("minigpt.tokenizers.byte_level.BLOCK", 7)
    for _ in range(100):
        text = "".join(rng.choice(list("ab'é1 \n\u3000."), 60))
        parts = list(blocks(text))
        assert "".join(parts) == text and len(parts) > 1
        assert [word for part in parts for word in words(part)] == words(text)
    assert list(blocks("x" * 50)) == ["x" * 50]


def test_text_of_several_blocks_has_the_same_ids():
    text = TEXT * (2 * BLOCK // len(TEXT) + 1)
    once = np.concatenate([GPT2_LIKE.encode(word) for word in words(TEXT)])
    assert np.array_equal(GPT2_LIKE.encode(text), np.tile(once, len(text) // len(TEXT)))


@settings(deadline=None)
@given(ANY)
def test_decode_gives_back_any_text(text):
    for tokenizer in (GPT2_LIKE, ROBERTA_LIKE):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and ids.dtype == np.int64
        assert not np.isin(ids, tokenizer.special_ids).any()


def test_every_code_point_that_versions_differ_on_is_given_back():
    text = "".join(f"{chr(c)}a{chr(c)}b " for c in sorted(code_points()))
    assert GPT2_LIKE.decode(GPT2_LIKE.encode(text)) == text


def test_merge_by_heap_and_by_scan_are_the_steps(rng):
    for tokenizer in (GPT2_LIKE, BPETokenizer(VOCAB, MERGES)):
        for size in (1, 2, 3, 30):
            word = "".join(rng.choice(list("Zoë één lower"), size))
            ids = [tokenizer.token_to_id(CHARACTERS[b]) for b in word.encode()]
            *_, last = bpe.steps(word, tokenizer.merges)
            expected = [tokenizer.token_to_id(token) for token in last.split()]
            for merge in (bpe.merge, bpe.merge_long):
                assert merge(list(ids), tokenizer._ranks, tokenizer._merged) == expected


def test_merge_by_heap_grows_tokens_on_either_side(rng):
    """Text of tokens, in which merges lead to merges, which random letters seldom do."""
    for tokenizer in (GPT2_LIKE, BPETokenizer(VOCAB, MERGES)):
        merged = ["".join(pair) for pair in tokenizer.merges]
        for _ in range(30):
            ids = [tokenizer.token_to_id(c) for c in "".join(rng.choice(merged, 40))]
            arguments = tokenizer._ranks, tokenizer._merged
            assert bpe.merge_long(list(ids), *arguments) == bpe.merge(list(ids), *arguments)


def test_long_word_is_merged_as_by_scan(rng):
    word = "".join(rng.choice(list("onethig"), 3 * bpe.LONG_WORD))
    ids = [GPT2_LIKE.token_to_id(c) for c in word]
    assert GPT2_LIKE.encode(word).tolist() == bpe.merge(ids, GPT2_LIKE._ranks, GPT2_LIKE._merged)
    assert len(GPT2_LIKE.encode("a" * 100_000)) == 100_000


def test_special_tokens_in_a_text_are_text_unless_asked_for():
    text = "<s>one</s><mask>"
    plain, special = ROBERTA_LIKE.encode(text), ROBERTA_LIKE.encode(text, special=True)
    assert ROBERTA_LIKE.decode(plain) == text and not np.isin(plain, ROBERTA_LIKE.special_ids).any()
    assert special[[0, 1, -3, -2, -1]].tolist() == [0, 0, 2, 4, 2]
    assert ROBERTA_LIKE.decode(special) == f"<s>{text}</s>"
    assert ROBERTA_LIKE.decode(special, skip_special=True) == "one"


def test_roles_and_ids():
    assert [GPT2_LIKE.bos_id, GPT2_LIKE.eos_id, GPT2_LIKE.pad_id, GPT2_LIKE.mask_id] == [0, 0, None, None]
    found = [getattr(ROBERTA_LIKE, f"{role}_id") for role in ("bos", "pad", "eos", "unk", "mask", "cls", "sep")]
    assert found == [0, 1, 2, 3, 4, 0, 2]
    assert ROBERTA_LIKE.special_ids.tolist() == [0, 1, 2, 3, 4]
    assert ROBERTA_LIKE.id_to_token(5) == "!" and ROBERTA_LIKE.token_to_id("nope") is None
    assert ROBERTA_LIKE.id_to_token(-1) is None and ROBERTA_LIKE.id_to_token(9999) is None


def test_continues_are_pieces_that_begin_with_no_space():
    tokens = [GPT2_LIKE.id_to_token(i) for i in np.flatnonzero(~GPT2_LIKE.continues)]
    assert "<|endoftext|>" in tokens and "Ġ" in tokens and "Ċ" in tokens and "Ġthe" in tokens
    assert all(token[0] in "ĠĊĉčċČ" for token in tokens if token != "<|endoftext|>")
    continued = GPT2_LIKE.encode("scones one")
    assert GPT2_LIKE.continues[continued].tolist() == [t[0] != "Ġ" for t in GPT2_LIKE.tokens("scones one")]


@pytest.mark.parametrize("tokenizer", [GPT2_LIKE, ROBERTA_LIKE, PREFIXED, with_words()])
def test_offsets_cover_the_text_that_a_token_stands_for(tokenizer):
    for text in TEXTS:
        ids, offsets = tokenizer.pieces(text)
        assert np.array_equal(ids, tokenizer.encode(text)) and offsets.shape == (len(ids), 2)
        ends = np.zeros(len(text), bool)
        for i, (start, end) in zip(ids.tolist(), offsets.tolist()):
            assert 0 <= start < end <= len(text)
            ends[start:end] = True
            if "\ufffd" not in (spelled := tokenizer.decode([i])) and not tokenizer.add_prefix_space:
                assert spelled.strip() in text[start:end]
        assert ends.all()


def test_stream_holds_back_half_a_character():
    ids = BPETokenizer(VOCAB, []).encode("é👍a")
    stream = GPT2_LIKE.stream()
    ids = [GPT2_LIKE.token_to_id(CHARACTERS[b]) for b in "é👍a".encode()]
    assert [stream.push([i]) for i in ids] == ["", "é", "", "", "", "👍", "a"]
    assert stream.end() == ""
    stream.push(ids[:1])
    assert stream.end() == "\ufffd"


@given(st.lists(st.integers(0, 399), max_size=12))
def test_any_ids_are_decoded_and_streamed_alike(ids):
    text, stream = GPT2_LIKE.decode(ids), GPT2_LIKE.stream()
    assert "".join([stream.push([i]) for i in ids]) + stream.end() == text
    assert text == GPT2_LIKE.bytes_of(ids).decode("utf-8", "replace")


def test_lone_bytes_are_replacement_characters():
    def decode(data):
        return GPT2_LIKE.decode([GPT2_LIKE.token_to_id(CHARACTERS[b]) for b in data])

    assert decode(b"\xf0\x9f") == "\ufffd" and decode(b"\xff\xfea\xc3") == "\ufffd\ufffda\ufffd"
    assert decode(b"\xed\xa0\x80") == "\ufffd" * 3  # half of a pair of UTF-16


@pytest.mark.parametrize(("text", "message"), [("a\ud800", "position 1"), (5, "must be a string"), (None, "string")])
def test_what_is_no_text_is_refused(text, message):
    for call in (GPT2_LIKE.encode, GPT2_LIKE.encoding, GPT2_LIKE.pieces, lambda text: BPETokenizer.train(text, 300)):
        with pytest.raises(MinigptError, match=message):
            call(text)


@pytest.mark.parametrize("wrong", [-1, 400, 99_999])
def test_ids_out_of_range_are_refused(wrong):
    for call in (GPT2_LIKE.decode, GPT2_LIKE.stream().push):
        with pytest.raises(MinigptError, match=f"token id {wrong} is out of range, it must be 0 to 399"):
            call([0, wrong])


def test_a_byte_that_the_vocabulary_lacks():
    vocab = {token: i for i, token in enumerate(["a", "b", "?"])}
    with pytest.raises(MinigptError, match=r"byte 0x63 of 'abc' is not in the vocabulary, which has no unk_token"):
        BPETokenizer(vocab, []).encode("abc")
    tokenizer = BPETokenizer(vocab, [], unk_token="?")
    ids, offsets = tokenizer.pieces("aéb")
    assert ids.tolist() == [0, 2, 2, 1] and offsets.tolist() == [[0, 1], [1, 2], [1, 2], [2, 3]]
    with pytest.raises(MinigptError, match="unk_token is '!', it must be in the vocabulary"):
        BPETokenizer(vocab, [], unk_token="!")


def test_ignored_merges_and_texts_that_are_not_cut(monkeypatch):
    vocab = VOCAB | {"slow": len(VOCAB)}
    assert BPETokenizer(vocab, MERGES).tokens("slow") == ["s", "low"]
    assert BPETokenizer(vocab, MERGES, ignore_merges=True).tokens("slow slow") == ["slow", "Ġ", "s", "low"][:1] + [
        "Ġ",
        "s",
        "low",
    ]
    whole = BPETokenizer({**VOCAB, "rĠ": len(VOCAB)}, [("r", "Ġ"), *MERGES], use_regex=False)
    assert whole.tokens("lower low") == ["low", "e", "rĠ", "low"]
    assert whole.pieces("lower low")[1].tolist() == [[0, 3], [3, 4], [4, 6], [6, 9]]
    monkeypatch.setattr("minigpt.tokenizers.byte_level.BLOCK", 5)
    assert len(whole.encode("lower low" * 20)) == 80


def test_the_cache_is_bounded(monkeypatch):
    tokenizer = BPETokenizer(VOCAB, MERGES)
    monkeypatch.setattr(bpe, "CACHED_WORDS", 50)
    for i in range(20):
        tokenizer.encode(" ".join(f"w{n}" for n in range(10 * i, 10 * i + 10)) + " " + "x" * 5000)
        assert len(tokenizer._cache) <= 50 and max(map(len, tokenizer._cache), default=0) <= bpe.CACHED_LENGTH
    assert tokenizer.encode("low").tolist() == [VOCAB["low"]]


def test_threads_may_share_a_tokenizer(monkeypatch):
    tokenizer, wrong = BPETokenizer(VOCAB, MERGES), []
    monkeypatch.setattr(bpe, "CACHED_WORDS", 20)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            text = " ".join("".join(rng.choice(list("lower"), 4)) for _ in range(30))
            if tokenizer.decode(tokenizer.encode(text)) != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Training


def test_training_counts_words_and_merges_the_most_frequent_pair():
    tokenizer = BPETokenizer.train("low low lower", 260, ())
    assert tokenizer.merges == [("l", "o"), ("lo", "w"), ("Ġ", "low"), ("e", "r")]
    assert tokenizer.vocab_size == 260
    tokenizer = BPETokenizer.train("low low lower", 1000)
    assert tokenizer.merges[3:] == [("e", "r"), ("Ġlow", "er")] and tokenizer.vocab_size == 262
    assert BPETokenizer.train("low low lower", 1000, min_frequency=2).merges == tokenizer.merges[:3]


def test_training_takes_texts_one_by_one():
    lines = TEXT.splitlines(keepends=True)
    assert BPETokenizer.train(iter(lines), 300).merges == BPETokenizer.train(lines, 300).merges
    assert count_words(["a a", "a"]) == {"a": 2, " a": 1}
    assert count_words(["a a", "a", ""], add_prefix_space=True) == {" a": 3}
    assert BPETokenizer.train("", 300).vocab_size == BPETokenizer.train([], 300).vocab_size == 257


def test_training_gives_specials_the_first_ids():
    assert [ROBERTA_LIKE.id_to_token(i) for i in range(6)] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "!"]
    assert ROBERTA_LIKE.encode("one", special=True)[[0, -1]].tolist() == [0, 2]
    assert GPT2_LIKE.encode("one", special=True).tolist() == GPT2_LIKE.encode("one").tolist()
    # a special token that is spelled as a byte, or as a merge, is one token
    assert BPETokenizer.train("low low low", 300, ("l", "low")).vocab_size == 259


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 256}, "vocab_size is 256, it must be a whole number from 257 to"),
        ({"vocab_size": 2**40}, "vocab_size is"),
        ({"vocab_size": 300.0}, "vocab_size is 300.0"),
        ({"min_frequency": -1}, "min_frequency is -1"),
        ({"special_tokens": "<s>"}, "must be a list of strings"),
        ({"special_tokens": ["<s>", "<s>"]}, r"special_tokens\[1\], '<s>', stands twice"),
        ({"special_tokens": [""]}, r"special_tokens\[0\] is ''"),
        ({"special_tokens": [5]}, r"special_tokens\[0\] is 5"),
        ({"special_tokens": ["\ud800"]}, "half of a UTF-16 pair"),
        ({"text": ["a", 5]}, "text is 5, it must be a string"),
        ({"text": "\udfff"}, "position 0"),
    ],
)
def test_training_refuses_settings_out_of_range(arguments, message):
    with pytest.raises(MinigptError, match=message):
        BPETokenizer.train(**({"text": "low", "vocab_size": 300} | arguments))


@pytest.mark.parametrize(
    ("vocab", "merges", "added", "message"),
    [
        ({"a": 0, "b": 0}, [], [], "'a' and 'b' have the same id, 0"),
        ({"a": 0, "b": 2}, [], [], "no token has the id 1, although 'b' has the id 2"),
        ({"a": 0}, [("a", "b")], [], "merge 0, 'a' and 'b': 'b' is not in the vocabulary"),
        ({"a": 0, "b": 1}, [("a", "b")], [], "merge 0, 'a' and 'b': 'ab' is not in the vocabulary"),
        ({"a": 0, "": 1}, [("a", "")], [], "a merge has two tokens, none empty"),
        ({"a": 0, "aa": 1}, [("a", "a")] * 2, [], "it stands twice, as merge 0 too"),
        ({"a": 0}, [], [AddedToken("a", 1)], "'a' has two ids, 1 among the added tokens and 0 in the vocabulary"),
        ({"a": 0}, [], [AddedToken("b", 0)], "'a' and 'b' have the same id, 0"),
        ({"a": 0}, [], [AddedToken("b", 2)], "no token has the id 1"),
        ({"a": 0}, [], [AddedToken("b", 1), AddedToken("b", 2)], "the added token 'b' stands twice"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(vocab, merges, added, message):
    with pytest.raises(MinigptError, match=message):
        BPETokenizer(vocab, merges, added=added)
