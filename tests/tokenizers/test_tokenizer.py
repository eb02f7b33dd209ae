import numpy as np
import pytest

import minigpt
from minigpt import GPT, BPETokenizer, CharTokenizer, GPTConfig, MinigptError
from minigpt.tokenizers import TOKENIZERS, AddedToken, Tokenizer, kinds
from minigpt.tokenizers.added import AddedTokens

SAMPLES = [CharTokenizer("a☃\n😀"), BPETokenizer.train("a☃ a☃\n", 270)]
TEXTS = ["", "a", "☃a\n😀a"]
MODEL = GPT(GPTConfig(vocab_size=4, block_size=5, n_layer=1, n_head=1, n_embd=2))


@pytest.fixture(params=SAMPLES, ids=lambda tokenizer: tokenizer.kind)
def tokenizer(request):
    return request.param


def same(a, b):
    return type(a) is type(b) and a.values() == b.values()


def test_every_kind_has_a_sample():
    assert {tokenizer.kind for tokenizer in SAMPLES} == {*TOKENIZERS, "bpe"}  # WordPiece changes a text
    assert all(issubclass(kind, Tokenizer) and kind.kind == name for name, kind in TOKENIZERS.items())
    assert all(issubclass(kind, Tokenizer) and kind.model_type == name for name, kind in kinds().items())


def test_round_trip(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int64 and ids.ndim == 1
        assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
        assert not ids.size or ids.max() < tokenizer.vocab_size


def test_stream_gives_the_text_of_all_ids(tokenizer):
    for text in TEXTS:
        for size in (1, 2, 100):
            stream, ids = tokenizer.stream(), tokenizer.encode(text)
            parts = [stream.push(ids[i : i + size]) for i in range(0, len(ids), size)]
            assert "".join(parts) + stream.end() == text


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "deep" / "folder")
    assert same(minigpt.load_tokenizer(tmp_path / "deep" / "folder"), tokenizer)
    assert same(type(tokenizer).from_json(tokenizer.to_json()), tokenizer)


def test_tokenizer_belongs_to_the_model_whichever_is_saved_first(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "first")
    MODEL.save(tmp_path / "first")
    MODEL.save(tmp_path / "second")
    tokenizer.save(tmp_path / "second")
    MODEL.save(tmp_path / "together", tokenizer)
    for name in ("first", "second", "together"):
        assert same(minigpt.load_tokenizer(tmp_path / name), tokenizer)
        assert minigpt.load(tmp_path / name).config == MODEL.config


def test_tokenizer_of_a_save_goes_with_it(tmp_path):
    MODEL.save(tmp_path, CharTokenizer("abcd"))
    CharTokenizer("dcba").save(tmp_path)  # over the one that was saved with the model
    assert minigpt.load_tokenizer(tmp_path).characters == ["d", "c", "b", "a"]
    MODEL.save(tmp_path)
    assert minigpt.load_tokenizer(tmp_path) is None


@pytest.mark.parametrize("text", ["someone else's", "{}", '{"type": "llama"}', '{"type": ["char"]}'])
def test_tokenizer_of_somebody_else_is_not_read(tmp_path, text):
    MODEL.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text)
    assert minigpt.load_tokenizer(tmp_path) is None


def test_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(MinigptError, match="no such checkpoint folder"):
        minigpt.load_tokenizer(tmp_path / "none")
    with pytest.raises(MinigptError, match=r"there is no tokenizer in it \(tokenizer\.json, .* are missing\)"):
        minigpt.load_tokenizer(tmp_path)


def test_tokenizer_that_cannot_be_written(tokenizer, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MinigptError, match="can't be written"):
        tokenizer.save(tmp_path / "file")


@pytest.mark.parametrize("ids", [[0.5], ["a"], [None], [2**70], [True]])
def test_ids_must_be_whole_numbers(tokenizer, ids):
    with pytest.raises(MinigptError, match="must be whole numbers"):
        tokenizer.decode(ids)


def test_a_word_of_nothing_has_an_encoding(tokenizer):
    for texts in (("",), ("", "a"), ("a", "")):
        found = tokenizer.encoding(*texts)
        assert found.ids.dtype == found.offsets.dtype == np.int64 and found.offsets.shape == (len(found.ids), 2)
        assert np.array_equal(found.ids, tokenizer.row(*texts)[0])


def test_encoding_of_a_text_and_a_pair(tokenizer):
    found = tokenizer.encoding("a☃", "☃a")
    assert np.array_equal(found.ids, np.concatenate([tokenizer.encode("a☃"), tokenizer.encode("☃a")]))
    assert found.sequences.tolist() == found.token_type_ids.tolist()
    assert {tuple(span) for span in found.offsets[found.sequences == 0].tolist()} <= {(0, 1), (1, 2), (0, 2)}


def test_batch_of_texts_of_one_length_needs_no_padding(tokenizer):
    batch = tokenizer.batch(["a", "\n"])
    assert set(batch) == {"ids", "attention_mask", "token_type_ids"} and batch["attention_mask"].tolist() == [[1], [1]]
    assert batch["ids"][:, 0].tolist() == [tokenizer.encode(c)[0] for c in "a\n"]
    with pytest.raises(MinigptError, match="need a padding token"):
        tokenizer.batch(["a", "aa"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "a"}, "texts is a string"),
        ({"texts": 5}, "texts is 5, it must be a list of strings"),
        ({"texts": ["a"], "pairs": "a"}, "pairs is a string"),
        ({"texts": []}, "texts is empty"),
        ({"texts": ["a", "a"], "pairs": ["a"]}, "2 texts and 1 pairs"),
        ({"texts": ["aaaa"], "pad_to": 2}, "pad_to is 2, a text has 4 tokens"),
        ({"texts": ["a"], "pad_to": 0}, "pad_to is 0"),
        ({"texts": ["a"], "max_length": 0}, "max_length is 0, it must be a whole number of at least 1"),
        ({"texts": ["a"], "max_length": 1.5}, "max_length is 1.5"),
    ],
)
def test_batch_refuses(tokenizer, arguments, message):
    with pytest.raises(MinigptError, match=message):
        tokenizer.batch(**arguments)


@pytest.mark.parametrize("ids", [[[0], [0, 1]], "ab", [0.5], None, [10**30]])
def test_decode_refuses_what_are_no_ids(tokenizer, ids):
    with pytest.raises(MinigptError, match=r"token ids are|out of range"):
        tokenizer.decode(ids)


def test_save_refuses_a_name_that_is_none(tokenizer, tmp_path):
    with pytest.raises(MinigptError, match="can't be written: embedded null"):
        tokenizer.save(f"{tmp_path}\0")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("[MASK]", "an added token is '.MASK.', it must be an AddedToken"),
        (AddedToken("", 0), "an added token is '', it must be a string that is not empty"),
        (AddedToken(5, 0), "an added token is 5"),
        (AddedToken("a", 10**30), "the id of the added token 'a' is 1000000.*from 0 to 4194303"),
        (AddedToken("a", -1), "the id of the added token 'a' is -1"),
        (AddedToken("a", "0"), "the id of the added token 'a' is '0'"),
    ],
)
def test_added_tokens_refuse(token, message):
    with pytest.raises(MinigptError, match=message):
        AddedTokens([token])


def test_special_ids_can_not_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        AddedTokens([AddedToken("a", 0)]).special_ids[0] = 1


@pytest.mark.parametrize("text", [None, 5, b"a", ["a"]])
def test_encode_refuses_what_is_no_text(tokenizer, text):
    for encode in (tokenizer.encode, tokenizer.encoding):
        with pytest.raises(MinigptError, match="it must be a string"):
            encode(text)


def test_spaces_between_two_added_tokens_are_the_first_ones():
    added = AddedTokens([AddedToken("<a>", 1, rstrip=True), AddedToken("<b>", 2, lstrip=True)])
    assert added.split("x <a>  <b> y", special=True) == [(None, 0, 2), (1, 2, 7), (2, 7, 10), (None, 10, 12)]
