"""Runs in processes of their own: two in one folder, signals, pipes."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import minigpt
from minigpt import checkpoint, cli
from minigpt.training.run_lock import LOCK_FILE

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def wait_for(path, process, seconds=60):
    """Until a process has written a file."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def running(text, tmp_path, start):
    """A run that is at work in tmp_path/run."""
    process = start(text, tmp_path / "run")
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    return process


def saved_step(folder):
    return checkpoint.load_state(folder / "last")[0]["step"]


def test_folder_of_a_running_run_is_refused_by_whatever_name(running, tmp_path, text, run, capsys, monkeypatch):
    os.symlink(tmp_path / "run", tmp_path / "link", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "run", "run", "link", "run/../run"):
        for option in ([], ["--resume"], ["--profile", "2"]):
            error = run(*option, out=out, code=2).err
            assert f"folder {out} is in use: process {running.pid} is training there (minigpt train --data " in error
            assert error.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["link", "run", "text.txt"]
    assert cli.main(["generate", "--model", "run", "--max-new-tokens", "5"]) == 0  # reading is allowed
    assert cli.main(["eval", "--model", "run", "--data", str(text)]) == 0
    assert running.poll() is None


def test_of_many_runs_that_begin_at_once_one_trains(text, tmp_path, start):
    processes = [start(text, tmp_path / "run", "--steps", "40") for _ in range(4)]
    ends = [(process.communicate(timeout=120), process.returncode) for process in processes]
    folders = [name for name in os.listdir(tmp_path) if name != "text.txt"]
    trained = [out for (out, _), code in ends if code == 0]
    assert {code for _, code in ends} <= {0, 2}
    assert len(folders) == len(trained) > 0  # one that came when another was done has set its run aside
    for (_, err), code in ends:
        assert code == 0 or "is in use: " in err
    for name in folders:
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(5, 41, 5))
        assert saved_step(tmp_path / name) == 40


@posix
def test_killed_run_leaves_no_lock(running, tmp_path, run):
    running.kill()
    running.wait()
    assert (tmp_path / "run" / LOCK_FILE).exists()
    run("--resume", "--dropout", "0.1", "--schedule", "constant", steps=saved_step(tmp_path / "run") + 5)
    assert not (tmp_path / "run" / LOCK_FILE).exists()


@posix
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_saves_and_says_how_to_go_on(running, tmp_path, name, code):
    running.send_signal(getattr(signal, name))
    _, err = running.communicate(timeout=60)
    assert running.returncode == code
    step = saved_step(tmp_path / "run")
    assert f"stopped and saved after step {step} of 1000000; the same command with --resume goes on" in err
    assert not (tmp_path / "run" / LOCK_FILE).exists()


@posix
def test_signal_that_is_ignored_stays_ignored(text, tmp_path, start):
    """As nohup has it."""
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    code += "from minigpt import cli; sys.exit(cli.main())"
    argv = [sys.executable, "-c", code, "train", "--data", str(text), "--out", str(tmp_path / "run"), "--steps", "60"]
    argv += ["--n-layer", "1", "--n-embd", "8", "--block-size", "8", "--eval-interval", "5", "--shards", "1"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1].startswith("validation loss ")


@posix
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stderr too"])
def test_run_whose_output_nobody_reads_goes_on_to_its_end(text, tmp_path, start, both):
    """minigpt train ... | head -1"""
    process = start(text, tmp_path / "run", "--steps", "30", **({"stderr": subprocess.STDOUT} if both else {}))
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert saved_step(tmp_path / "run") == 30
    assert (tmp_path / "run" / "loss.png").exists()
    if not both:
        error = process.stderr.read()
        assert error.count("\n") == 1
        assert "the output can't be written any more (Broken pipe); the run goes on" in error


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
def test_run_without_streams_or_on_a_full_disk_goes_on_to_its_end(text, tmp_path, tiny, closed):
    if closed == ">/dev/full" and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    argv = [sys.executable, "-m", "minigpt", "train", "--data", str(text), "--out", str(tmp_path / "run"), *tiny]
    command = f"{shlex.join([*argv, '--steps', '10'])} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert saved_step(tmp_path / "run") == 10


@posix
def test_commands_that_show_end_quietly_with_their_pipe(run, tmp_path):
    run()
    for argv in (
        ["info", str(tmp_path / "run")],
        ["generate", "--model", str(tmp_path / "run"), "--max-new-tokens", "100000"],
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "minigpt", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_wrong_gradient_ends_with_1_though_nobody_reads_it(monkeypatch, capsys):
    backward = minigpt.layers.linear.linear_backward
    wrong = lambda dy, cache, **more: (*backward(dy, cache, **more)[:2], 2 * backward(dy, cache, **more)[2])  # noqa: E731
    monkeypatch.setattr("minigpt.layers.linear.linear_backward", wrong)
    silenced = []
    monkeypatch.setattr("minigpt.cli.terminal.silence_stdout", lambda: silenced.append(True))

    def broken(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys.stdout, "write", broken)
    assert cli.main(["gradcheck", "--n-layer", "1"]) == 1
    assert silenced
    assert capsys.readouterr().err == ""


def test_run_in_this_folder_twice_sets_the_first_aside(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    run(out=".")
    printed = run("--seed", "1", out=".").out
    assert f". held an earlier run, which is in ..{os.sep}here.1 now" in printed
    assert sorted(os.listdir(tmp_path / "here")) == ["best", "last", "loss.png", "metrics.jsonl", "notes.txt"]
    assert sorted(os.listdir(tmp_path / "here.1")) == ["best", "last", "loss.png", "metrics.jsonl"]
    assert minigpt.load(tmp_path / "here.1" / "last").num_parameters == minigpt.load("last").num_parameters


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", '{"step": "walk", "minutes": 5}\n'),
        ("metrics.jsonl", "what I measured\n"),
        ("loss.png", "a picture of mine"),
        ("last/notes.txt", "mine"),
        ("best/config.json", '{"mine": true}'),
        (LOCK_FILE, "mine"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_files_of_the_users_own_are_neither_moved_nor_overwritten(run, tmp_path, name, content, resume):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    error = run(*["--resume"] * resume, code=2).err
    assert f"{path.relative_to(tmp_path / 'run').parts[0]} was not written by a run" in error
    assert path.read_text() == content
    assert [p for p in (tmp_path / "run").rglob("*") if p.is_file()] == [path]
    assert not (tmp_path / "run.1").exists()


def test_profile_overwrites_nothing_but_a_profile(run, tmp_path):
    run("--profile", "1")
    run("--profile", "1")
    (tmp_path / "run" / "profile.json").write_text('{"mine": 1}')
    assert "profile.json was not written by a profile" in run("--profile", "1", code=2).err
    assert (tmp_path / "run" / "profile.json").read_text() == '{"mine": 1}'


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written_is_named(run, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    assert f"folder {tmp_path / 'run'} can't be written: Permission denied" in run(code=2).err


def test_damaged_metrics_are_told_at_a_resume_and_blank_lines_are_nothing(run, tmp_path):
    run()
    path = tmp_path / "run" / "metrics.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first, "", "  ", "{]", *others, '{"step": 11, "sec']))
    printed = run("--resume", "--schedule", "linear", steps=20).out
    assert "metrics.jsonl: line 4 is damaged, it is no row of a run's metrics; it is left out" in printed
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10, 15, 20]


def test_loss_above_a_uniform_guess_is_told(run):
    lines = run("--lr", "100", "--muon-lr", "10").out.splitlines()
    assert "the loss is above the " in lines[-2] and "of a uniform guess: nothing is learnt" in lines[-2]
    assert lines[-1].startswith("validation loss ")
    assert np.log(24) < float(lines[-1].split()[-1])
    assert "uniform guess" not in run("--seed", "1", "--lr", "1e-2", steps=40).out.splitlines()[-2]
