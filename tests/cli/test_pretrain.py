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
from minigpt.models.span_filling import fill_spans

TINY = {"sequence-length": 14, "batch-size": 4, "vocab-size": 290, "steps": 4, "eval-interval": 2, "save-interval": 2}
TINY |= {"warmup": 1, "shards": 2, "threads": 2}
SIZES = {"num-hidden-layers": 1, "num-attention-heads": 2, "hidden-size": 8, "short-length": 8, "short-share": 0.5}
T5_SIZES = {"d-model": 8, "d-kv": 3, "d-ff": 10, "num-layers": 1, "num-heads": 2, "vocab-size": 60, "lr": 1e-3}
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
        sizes = (TINY | (T5_SIZES if family == "t5" else SIZES)).items()
        words = [word for key, value in sizes if key not in own for word in (f"--{key}", str(value))]
        argv = ["pretrain", "--family", family, "--data", *texts, "--out", str(tmp_path / name), *words]
        assert cli.main([*argv, *map(str, options)]) == code
        return capsys.readouterr()

    return run


@pytest.mark.parametrize("family", ["bert", "roberta", "t5"])
def test_pretrain_writes_a_run_compares_it_and_goes_on_bit_for_bit(pretrain, tmp_path, family, capsys):
    constant = ["--schedule", "constant"]  # what does not depend on the number of steps
    constant += [] if family == "t5" else ["--short-share", 0]
    printed = pretrain(family, *constant).out
    lines = printed.splitlines()
    assert re.fullmatch(r"validation loss \d\.\d{4}", lines[-1])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert f"{rows[-1]['val_loss']:.4f}" == lines[-1].split()[-1]
    own, share = re.search(r"(?:hidden pieces|pieces in spans): ([\d.]+) nats each, ([\d.]+) of", printed).groups()
    unigram, bigram = re.search(r"unigram ([\d.]+); bigram, the piece before known, ([\d.]+),", printed).groups()
    assert float(own) == pytest.approx(rows[-1]["span_text" if family == "t5" else "masked_lm"], abs=1e-4)
    assert float(share) == pytest.approx(float(own) / float(unigram), abs=1e-3)
    assert float(unigram) < math.log(290) and (family == "t5" or float(bigram) < float(unigram))
    if family == "bert":
        assert rows[-1]["val_loss"] == pytest.approx(rows[-1]["masked_lm"] + rows[-1]["next_sentence"])
        assert f"right about {rows[-1]['next_sentence_accuracy']:.1%} of" in printed
    else:
        assert "next_sentence" not in rows[-1] and "next sentence" not in printed
    if family == "t5":
        ends, count = re.search(r"sentinels and </s> apart: ([\d.]+) nats each of ([\d,]+);", printed).groups()
        assert float(ends) == pytest.approx(rows[-1]["sentinels"], abs=1e-4) and int(count) == 12
    model = minigpt.load(tmp_path / "run" / "last")
    assert model.model_type == family and (family == "t5" or model.config.block_size == 14)
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


OPTIONS = {  # of a BERT
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
T5_OPTIONS = {
    "--mean-span": ("2", ("settings", "mean_span", 2.0)),
    "--no-varied": (None, ("settings", "varied", False)),
    "--d-model": ("16", ("model", "d_model", 16)),
    "--d-kv": ("5", ("model", "d_kv", 5)),
    "--d-ff": ("12", ("model", "d_ff", 12)),
    "--num-layers": ("2", ("model", "num_layers", 2)),
    "--num-decoder-layers": ("3", ("model", "num_decoder_layers", 3)),
    "--num-heads": ("4", ("model", "num_heads", 4)),
    "--relative-attention-num-buckets": ("8", ("model", "relative_attention_num_buckets", 8)),
    "--relative-attention-max-distance": ("20", ("model", "relative_attention_max_distance", 20)),
    "--feed-forward-proj": ("gated-gelu", ("model", "feed_forward_proj", "gated-gelu")),
}


def test_no_option_of_pretraining_is_forgotten_here():
    shared = {option for option, (_, _, (where, *_)) in TRAIN.items() if where == "run"}
    assert options_of("pretrain") == {*OPTIONS, *T5_OPTIONS} | shared | (SAME_BITS - {"--recompute"}) | {
        "--no-recompute"
    }


def test_options_of_a_t5_reach_the_run(pretrain, tmp_path):
    """All at once: a run each would take seconds."""
    words = [word for option, (value, _) in T5_OPTIONS.items() for word in (option, value) if word is not None]
    pretrain("t5", *words, "--steps", 1)
    folder = tmp_path / "run" / "last"
    found = {"model": vars(minigpt.load(folder).config), "settings": checkpoint.load_state(folder)[0]["settings"]}
    for option, (_, (where, field, expected)) in T5_OPTIONS.items():
        assert found[where][field] == expected, option


@pytest.mark.parametrize("option", OPTIONS)
def test_option_of_pretraining_reaches_the_run(pretrain, tmp_path, option):
    value, (where, field, expected) = OPTIONS[option]
    words = [option] if value is None else [option, value]
    pretrain("bert", *words, "--steps", 1)
    folder = tmp_path / "run" / "last"
    found = vars(minigpt.load(folder).config) if where == "model" else checkpoint.load_state(folder)[0]["settings"]
    assert found[field] == expected


def test_plays_of_tiny_shakespeare_are_documents(tmp_path, capsys):
    path = tmp_path / "plays.txt"
    path.write_text("".join(f"{line}\n{a_text(i, 60)}" for i, line in enumerate(FIRST_LINES.values())), "utf-8")
    words = [word for key, value in (TINY | SIZES | {"steps": 1}).items() for word in (f"--{key}", str(value))]
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
        (["--d-kv", "7"], "--d-kv 7: a bert has no such setting"),
        (["--mean-span", "2"], "--mean-span 2.0: a bert has no such setting"),
        (["--family", "t5", "--hidden-size", "9"], "--hidden-size 9: a t5 has no such setting"),
        (["--family", "t5", "--static"], "--static: a t5 has no such setting"),
        (["--family", "t5", "--mask-rate", "0.6"], "twice the mask rate, which a row of its own may have, is 1.2"),
        (["--family", "t5", "--vocab-size", "30"], "vocab_size is 30, it must be at least"),
        (["--family", "t5", "--mean-span", "nan"], "mean span is nan, it must be a number of at least 1"),
        (["--family", "t5", "--mean-span", "0"], "mean span is 0.0, it must be a number of at least 1"),
        (["--family", "t5", "--mask-rate", "nan"], "mask rate is nan, it must be a number of at least 0"),
    ],
)
def test_mistakes_are_told_in_a_line(pretrain, tmp_path, options, message):
    error = pretrain(options[1] if options[0] == "--family" else "bert", *options, code=2).err
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


def test_fill_gives_the_likeliest_spans_of_all_gaps(pretrain, tmp_path, capsys, fail, monkeypatch):
    pretrain("t5", "--steps", 30, "--lr", 0.03)
    folder = str(tmp_path / "run")
    model, tokenizer = (load(tmp_path / "run" / "best") for load in (minigpt.load, minigpt.load_tokenizer))
    assert cli.main(["fill", "--model", folder, "alas <extra_id_0> yorick ", "--top", "3"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    fillings = fill_spans(model, tokenizer, "alas <extra_id_0> yorick", 3)
    assert lines[0].split() == ["<extra_id_0>"] and [line.split()[-1] for line in lines[1:-2]] == [
        f"{100 * filling.probability:.2g}%" for filling in fillings
    ]
    assert lines[-1] == visible(tokenizer.decode(fillings[0].ids, skip_special=True).strip())
    assert lines[-1].startswith("alas") and lines[-1].endswith("yorick")
    monkeypatch.setattr(sys, "stdin", io.StringIO("alas ___ yorick ____ him\n"))
    assert cli.main(["fill", "--model", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["<extra_id_0>", "<extra_id_1>"] and 4 <= len(lines) <= 8
    monkeypatch.setattr(sys, "stdin", None)  # closed when the program began
    assert "the text has no gap" in fail("fill", "--model", folder)
    for text, message in (
        ("alas poor", "the text has no gap (<extra_id_0> or ___), there is nothing to fill"),
        ("alas [MASK]", "the text has [MASK], which is for a BERT or RoBERTa; a gap is <extra_id_0> or ___ here"),
        ("alas <extra_id_77>", "the text has '<extra_id_77>', the tokenizer has <extra_id_0> to <extra_id_19>"),
        ("<extra_id_1> a <extra_id_1>", "the text has <extra_id_1> 2 times, each gap needs one of its own"),
        ("___ a " * 21, "the text has 21 gaps, the tokenizer has 20 sentinels for them"),
    ):
        assert message in fail("fill", "--model", folder, text)
    assert "top is 0" in fail("fill", "--model", folder, "alas ___", "--top", "0")
    assert "a t5 writes one text from another" in fail("eval", "--model", folder)
    pretrain("bert", name="bert")
    for gap in ("<extra_id_0>", "___"):
        assert f"the text has {gap}, which is for a T5; a mask is [MASK] here" in fail(
            "fill", "--model", tmp_path / "bert", f"alas {gap} yorick"
        )


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
