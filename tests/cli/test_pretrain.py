"""minigpt pretrain and minigpt fill."""

import io
import json
import math
import re
import sys

import numpy as np
import pytest
from test_cli_options import SAME_BITS, TRAIN, options_of

import minigpt
from minigpt import checkpoint, cli
from minigpt.cli.terminal import visible
from minigpt.cli.tokenize import shown
from minigpt.data.documents import FIRST_LINES

TINY = {"num-hidden-layers": 1, "num-attention-heads": 2, "hidden-size": 8, "sequence-length": 14, "batch-size": 4}
TINY |= {"vocab-size": 290, "steps": 4, "eval-interval": 2, "save-interval": 2, "warmup": 1, "shards": 2}
TINY |= {"threads": 2, "short-length": 8, "short-share": 0.5}
WORDS = "alas poor yorick i knew him horatio a fellow of infinite jest most excellent fancy".split()  # noqa: SIM905


def a_text(seed, lines=70):
    rng = np.random.default_rng(seed)
    return "\n".join(" ".join(rng.choice(WORDS, rng.integers(4, 9))) for _ in range(lines)) + "\n"


@pytest.fixture
def texts(tmp_path):
    paths = [tmp_path / f"{name}.txt" for name in "ab"]
    for seed, path in enumerate(paths):
        path.write_text(a_text(seed), encoding="utf-8")
    return [str(path) for path in paths]


@pytest.fixture
def pretrain(tmp_path, texts, capsys):
    """Pre-train a tiny model into tmp_path/run; further options may follow -> what was printed."""

    def run(family, *options, name="run", code=0):
        own = {str(option)[2:] for option in options if str(option).startswith("--")}
        words = [word for key, value in TINY.items() if key not in own for word in (f"--{key}", str(value))]
        argv = ["pretrain", "--family", family, "--data", *texts, "--out", str(tmp_path / name), *words]
        assert cli.main([*argv, *map(str, options)]) == code
        return capsys.readouterr()

    return run


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pretrain_writes_a_run_compares_it_and_goes_on_bit_for_bit(pretrain, tmp_path, family, capsys):
    constant = ["--schedule", "constant", "--short-share", 0]  # what does not depend on the number of steps
    printed = pretrain(family, *constant).out
    lines = printed.splitlines()
    assert re.fullmatch(r"validation loss \d\.\d{4}", lines[-1])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert f"{rows[-1]['val_loss']:.4f}" == lines[-1].split()[-1]
    own, share = re.search(r"hidden pieces: ([\d.]+) nats each, ([\d.]+) of", printed).groups()
    unigram, bigram = re.search(r"unigram ([\d.]+); bigram, the piece before known, ([\d.]+),", printed).groups()
    assert float(own) == pytest.approx(rows[-1]["masked_lm"], abs=1e-4)
    assert float(share) == pytest.approx(float(own) / float(unigram), abs=1e-3)
    assert float(bigram) < float(unigram) < math.log(290)
    if family == "bert":
        assert rows[-1]["val_loss"] == pytest.approx(rows[-1]["masked_lm"] + rows[-1]["next_sentence"])
        assert f"right about {rows[-1]['next_sentence_accuracy']:.1%} of" in printed
    else:
        assert "next_sentence" not in rows[-1] and "next sentence" not in printed
    model = minigpt.load(tmp_path / "run" / "last")
    assert model.model_type == family and model.config.block_size == 14
    tokenizer = minigpt.load_tokenizer(tmp_path / "run" / "best")
    assert tokenizer.vocab_size == model.config.vocab_size <= 290
    pretrain(family, *constant, "--steps", 2, name="half")
    printed = pretrain(family, *constant, "--resume", name="half").out
    assert "after step 2 of 4" in printed
    half = minigpt.load(tmp_path / "half" / "last")
    np.testing.assert_array_equal(half.store.vector, model.store.vector)
    assert cli.main(["pretrain", "--resume", "--data", *texts_of(tmp_path), "--out", str(tmp_path / "half")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]  # no option is needed again


def texts_of(tmp_path):
    return [str(tmp_path / f"{name}.txt") for name in "ab"]


OPTIONS = {
    "--family": ("roberta", ("settings", "objective", "masked_lm")),
    "--vocab-size": ("60", ("settings", "tokenizer_vocab_size", 60)),
    "--sequence-length": ("12", ("settings", "sequence_length", 12)),
    "--short-length": ("9", ("settings", "short_length", 9)),
    "--short-share": ("0.9", ("settings", "short_share", 0.9)),
    "--mask-rate": ("0.5", ("settings", "mask_rate", 0.5)),
    "--whole-words": (None, ("settings", "whole_words", True)),
    "--static": (None, ("settings", "static", True)),
    "--hidden-size": ("16", ("model", "hidden_size", 16)),
    "--num-hidden-layers": ("2", ("model", "num_hidden_layers", 2)),
    "--num-attention-heads": ("4", ("model", "num_attention_heads", 4)),
    "--intermediate-size": ("12", ("model", "intermediate_size", 12)),
    "--activation": ("relu", ("model", "activation", "relu")),
    "--dropout": ("0.5", ("model", "dropout", 0.5)),
    "--no-tie-embeddings": (None, ("model", "tie_embeddings", False)),
}


def test_no_option_of_pretraining_is_forgotten_here():
    shared = {option for option, (_, _, (where, *_)) in TRAIN.items() if where == "run"}
    assert options_of("pretrain") == set(OPTIONS) | shared | (SAME_BITS - {"--recompute"}) | {"--no-recompute"}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_of_pretraining_reaches_the_run(pretrain, tmp_path, option):
    value, (where, field, expected) = OPTIONS[option]
    words = [option] if value is None else [option, value]
    pretrain("bert", *words, "--steps", 1, *(["--vocab-size", 290] if option != "--vocab-size" else []))
    folder = tmp_path / "run" / "last"
    found = vars(minigpt.load(folder).config) if where == "model" else checkpoint.load_state(folder)[0]["settings"]
    assert found[field] == expected


def test_plays_of_tiny_shakespeare_are_documents(tmp_path, capsys):
    path = tmp_path / "plays.txt"
    path.write_text("".join(f"{line}\n{a_text(i, 60)}" for i, line in enumerate(FIRST_LINES.values())), "utf-8")
    words = [word for key, value in (TINY | {"steps": 1}).items() for word in (f"--{key}", str(value))]
    assert cli.main(["pretrain", "--data", str(path), "--out", str(tmp_path / "run"), *words]) == 0
    assert "in 9 documents" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vocab-size", "9"], "vocab_size is 9, it must be at least"),
        (["--sequence-length", "4"], "sequence length is 4, it must be a whole number of at least 5"),
        (["--sequence-length", "400"], "training text: the longest document has"),
        (["--mask-rate", "1"], "mask rate is 1.0"),
        (["--hidden-size", "7"], "hidden_size is 7, it must be a multiple of num_attention_heads"),
    ],
)
def test_mistakes_are_told_in_a_line(pretrain, tmp_path, options, message):
    error = pretrain("bert", *options, code=2).err
    assert error.startswith(f"minigpt: {message}") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_a_run_was_started_with_stays(pretrain, tmp_path, capsys):
    pretrain("bert", "--steps", 1)
    for options, message in (
        (["--mask-rate", "0.5"], "mask_rate is 0.5, the run in"),
        (["--sequence-length", "12"], "sequence_length is 12, the run in"),
        (["--vocab-size", "77"], "tokenizer_vocab_size is 77, the run in"),
        (["--hidden-size", "16"], "hidden_size is 16, the run in"),
    ):
        assert pretrain("bert", "--resume", *options, code=2).err.startswith(f"minigpt: {message}")
    assert "family is roberta, the run in" in pretrain("roberta", "--resume", code=2).err
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "run"), "--data", texts_of(tmp_path)[0]]) == 2
    assert "trains a bert, `minigpt pretrain` goes on with it" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_fill_gives_the_likeliest_pieces_of_each_mask(pretrain, tmp_path, capsys, fail, monkeypatch, family):
    pretrain(family)
    folder = str(tmp_path / "run")
    model, tokenizer = (load(tmp_path / "run" / "best") for load in (minigpt.load, minigpt.load_tokenizer))
    mask = tokenizer.id_to_token(tokenizer.mask_id)
    text = f"alas {mask} yorick {mask}"
    assert cli.main(["fill", "--model", folder, text, "--top", "3"]) == 0
    printed = capsys.readouterr().out
    ids = tokenizer.encode(text, special=True)
    logits = model.astype(np.float64).forward(ids[None])[0].masked_lm[0]
    odds = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    for number, place in enumerate(np.flatnonzero(ids == tokenizer.mask_id), 1):
        best = np.argsort(-odds[place])[:3]
        ids[place] = best[0]
        block = printed.split(f"{mask} {number}")[1].splitlines()[:3]
        assert [row.split()[-1] for row in block] == [f"{odds[place, i]:.1%}" for i in best]
        assert all(f"[{shown(tokenizer, i)}]" in row for i, row in zip(best, block))
    assert printed.splitlines()[-1] == visible(tokenizer.decode(ids, skip_special=True).strip())
    monkeypatch.setattr(sys, "stdin", io.StringIO(text + "\n"))
    assert cli.main(["fill", "--model", folder, "--top", "3"]) == 0
    assert capsys.readouterr().out == printed
    assert f"the text has no {mask}, there is nothing to fill" in fail("fill", "--model", folder, "alas poor yorick")
    assert "the model sees at most 12" in fail("fill", "--model", folder, "alas " * 20 + mask)
    assert "top is 0" in fail("fill", "--model", folder, text, "--top", "0")


def test_fill_needs_a_masked_lm_head(run, tmp_path, fail):
    run()
    assert "the model is a recipe_gpt, a decoder" in fail("fill", "--model", tmp_path / "run", "Alas [MASK]")
    config = minigpt.BERTConfig(29, 9, 8, 1, 2, head=None)
    minigpt.BERT(config).save(tmp_path / "base", minigpt.load_tokenizer(tmp_path / "run" / "best"))
    assert "the model's head is None, filling needs a masked-LM head" in fail(
        "fill", "--model", tmp_path / "base", "Alas [MASK]"
    )
    minigpt.BERT(minigpt.BERTConfig(29, 9, 8, 1, 2)).save(
        tmp_path / "char", minigpt.load_tokenizer(tmp_path / "run" / "best")
    )
    assert "the tokenizer has no mask token" in fail("fill", "--model", tmp_path / "char", "Alas [MASK]")
