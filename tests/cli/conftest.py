"""Runs of the command line: in this process, and in processes of their own."""

import subprocess
import sys

import pytest

from minigpt import cli

TEXT = "Alas, poor Yorick! I knew him, Horatio:\na fellow of infinite jest, of most excellent fancy.\n" * 40
TINY = {"n-layer": 2, "n-head": 2, "n-embd": 8, "block-size": 8, "batch-size": 4, "eval-interval": 5}
TINY |= {"save-interval": 5, "warmup": 2, "shards": 2}


@pytest.fixture
def tiny():
    """Options of a tiny model and a short run."""
    return [word for name, value in TINY.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path, text, tiny, capsys):
    """Train a tiny model into tmp_path/run; further options may follow -> what was printed."""

    def train(*options, out=tmp_path / "run", steps=10, code=0):
        options = [str(option) for option in options]
        argv = ["train", "--data", str(text), "--out", str(out), "--steps", str(steps), *tiny, *options]
        assert cli.main(argv) == code
        return capsys.readouterr()

    return train


@pytest.fixture
def fail(capsys):
    """Run a command that must end in one line on stderr, and return it."""

    def command(*argv, code=2):
        capsys.readouterr()
        assert cli.main([str(a) for a in argv]) == code
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1
        assert "Traceback" not in printed.err
        return printed.err

    return command


@pytest.fixture
def start(tiny):
    """Start `minigpt train` in a process of its own, which has no end unless --steps says so;
    what is left is killed after the test.
    """
    processes = []

    def train(text, out, *options, **streams):
        endless = ["--steps", "1000000", "--dropout", "0.1", "--schedule", "constant", "--threads", "2"]
        argv = [sys.executable, "-m", "minigpt", "train", "--data", str(text), "--out", str(out), *tiny, *endless]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | streams
        processes.append(subprocess.Popen([*argv, *options], **streams))
        return processes[-1]

    yield train
    for process in processes:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
