import numpy as np
import pytest

import minigpt
from minigpt import GPT, CharTokenizer, GPTConfig, MinigptError
from minigpt.tokenizers import TOKENIZERS, Tokenizer

SAMPLES = [CharTokenizer("a☃\n😀")]
TEXTS = ["", "a", "☃a\n😀a"]
MODEL = GPT(GPTConfig(vocab_size=4, block_size=5, n_layer=1, n_head=1, n_embd=2))


@pytest.fixture(params=SAMPLES, ids=lambda tokenizer: tokenizer.kind)
def tokenizer(request):
    return request.param


def same(a, b):
    return type(a) is type(b) and a.values() == b.values()


def test_every_kind_has_a_sample():
    assert {tokenizer.kind for tokenizer in SAMPLES} == set(TOKENIZERS)
    assert all(issubclass(kind, Tokenizer) and kind.kind == name for name, kind in TOKENIZERS.items())


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
    with pytest.raises(MinigptError, match=r"config\.json is missing"):
        minigpt.load_tokenizer(tmp_path)


def test_tokenizer_that_cannot_be_written(tokenizer, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MinigptError, match="can't be written"):
        tokenizer.save(tmp_path / "file")


@pytest.mark.parametrize("ids", [[0.5], ["a"], [None], [2**70], [True]])
def test_ids_must_be_whole_numbers(tokenizer, ids):
    with pytest.raises(MinigptError, match="must be whole numbers"):
        tokenizer.decode(ids)
