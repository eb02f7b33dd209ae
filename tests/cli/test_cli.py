import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minigpt
from minigpt import checkpoint, cli, machine


def test_train_writes_a_run_and_ends_with_its_loss(run, tmp_path):
    printed = run("--dropout", "0.1").out
    last = printed.splitlines()[-1]
    assert re.fullmatch(r"validation loss \d\.\d{4}", last)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert f"{rows[-1]['val_loss']:.4f}" == last.split()[-1]
    assert minigpt.load(tmp_path / "run" / "last").config.dropout == 0.1
    assert minigpt.load(tmp_path / "run" / "best").config.n_embd == 8
    assert rows[0]["data_sha256"] in printed


def test_same_seed_same_model(run, tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        run("--seed", seed, out=tmp_path / name)
    a, b, c = (minigpt.load(tmp_path / name / "last").store.vector for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_resume_into_an_empty_folder_starts_afresh_and_says_so(run):
    assert "nothing is saved in" in run("--resume").out


def test_resume_of_a_finished_run_ends_with_the_same_loss(run):
    assert run().out.splitlines()[-1] == run("--resume").out.splitlines()[-1]


def test_resume_needs_no_options_again(run, tmp_path, text, capsys):
    run()
    assert cli.main(["train", "--data", str(text), "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "after step 10 of 10" in capsys.readouterr().out


def test_resume_with_a_changed_option_names_the_field(run, tmp_path):
    run()
    for option, value in (("--n-embd", "12"), ("--lr", "0.5"), ("--seed", "7")):
        error = run("--resume", option, value, code=2).err
        assert error.startswith(f"minigpt: {option[2:].replace('-', '_')} is {value}, the run in ")
    assert checkpoint.load_state(tmp_path / "run" / "last")[0]["step"] == 10


def test_fresh_start_keeps_the_earlier_run(run, tmp_path):
    run()
    assert "held an earlier run" in run("--seed", "1").out
    assert "run.2" in run("--seed", "2").out
    assert minigpt.load(tmp_path / "run.1" / "last")


def test_option_of_a_preset_can_be_overridden(tmp_path, text, capsys, tiny):
    argv = [
        "train",
        "--data",
        str(text),
        "--out",
        str(tmp_path / "run"),
        "--preset",
        "nanogpt-cpu",
        *tiny,
        "--steps",
        "2",
    ]
    assert cli.main(argv) == 0
    config = checkpoint.load_state(tmp_path / "run" / "last")[0]["config"]
    assert (config["optimizer"], config["weight_decay"], config["batch_size"], config["steps"]) == ("adamw", 0.1, 4, 2)


def test_presets_hold_nanogpts_recipe():
    model, training = minigpt.training.PRESETS["nanogpt-cpu"]
    config = minigpt.training.TrainConfig(**training)
    assert (model["n_layer"], model["n_head"], model["n_embd"], model["block_size"], model["bias"]) == (
        4,
        4,
        128,
        64,
        False,
    )
    assert (config.steps, config.batch_size, config.lr, config.lr * config.final_lr, config.warmup) == (
        2000,
        12,
        1e-3,
        1e-4,
        100,
    )
    assert (config.beta1, config.beta2, config.weight_decay, config.clip, config.schedule) == (
        0.9,
        0.99,
        0.1,
        1.0,
        "cosine",
    )
    assert model.get("dropout", 0.0) == 0.0


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--n-head", "3", "n_embd is 8, it must be a multiple of n_head, which is 3"),
        ("--n-layer", "0", "n_layer is 0, it must be a whole number of at least 1"),
        ("--batch-size", "-2", "batch_size is -2"),
        ("--n-embd", "20000000", "would take about"),
        ("--n-layer", "1000000000", "of memory; this machine has"),
        ("--dropout", "1.5", "dropout is 1.5, it must be a number of at least 0 and less than 1"),
        ("--threads", "0", "threads is 0, it must be at least 1"),
        ("--threads", "9", "threads is 9, there are only 2 shards"),
        ("--threads", "1.5", "threads is '1.5', it must be auto or a whole number of at least 1"),
        ("--block-size", "100000", "at least block_size + 1 = 100001 are needed"),
        ("--lr", "inf", "lr is inf"),
    ],
)
def test_train_names_a_bad_option(run, tmp_path, option, value, message):
    assert message in run(option, value, code=2).err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"a\0b" * 99, b"caf\xe9 " * 99], ids=["empty", "binary", "latin-1"])
def test_train_names_a_bad_text(tmp_path, content, fail):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert str(path) in fail("train", "--data", path, "--out", tmp_path / "run")
    assert "doesn't exist" in fail("train", "--data", tmp_path / "none.txt", "--out", tmp_path / "run")


def test_out_that_is_a_file_is_named(run, text):
    assert str(text) in run(out=text, code=2).err


def test_full_disk_is_said_and_the_checkpoint_stays(run, tmp_path, monkeypatch):
    run()
    before = minigpt.load(tmp_path / "run" / "last").store.vector

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = run("--resume", steps=20, code=2).err
    assert "No space left on device" in error
    monkeypatch.undo()
    np.testing.assert_array_equal(minigpt.load(tmp_path / "run" / "last").store.vector, before)


def test_generate_streams_a_continuation(run, tmp_path, capsys):
    run()
    argv = ["generate", "--model", str(tmp_path / "run"), "--prompt", "Alas", "--max-new-tokens", "30", "--seed", "1"]
    outputs = []
    for extra in ([], [], ["--temperature", "0"], ["--top-k", "1"], ["--top-p", "0.5"]):
        assert cli.main(argv + extra) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[2] == outputs[3]
    assert all(out.startswith("Alas") and len(out) == 35 for out in outputs)


def test_generate_names_bad_input(run, tmp_path, fail):
    run()
    model = ("generate", "--model", tmp_path / "run")
    assert "character '§' at position 2 is not in the vocabulary" in fail(*model, "--prompt", "Al§s")
    assert "the prompt is empty" in fail(*model, "--prompt", "")
    assert "temperature is -1.0" in fail(*model, "--temperature", "-1")
    assert "top_k is 0" in fail(*model, "--top-k", "0")
    assert "top_p is 1.5" in fail(*model, "--top-p", "1.5")
    assert "max_new_tokens is -1" in fail(*model, "--max-new-tokens", "-1")
    assert "nowhere" in fail("generate", "--model", tmp_path / "nowhere")


def test_eval_gives_the_loss_that_training_ended_with(run, tmp_path, text, capsys, fail):
    printed = run().out
    assert cli.main(["eval", "--model", str(tmp_path / "run" / "last"), "--data", str(text)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]
    other = tmp_path / "other.txt"
    other.write_text("Zounds! 7", encoding="utf-8")
    assert "character 'Z' at position 0" in fail("eval", "--model", tmp_path / "run", "--data", other)


def test_info_describes_a_model_and_the_installation(run, tmp_path, capsys):
    run()
    assert cli.main(["info", "--model", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"h\.1\.mlp\.c_fc\.weight +8x32 ", printed)
    assert cli.main(["info"]) == 0
    assert f"NumPy {np.__version__}" in capsys.readouterr().out


def test_thread_settings_of_the_environment_are_respected_and_reported(tmp_path, text, capsys, monkeypatch, tiny):
    monkeypatch.setattr(machine, "available_cores", lambda: 3)
    for name in machine.THREAD_SETTINGS:
        monkeypatch.delenv(name, raising=False)

    def train(*options):
        out = tmp_path / f"run-{len(os.listdir(tmp_path))}"
        assert cli.main(["train", "--data", str(text), "--out", str(out), *tiny[:-2], "--steps", "2", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        line = next(line for line in lines if line.startswith("threads: "))
        return checkpoint.load_state(out / "last")[0]["config"]["shards"], line

    assert train() == (3, "threads: 3")
    assert train("--threads", "1") == (1, "threads: 1")
    assert train("--threads", "1", "--shards", "4") == (4, "threads: 1")
    assert cli.main(["info"]) == 0
    assert "environment" not in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert train() == (2, "threads: 2 (environment: OMP_NUM_THREADS=2)")
    assert train("--threads", "auto", "--shards", "1") == (1, "threads: 1 (environment: OMP_NUM_THREADS=2)")
    assert train("--threads", "4") == (4, "threads: 4, above what the environment allows: OMP_NUM_THREADS=2")
    assert cli.main(["info"]) == 0
    assert (
        "threads: at most 2 unless --threads says otherwise (environment: OMP_NUM_THREADS=2)" in capsys.readouterr().out
    )


def test_gradcheck_prints_a_table_and_fails_on_a_wrong_gradient(run, tmp_path, capsys, monkeypatch):
    assert cli.main(["gradcheck", "--n-layer", "1"]) == 0
    assert cli.main(["gradcheck", "--n-layer", "1", "--n-embd", "48", "--method", "complex"]) == 0
    assert "all gradients agree" in capsys.readouterr().out
    run()
    assert cli.main(["gradcheck", "--model", str(tmp_path / "run")]) == 0
    assert cli.main(["gradcheck", "--n-layer", "1", "--method", "central"]) == 0
    assert (
        cli.main(
            ["gradcheck", "--n-layer", "1", "--plot", str(tmp_path / "v.png"), "--html", str(tmp_path / "page.html")]
        )
        == 0
    )
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
    assert "all gradients agree" in (tmp_path / "page.html").read_text(encoding="utf-8")
    backward = minigpt.layers.linear.linear_backward
    monkeypatch.setattr(
        "minigpt.layers.linear.linear_backward",
        lambda dy, cache, **more: (*backward(dy, cache)[:2], 2 * backward(dy, cache)[2]),
    )
    capsys.readouterr()
    assert cli.main(["gradcheck", "--n-layer", "1"]) == 1
    assert re.search(r"h\.0\.mlp\.c_fc\.bias .*WRONG", capsys.readouterr().out)


def test_every_option_has_help_with_its_default(capsys):
    commands = list(cli.parser()._subparsers._group_actions[0].choices.values())
    for command in commands:
        commands += command._subparsers._group_actions[0].choices.values() if command._subparsers else []
        for action in command._actions:
            assert action.help, action.dest
            assert action.dest in ("help", "version") or action.required or "(default: " in action.help, action.dest


def test_example_takes_the_same_options(tmp_path, text, tiny):
    example = Path(__file__).parents[2] / "examples" / "train_shakespeare.py"
    argv = [sys.executable, str(example), "--data", str(text), "--out", str(tmp_path / "run"), "--steps", "3", *tiny]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.fullmatch(r"validation loss \d\.\d{4}", done.stdout.splitlines()[-1])


def test_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "minigpt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"minigpt {minigpt.__version__}"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_at_random_moments_a_run_resumes_to_the_same_bits(tmp_path, text, start):
    out, steps = tmp_path / "killed", []
    for delay in np.random.default_rng().uniform(0, 0.5, 10):  # seconds after the first step: a save is always near
        process = start(text, out, "--save-interval", "2", "--eval-interval", "1000000", "--resume")
        process.stdout.readline()  # it has started; what follows is a race, as it should be
        time.sleep(delay + 0.3)
        assert process.poll() is None, "the run ended before it was killed: give it more steps"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        minigpt.load(out / "last")  # whatever stands there is a whole checkpoint
        steps.append(checkpoint.load_state(out / "last")[0]["step"])
    assert steps == sorted(steps)
    assert steps[-1] > 0
    options = ("--steps", str(steps[-1] + 10), "--save-interval", "1000000")
    for process in (start(text, out, *options, "--resume"), start(text, tmp_path / "straight", *options)):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    straight, resumed = (minigpt.load(folder / "last").store.vector for folder in (tmp_path / "straight", out))
    np.testing.assert_array_equal(straight, resumed)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, text, start):
    process = start(text, tmp_path / "run")
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"stopped and saved after step \d+ of 1000000; the same command with --resume goes on", err)
    step = checkpoint.load_state(tmp_path / "run" / "last")[0]["step"]
    assert f"after step {step} " in err


def test_museum_prints_its_table_and_fails_where_a_mistake_gets_by(capsys, monkeypatch):
    from minigpt import museum

    monkeypatch.setattr(museum.tour, "EXHIBITS", museum.EXHIBITS[:3])
    assert cli.main(["gradcheck", "--museum"]) == 0
    assert museum.EXHIBITS[2].name in capsys.readouterr().out
    monkeypatch.setattr(museum.tour, "EXHIBITS", (museum.EXHIBITS[0]._replace(edits=()),))  # planted: nothing
    assert cli.main(["gradcheck", "--museum"]) == 1
