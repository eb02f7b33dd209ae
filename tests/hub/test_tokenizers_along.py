"""Tokenizers beside models in folders of `transformers`, out and in."""

import json
import re

import numpy as np
import pytest
from hub_folders import small_encoder, small_gpt, small_t5

import minigpt
from minigpt import BERT, BERTConfig, BPETokenizer, RoBERTa, RoBERTaConfig, WordPieceTokenizer, cli
from minigpt.tokenizers import AddedToken, UnigramTokenizer
from minigpt.tokenizers.bpe import ROBERTA
from minigpt.tokenizers.unigram_files import T5_NORMALIZER, T5_PRE_TOKENIZER, T5_SPECIAL, t5_template

TEXT = "To be, or not to be: that is the question. Whether 'tis nobler in the mind to suffer\n" * 3
PAIR = ("To be or not", "to suffer the question?")


def words():
    return WordPieceTokenizer.train(TEXT, 60)


def bytes_of(special_tokens):
    return BPETokenizer.train(TEXT, 280, special_tokens)


def pieces_of(extra_ids):
    """A tokenizer laid out as T5's, of letters and a few words."""
    found = [*"▁▁to▁be▁the▁ing".replace("▁", " ▁").split(), *sorted(set(TEXT) - set(" \n")), "or", "in"]
    last = [f"<extra_id_{i}>" for i in range(extra_ids - 1, -1, -1)]
    vocab = [*((token, 0.0) for token in T5_SPECIAL), *((piece, -2.0 - 0.1 * i) for i, piece in enumerate(found))]
    vocab += [(token, 0.0) for token in last]
    added = [AddedToken(token, i) for i, (token, _) in enumerate(vocab) if token in (*T5_SPECIAL, *last)]
    parts = {"normalizer": T5_NORMALIZER, "pre_tokenizer": T5_PRE_TOKENIZER}
    return UnigramTokenizer(vocab, unk_id=2, added=added, post_processor=t5_template(("</s>", 1)), **parts)


MODELS = {  # what makes a model of a vocabulary, and its tokenizer
    "gpt2": (lambda rng, n: small_gpt(rng, vocab_size=n), lambda: bytes_of(("<|endoftext|>",))),
    "bert": (lambda rng, n: small_encoder(BERT, BERTConfig, rng, vocab_size=n), words),
    "t5": (lambda rng, n: small_t5(rng, vocab_size=n), lambda: pieces_of(7)),
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
        assert values.get(f"{role}_token_id") == getattr(tokenizer, f"{role}_id")
    if name in ("gpt2", "t5"):
        assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_id
    assert minigpt.from_huggingface(folder).config.vocab_size == again.vocab_size


@EVERY
def test_info_tells_the_tokenizer_and_one_that_is_too_large(name, written, capsys):
    tokenizer, folder = written
    assert cli.main(["info", str(folder)]) == 0
    said = f"{type(tokenizer).__name__}, {tokenizer.vocab_size} tokens"
    assert re.search(rf"\ntokenizer +{said}\n", capsys.readouterr().out)
    larger = {"bert": lambda: WordPieceTokenizer.train(TEXT, 65), "t5": lambda: pieces_of(8)}
    larger = larger.get(name, lambda: BPETokenizer.train(TEXT, 285))()
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


@pytest.mark.parity
def test_autotokenizer_takes_the_sentinels_of_a_t5_for_special(rng, tmp_path):
    """And reads tokenizer.json as it is: their T5Tokenizer would leave out our normalizer."""
    transformers = pytest.importorskip("transformers")
    tokenizer = pieces_of(7)
    minigpt.to_huggingface(small_t5(rng, vocab_size=tokenizer.vocab_size), tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("to <extra_id_0> the ½ﬁ<extra_id_6>.", "  to  be ", "", "the</s>", "¤"):
        ids = tokenizer.encode(text, special=True)
        assert theirs(text)["input_ids"] == ids.tolist()
        assert theirs.decode(ids) == tokenizer.decode(ids)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids, skip_special=True)
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id, len(theirs)) == (
        0,
        1,
        2,
        tokenizer.vocab_size,
    )
    assert theirs.convert_tokens_to_ids("<extra_id_0>") == tokenizer.sentinel_ids[0] == tokenizer.vocab_size - 1


@pytest.mark.parity
def test_tokenizers_that_their_t5_writes_are_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    vocab = pieces_of(7).pieces_and_scores
    theirs = transformers.T5Tokenizer(vocab=vocab, extra_ids=7)
    theirs.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "T5Tokenizer"
    ours = minigpt.load_tokenizer(tmp_path)
    for text in ("to <extra_id_0> the ½ﬁ<extra_id_6>.", "  to  be ", "", "the</s>", "¤"):
        assert theirs(text)["input_ids"] == ours.encode(text, special=True).tolist()
    assert (ours.pad_id, ours.eos_id, ours.unk_id, ours.sentinel_ids[0]) == (0, 1, 2, ours.vocab_size - 1)
