import errno
import json
import os
import pathlib

import pytest

from minigpt import GPT, GPTConfig, MinigptError
from minigpt.training import RunLock, read_metrics, run_lock
from minigpt.training.run_files import keep_metrics, run_files, set_aside

ROW = {"step": 5, "seconds": 1.5, "train_loss": 2.5}


def write_run(folder):
    GPT(GPTConfig(5, 4, 1, 1, 4)).save(folder / "last")
    (folder / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "loss.png").write_bytes(b"picture")


def test_what_a_run_wrote_is_moved_and_nothing_else(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run.1").mkdir()
    said = []
    set_aside(tmp_path / "run", said.append)
    assert os.listdir(tmp_path / "run") == ["notes.txt"]
    assert sorted(os.listdir(tmp_path / "run.2")) == ["last", "loss.png", "metrics.jsonl"]
    assert said == [
        f"{tmp_path / 'run'} held an earlier run, which is in {tmp_path / 'run.2'} now "
        "(--resume would have gone on with it)"
    ]
    set_aside(tmp_path / "run", said.append)  # nothing to move, nothing to say
    set_aside(tmp_path / "nowhere", said.append)
    assert len(said) == 1


def test_users_file_within_a_checkpoint_folder_is_not_moved_along(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "last" / "notes.txt").write_text("mine")
    with pytest.raises(MinigptError, match=r"last.notes\.txt was not written by a run, and a run would write there"):
        set_aside(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"] and (tmp_path / "run" / "last" / "notes.txt").read_text() == "mine"


def test_run_that_was_killed_at_its_first_save_counts_as_one(tmp_path):
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "model.1.safetensors").write_bytes(b"")
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "seco')
    assert run_files(tmp_path) == ["last", "metrics.jsonl"]


def test_move_that_fails_half_way_is_taken_back(tmp_path, monkeypatch):
    write_run(tmp_path / "run")
    rename = os.rename

    def refuse(source, target):
        if str(source).endswith("metrics.jsonl"):
            raise PermissionError(errno.EACCES, "in use")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(MinigptError, match=r"the earlier run in .*run can't be moved to .*run\.1: in use"):
        set_aside(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == ["last", "loss.png", "metrics.jsonl"]
    assert os.listdir(tmp_path) == ["run"]


def test_metrics_are_read_with_blank_lines_and_a_cut_last_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text("\n\n" + json.dumps(ROW) + "\n \n" + json.dumps(ROW | {"step": 10}) + '\n{"step": 15, "tr')
    assert [row["step"] for row in read_metrics(path)] == [5, 10]
    keep_metrics(path, 5)
    assert path.read_text() == json.dumps(ROW) + "\n"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "7",
        "[]",
        "null",
        '{"step": 1}',
        '{"step": true, "train_loss": 1}',
        '{"step": 1, "train_loss": "2"}',
        "\udcff",
        "[" * 9999,
    ],
)
def test_damaged_row_is_told_or_refused(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{json.dumps(ROW)}\n{line}\n{json.dumps(ROW)}\n".encode("utf-8", "surrogateescape"))
    said = []
    assert len(read_metrics(path, said.append)) == 2
    assert said == [f"{path}: line 2 is damaged, it is no row of a run's metrics; it is left out"]
    with pytest.raises(MinigptError, match="line 2 is damaged"):
        read_metrics(path)


def test_lock_keeps_others_out_as_long_as_it_lasts(tmp_path):
    outer = RunLock(tmp_path / "run")
    with outer:
        with outer, pytest.raises(MinigptError, match="is in use: a run of this very process is training there"):
            RunLock(tmp_path / "run").__enter__()
        with pytest.raises(MinigptError, match="is in use"):  # the inner context has not given it up
            RunLock(tmp_path / "run").__enter__()
    with RunLock(tmp_path / "run"):
        pass
    assert os.listdir(tmp_path / "run") == []


def test_holder_that_has_not_yet_said_who_it_is_or_works_elsewhere(tmp_path):
    path = tmp_path / "lock"
    assert run_lock.describe_holder(path) == "another process is training there"
    path.write_text('{"process": 1')
    assert run_lock.describe_holder(path) == "another process is training there"
    path.write_text(json.dumps({"process": 7, "computer": "elsewhere", "command": "train\n" + "x" * 500}))
    assert run_lock.describe_holder(path) == f"process 7 on elsewhere is training there (train {'x' * 194}...)"


def test_file_system_without_locks_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "lock", lambda handle: None)
    said = []
    with RunLock(tmp_path, said.append):
        pass
    assert said == [f"folder {tmp_path}: its file system has no locks, see to it that no other run writes there"]


@pytest.mark.skipif(os.name == "nt", reason="fcntl")
@pytest.mark.parametrize(("number", "held"), [(errno.ENOLCK, None), (errno.EOPNOTSUPP, None), (errno.EAGAIN, False)])
def test_what_the_system_says_of_a_lock(tmp_path, monkeypatch, number, held):
    import fcntl

    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run_lock.lock(0) is held


def test_lock_file_that_went_away_while_it_was_opened_is_made_anew(tmp_path, monkeypatch):
    """Its holder removed it in between: a lock on it would keep nobody out."""
    path, lock, calls = tmp_path / run_lock.LOCK_FILE, run_lock.lock, []

    def late(handle):
        calls.append(handle)
        if len(calls) == 1:
            pathlib.Path(path).unlink()
        return lock(handle)

    monkeypatch.setattr(run_lock, "lock", late)
    with RunLock(tmp_path):
        assert len(calls) == 2
        assert json.loads(path.read_text())["process"] == os.getpid()


def test_rows_out_of_order_are_left_out_of_a_resumed_run(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    rows = [{"step": step, "train_loss": 1.0, "seconds": 1.0} for step in (10, 20, 3, 30, 30, 99, 40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keep_metrics(path, 40, said.append)
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30, 40]
    assert len(said) == 2 and "step 3 stands after step 20" in said[0] and "step 30 stands after step 30" in said[1]


@pytest.mark.parametrize(
    "change", [{"train_loss": 1e39}, {"step": 2**70}, {"step": 0}, {"seconds": -1}, {"val_loss": float("nan")}]
)
def test_row_that_no_run_wrote_is_damaged(tmp_path, change):
    row = {"step": 1, "train_loss": 1.0, "seconds": 1.0, "val_loss": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row | change) + "\n")
    with pytest.raises(MinigptError, match="line 1 is damaged"):
        read_metrics(tmp_path / "metrics.jsonl")
