"""Every option of every command has an effect."""

import argparse
import json
import re
import sys

import pytest

import minigpt
from minigpt import checkpoint, cli
from minigpt.cli.terminal import command_line, visible
from minigpt.training import RunLock, measures, step

# Option of train -> its value, others that it needs,
# and the field of the model's config or the run's that it sets
TRAIN = {
    "--n-layer": ("1", [], ("model", "n_layer", 1)),
    "--n-head": ("4", [], ("model", "n_head", 4)),
    "--n-embd": ("16", [], ("model", "n_embd", 16)),
    "--block-size": ("6", [], ("model", "block_size", 6)),
    "--dropout": ("0.5", [], ("model", "dropout", 0.5)),
    "--activation": ("relu", [], ("model", "activation", "relu")),
    "--positions": ("learned", [], ("model", "positions", "learned")),
    "--no-qk-norm": (None, [], ("model", "qk_norm", False)),
    "--no-smear": (None, [], ("model", "smear", False)),
    "--bias": (None, [], ("model", "bias", True)),
    "--no-tie-embeddings": (None, [], ("model", "tie_embeddings", False)),
    "--steps": ("6", [], ("run", "steps", 6)),
    "--batch-size": ("5", [], ("run", "batch_size", 5)),
    "--accumulate": ("2", [], ("run", "accumulate", 2)),
    "--shards": ("3", [], ("run", "shards", 3)),
    "--optimizer": ("sgd", [], ("run", "optimizer", "sgd")),
    "--lr": ("0.1", [], ("run", "lr", 0.1)),
    "--muon-lr": ("0.1", [], ("run", "muon_lr", 0.1)),
    "--newton-schulz-steps": ("5", [], ("run", "newton_schulz_steps", 5)),
    "--beta1": ("0.5", [], ("run", "beta1", 0.5)),
    "--beta2": ("0.5", [], ("run", "beta2", 0.5)),
    "--weight-decay": ("9", [], ("run", "weight_decay", 9.0)),
    "--clip": ("0.01", [], ("run", "clip", 0.01)),
    "--schedule": ("constant", [], ("run", "schedule", "constant")),
    "--warmup": ("0", [], ("run", "warmup", 0)),
    "--final-lr": ("1", [], ("run", "final_lr", 1.0)),
    "--seed": ("9", [], ("run", "seed", 9)),
    "--preset": ("best", [], ("run", "newton_schulz_steps", 4)),
}
SAME_BITS = {
    "--recompute",
    "--eval-interval",
    "--save-interval",
    "--threads",
    "--out",
    "--data",
    "--resume",
    "--profile",
}
TOKENS = {"--tokenizer", "--vocab-size"}  # see test_bpe_runs.py


def options_of(command):
    """The option strings of a command, one an action of the parser: --no-x where there is one."""
    parser = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices[command]
    names = {action.option_strings[-1] if action.option_strings else action.dest for action in parser._actions}
    return names - {"--help"}


def test_no_option_of_training_is_forgotten_here():
    positive = {"--no-recompute": "--recompute", "--no-bias": "--bias"}
    assert {positive.get(name, name) for name in options_of("train")} == set(TRAIN) | SAME_BITS | TOKENS


@pytest.fixture
def parameters(run, tmp_path):
    """Train 4 steps -> bytes of the parameters."""

    def train(*options, name="run"):
        run(*options, out=tmp_path / name, steps=4)
        return minigpt.load(tmp_path / name / "last").store.vector.tobytes()

    return train


@pytest.mark.parametrize("option", TRAIN)
def test_option_of_training_reaches_the_run_and_changes_its_bits(parameters, tmp_path, option):
    value, others, (where, field, expected) = TRAIN[option]
    changed = parameters(*others, *[word for word in (option, value) if word is not None], name="changed")
    folder = tmp_path / "changed" / "last"
    config = vars(minigpt.load(folder).config) if where == "model" else checkpoint.load_state(folder)[0]["config"]
    assert config[field] == expected
    assert changed != parameters(*others, name="plain")


def test_options_that_change_no_bit_do_what_they_say(parameters, tmp_path, capsys, text):
    plain = parameters(name="plain")
    for name, option in {"a": "--recompute", "b": "--no-recompute"}.items():
        assert parameters(option, name=name) == plain
        assert checkpoint.load_state(tmp_path / name / "last")[0]["config"]["recompute"] is (option == "--recompute")
    assert parameters("--threads", "1", name="c") == plain
    capsys.readouterr()
    assert parameters("--eval-interval", "2", "--save-interval", "3", name="d") == plain
    rows = [json.loads(line) for line in (tmp_path / "d" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    text.write_text(text.read_text() + "Another text. " * 30)
    assert parameters(name="e") != plain


def test_save_interval_is_the_steps_between_saves(run, tmp_path, monkeypatch):
    saved = []
    save = minigpt.training.Trainer.save
    monkeypatch.setattr(
        minigpt.training.Trainer, "save", lambda self, name: (saved.append((name, self.step)), save(self, name))
    )
    run("--save-interval", "3", "--eval-interval", "100", steps=7)
    assert [step for name, step in saved if name == "last"] == [0, 3, 6, 7]


GENERATE = {
    "--prompt": "fellow",
    "--max-new-tokens": "7",
    "--temperature": "0",
    "--top-k": "2",
    "--top-p": "0.2",
    "--repetition-penalty": "3",
    "--seed": "5",
    "--num-beams": "2",
}


def test_every_option_of_generate_changes_the_text(run, tmp_path, capsys):
    assert options_of("generate") == set(GENERATE) | {"--model", "--length-penalty"}
    run()

    def generate(*options):
        assert cli.main(["generate", "--model", str(tmp_path / "run"), *options]) == 0
        return capsys.readouterr().out

    plain = generate()
    assert len(plain) == 502  # the default prompt is a new line, 500 tokens, and the last line end
    for option, value in GENERATE.items():
        assert generate(option, value) != plain, option
    assert len(generate("--max-new-tokens", "7")) == 9
    assert generate("--prompt", "fellow").startswith("fellow")


def test_generate_with_beams_writes_the_likeliest_text(run, tmp_path, capsys, fail):
    """--length-penalty is handed on: of texts that end at one length it changes nothing."""
    run()
    argv = ["generate", "--model", str(tmp_path / "run"), "--prompt", "fellow", "--max-new-tokens", "9"]
    assert cli.main([*argv, "--num-beams", "3", "--length-penalty", "0.5", "--repetition-penalty", "1.5"]) == 0
    model, tokenizer = minigpt.load(tmp_path / "run" / "best"), minigpt.load_tokenizer(tmp_path / "run" / "best")
    ids = tokenizer.encode("fellow")[None]
    found = model.generate(ids, 9, num_beams=3, length_penalty=0.5, repetition_penalty=1.5)
    assert capsys.readouterr().out == tokenizer.decode(found[0]) + "\n"
    for options, message in (
        (("--num-beams", "0"), "num_beams is 0, it must be a whole number of at least 1"),
        (("--num-beams", "2", "--temperature", "0.8"), "temperature is 0.8, but num_beams is 2"),
        (("--num-beams", "2", "--top-k", "3"), "top_k is 3, but num_beams is 2"),
        (("--num-beams", "2", "--length-penalty", "nan"), "length_penalty is nan, it must be a number"),
        (("--num-beams", "2", "--max-new-tokens", "0"), "max_new_tokens is 0, it must be a whole number of at least 1"),
        (("--length-penalty", "2"), "--length-penalty goes with --num-beams of at least 2"),
        (("--repetition-penalty", "0"), "repetition_penalty is 0.0, it must be more than 0"),
    ):
        assert message in fail(*argv, *options)


def test_every_option_of_eval_changes_what_is_measured(run, tmp_path, text, capsys, monkeypatch):
    assert options_of("eval") == {"--model", "--data", "--split", "--batch-size"}
    run("--lr", "0.05", steps=30)
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[::-1], encoding="utf-8")

    def loss(*options, data=text):
        assert cli.main(["eval", "--model", str(tmp_path / "run"), "--data", str(data), *options]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    found = {loss(), loss("--split", "train"), loss("--split", "all"), loss(data=other)}
    assert len(found) == 4
    sizes = []
    terms = step.evaluate_terms
    watch = lambda model, batches, workers: terms(model, [sizes.append(b.rows) or b for b in batches], workers)  # noqa: E731
    monkeypatch.setattr(measures, "evaluate_terms", watch)
    for size in (2, 8):
        sizes.clear()
        assert loss("--batch-size", str(size)) in found
        assert max(sizes) <= size


GRADCHECK = {
    "--n-layer": "2",
    "--n-head": "2",
    "--n-embd": "6",
    "--block-size": "5",
    "--dropout": "0",
    "--activation": "relu",
    "--positions": "rotary",
    "--qk-norm": None,
    "--smear": None,
    "--no-bias": None,
    "--no-tie-embeddings": None,
    "--method": "central",
    "--seed": "3",
}


def test_every_option_of_gradcheck_changes_the_table(capsys):
    switches = {"--no-qk-norm": "--qk-norm", "--no-smear": "--smear"}
    files = {"--plot", "--html", "--museum", "--model"}  # these have tests of their own
    assert {switches.get(name, name) for name in options_of("gradcheck")} == set(GRADCHECK) | files

    def table(*options):
        assert cli.main(["gradcheck", "--n-layer", "1", *options]) == 0
        return capsys.readouterr().out

    tables = [table()] + [table(option, *[value] * (value is not None)) for option, value in GRADCHECK.items()]
    assert len(set(tables)) == len(tables)


def test_plot_has_the_format_of_its_name_and_others_are_refused_at_once(tmp_path, capsys, fail, monkeypatch):
    assert cli.main(["gradcheck", "--n-layer", "1", "--plot", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")
    monkeypatch.setattr("minigpt.cli.gradcheck.check_gradients", None)  # not reached
    assert "its name must end with .png or .svg or .pdf" in fail("gradcheck", "--plot", tmp_path / "a.jpg")
    assert "seed is -1, it must be a whole number of at least 0" in fail("gradcheck", "--seed", "-1")


def test_gradcheck_of_a_saved_model_takes_no_option_of_a_new_one(run, tmp_path, fail):
    run()
    assert "--n-embd goes with a new model" in fail("gradcheck", "--model", tmp_path / "run", "--n-embd", "8")


def test_info_takes_the_folder_by_position_too(run, tmp_path, capsys, fail):
    assert options_of("info") == {"folder", "--model"}
    run()
    printed = []
    for argv in ([str(tmp_path / "run")], ["--model", str(tmp_path / "run")], [str(tmp_path / "run" / "best")]):
        assert cli.main(["info", *argv]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    assert "two models are named" in fail("info", tmp_path / "run", "--model", tmp_path / "run")


def test_info_says_what_a_hugging_face_folder_is_and_describes_it(tmp_path, capsys, fail):
    config = minigpt.GPTConfig(11, 8, 1, 2, 8)
    minigpt.to_huggingface(minigpt.GPT(config), tmp_path / "hf")
    assert cli.main(["info", str(tmp_path / "hf")]) == 0
    printed = capsys.readouterr().out
    assert "a Hugging Face folder, model_type gpt2; minigpt.from_huggingface loads it" in printed
    assert re.search(r"h\.0\.mlp\.c_fc\.weight +8x32 ", printed)
    assert re.search(r"\nparameters +1,\S+ of float32, \S+ kB\ntensors +16 of F32 in model\.safetensors\n\n", printed)
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "walrus\\u001b"}')
    message = fail("info", tmp_path / "hf")
    assert "walrus\\x1b" in message and "it must be one of gpt2, gpt_neo, bert" in message


def test_info_tells_an_encoders_head_and_what_is_new(tmp_path, capsys):
    config = minigpt.BERTConfig(11, 8, 8, 1, 2, head=None)
    minigpt.to_huggingface(minigpt.BERT(config), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertForQuestionAnswering"]}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert cli.main(["info", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\nhead +question_answering\n", printed)
    assert re.search(r"\nnote: \S+: this model has no use for bert\.pooler\.dense\.bias, ", printed)
    assert "has no spans.weight, spans.bias: drawn anew (model.fresh)" in printed
    assert re.search(r"\nspans\.weight +8x2 ", printed)


def test_text_without_a_newline_is_trained_on_and_continued_by_the_command_that_is_printed(run, tmp_path, text, capsys):
    text.write_text("ACGTTGCA" * 200)
    printed = run(out=tmp_path / "my run").out
    command = next(line for line in printed.splitlines() if line.startswith("loss curve:")).split("to read more: ")[1]
    assert command == command_line("minigpt", "generate", "--model", tmp_path / "my run" / "best")
    if sys.platform != "win32":
        import shlex

        assert cli.main(shlex.split(command)[1:]) == 0
        assert set(capsys.readouterr().out.strip("\n")) <= set("ACGT")


def test_control_characters_of_a_text_do_not_reach_the_terminal(run, tmp_path, text, capsys, monkeypatch):
    text.write_text("\x1b[31mred\x07\t\n" * 200)
    assert "\x1b" not in run(steps=40).out.replace("\\x1b", "")
    argv = ["generate", "--model", str(tmp_path / "run"), "--seed", "1"]
    assert cli.main(argv) == 0
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    assert "\x1b" in piped
    assert shown == visible(piped)
    assert "\x1b" not in shown
    assert "\n" in shown


def test_profile_is_taken_under_the_lock(run, tmp_path):
    with RunLock(tmp_path / "run"):
        assert "is in use" in run("--profile", "1", code=2).err
    assert not (tmp_path / "run" / "profile.json").exists()


@pytest.mark.parametrize("argv", [["generate"], ["eval"], ["info"], ["gradcheck"]])
def test_empty_name_of_a_folder_is_not_this_folder(fail, argv):
    """As of a variable of the shell that is not set."""
    assert "--model is empty, it must name a folder" in fail(*argv, "--model", "")
    assert "--out is empty, it must name a folder" in fail("train", "--out", "")


@pytest.mark.parametrize("option", ["--plot", "--html"])
def test_folder_of_a_picture_is_looked_for_before_the_work(fail, tmp_path, monkeypatch, option):
    monkeypatch.setattr("minigpt.cli.gradcheck.check_gradients", None)
    path = tmp_path / "nowhere" / "a.png"
    assert f"{path} can't be written: there is no folder {path.parent}" in fail("gradcheck", option, path)


def test_more_micro_batches_than_fit_into_memory_are_refused(run):
    assert "training this model on batches of 4 would take about" in run("--accumulate", 10**11, code=2).err


def test_overflow_is_named_without_a_warning_of_numpys(run):
    assert "the loss is nan; first in parameter wte.weight" in run("--weight-decay", "1e300", code=1).err


def test_resume_as_another_family_is_refused(run):
    run("--positions", "learned", "--no-qk-norm", "--no-smear")
    assert "model_type is recipe_gpt, the run in " in run("--resume", "--qk-norm", steps=20, code=2).err
