"""Tokenizers beside models in folders of `transformers`, out and in."""

import json
import re

import numpy as np
import pytest
from hub_folders import small_encoder, small_gpt

import minigpt
from minigpt import BERT, BERTConfig, BPETokenizer, RoBERTa, RoBERTaConfig, WordPieceTokenizer, cli
from minigpt.tokenizers.bpe import ROBERTA

TEXT = "To be, or not to be: that is the question. Whether 'tis nobler in the mind to suffer\n" * 3
PAIR = ("To be or not", "to suffer the question?")


def words():
    return WordPieceTokenizer.train(TEXT, 60)


def bytes_of(special_tokens):
    return BPETokenizer.train(TEXT, 280, special_tokens)


MODELS = {  # what makes a model of a vocabulary, and its tokenizer
    "gpt2": (lambda rng, n: small_gpt(rng, vocab_size=n), lambda: bytes_of(("<|endoftext|>",))),
    "bert": (lambda rng, n: small_encoder(BERT, BERTConfig, rng, vocab_size=n), words),
    "roberta": (lambda rng, n: small_encoder(RoBERTa, RoBERTaConfig, rng, vocab_size=n), lambda: bytes_of(ROBERTA)),
}
EVERY = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def written(name, rng, tmp_path):
    make, train = MODELS[name]
    tokenizer = train()
    minigpt.to_huggingface(make(rng, tokenizer.vocab_size), tmp_path, tokenizer)
    return tokenizer, tmp_path


@EVERY
def test_a_tokenizer_is_written_and_read(name, written):
    tokenizer, folder = written
    again = minigpt.load_tokenizer(folder)
    for special in (False, True):
        np.testing.assert_array_equal(again.encode(TEXT, special), tokenizer.encode(TEXT, special))
    values = json.loads((folder / "config.json").read_text())
    for role in ("bos", "eos"):
        assert values[f"{role}_token_id"] == getattr(tokenizer, f"{role}_id")
    if name == "gpt2":
        assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_id
    assert minigpt.from_huggingface(folder).config.vocab_size == again.vocab_size


@EVERY
def test_info_tells_the_tokenizer_and_one_that_is_too_large(name, written, capsys):
    tokenizer, folder = written
    assert cli.main(["info", str(folder)]) == 0
    said = f"{type(tokenizer).__name__}, {tokenizer.vocab_size} tokens"
    assert re.search(rf"\ntokenizer +{said}\n", capsys.readouterr().out)
    larger = BPETokenizer.train(TEXT, 285) if name != "bert" else WordPieceTokenizer.train(TEXT, 65)
    larger.save(folder)
    assert cli.main(["info", str(folder)]) == 0
    more = f"{larger.vocab_size} tokens, more than the {tokenizer.vocab_size} that the model knows\n"
    assert more in capsys.readouterr().out


@EVERY
@pytest.mark.parity
def test_autotokenizer_reads_what_is_along(name, written):
    transformers = pytest.importorskip("transformers")
    tokenizer, folder = written
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs(TEXT)["input_ids"] == tokenizer.encode(TEXT, special=True).tolist()
    assert theirs(*PAIR)["input_ids"] == tokenizer.encoding(*PAIR).ids.tolist()
    assert len(transformers.AutoModel.from_pretrained(folder).get_input_embeddings().weight) == tokenizer.vocab_size
    theirs.save_pretrained(folder)  # as they write it
    again = minigpt.load_tokenizer(folder)
    np.testing.assert_array_equal(again.encode(TEXT, special=True), tokenizer.encode(TEXT, special=True))
