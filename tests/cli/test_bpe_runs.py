"""minigpt train --tokenizer bpe or unigram: a GPT on pieces of words."""

import json
import math

import numpy as np
import pytest

import minigpt
from minigpt import cli


def last_row(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize(("kind", "cls"), [("bpe", minigpt.BPETokenizer), ("unigram", minigpt.UnigramTokenizer)])
def test_a_gpt_trains_on_pieces_is_resumed_evaluated_and_writes(run, tmp_path, text, capsys, kind, cls):
    pieces = ["--tokenizer", kind, "--vocab-size", 290, "--schedule", "constant"]
    printed = run(*pieces, steps=6).out
    tokenizer = minigpt.load_tokenizer(tmp_path / "run" / "best")
    model = minigpt.load(tmp_path / "run" / "last")
    assert type(tokenizer) is cls
    assert tokenizer.vocab_size == model.config.vocab_size == 290
    assert "as 290 kinds of token" in printed
    characters = text.read_text()
    assert tokenizer.decode(tokenizer.encode(f"{characters}\n\n 漢  ")) == f"{characters}\n\n 漢  "
    held_out = characters[int(len(characters) * 0.9) :]
    row = last_row(tmp_path / "run")
    bits = row["val_loss"] / math.log(2) * len(tokenizer.encode(held_out)) / len(held_out.encode("utf-8"))
    assert row["bits_per_byte"] == pytest.approx(bits)
    assert printed.splitlines()[-2:] == [
        f"{bits:.4f} bits per byte, whatever the tokens",
        f"validation loss {row['val_loss']:.4f}",
    ]
    run(*pieces, steps=3, out=tmp_path / "half")
    assert run("--resume", "--schedule", "constant", steps=6, out=tmp_path / "half").out  # the tokenizer is the run's
    np.testing.assert_array_equal(minigpt.load(tmp_path / "half" / "last").store.vector, model.store.vector)
    assert cli.main(["eval", "--model", str(tmp_path / "run" / "last"), "--data", str(text)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == printed.splitlines()[-2:]
    assert cli.main(["generate", "--model", str(tmp_path / "run"), "--prompt", "Alas", "--max-new-tokens", "30"]) == 0
    ids = minigpt.load(tmp_path / "run" / "best").generate(tokenizer.encode("Alas")[None], 30, 0.8, seed=0)[0]
    assert capsys.readouterr().out.rstrip("\n") == tokenizer.decode(ids).rstrip("\n")


def test_tokens_of_a_run_stay_what_they_are(run, tmp_path):
    run("--tokenizer", "bpe", "--vocab-size", 280, steps=1, out=tmp_path / "bpe")
    run(steps=1, out=tmp_path / "char")
    for folder, options, message in (
        ("bpe", ["--tokenizer", "char"], "tokenizer is char, the run in"),
        ("bpe", ["--vocab-size", 270], "tokenizer_vocab_size is 270, the run in"),
        ("char", ["--tokenizer", "bpe"], "tokenizer is bpe, the run in"),
        ("bpe", ["--tokenizer", "unigram"], "tokenizer is unigram, the run in"),
    ):
        assert f"minigpt: {message}" in run("--resume", *options, out=tmp_path / folder, code=2).err
    assert "--vocab-size 9 goes with --tokenizer bpe or unigram" in run("--vocab-size", 9, code=2).err
    assert "vocab_size" in run("--tokenizer", "bpe", "--vocab-size", 9, code=2).err


def test_characters_have_bits_per_byte_as_well(run, tmp_path, text):
    run(steps=2)
    row = last_row(tmp_path / "run")
    assert row["bits_per_byte"] == pytest.approx(row["val_loss"] / math.log(2))  # all of them ASCII
