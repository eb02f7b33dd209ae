import builtins
import json
import os
import re
import stat
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from small_gpt import small_gpt

import minigpt
from minigpt import CharTokenizer, GPTConfig, MinigptError, checkpoint
from minigpt.files import write_atomically

CONFIG = GPTConfig(vocab_size=7, block_size=5, n_layer=2, n_head=2, n_embd=6)

FILES = ["config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"]


def make(seed, dtype=np.float32, **changes):
    """Model, tokenizer and state that all carry one seed."""
    model = small_gpt(seed=seed, dtype=dtype, **{**vars(CONFIG), **changes})
    tokenizer = CharTokenizer("abcdefg" if seed % 2 else "gfedcba")
    state = {"seed": seed, "step": seed}, {"m": np.full(9, seed, np.float32), "t": np.array([seed], np.int64)}
    return model, tokenizer, state


def seed_of(directory, candidates=(1, 2, 3)):
    """The one seed whose model, config, tokenizer and state stand in a checkpoint; fails on a
    mixture.
    """
    model, tokenizer, state = (
        minigpt.load(directory),
        checkpoint.load_tokenizer(directory),
        checkpoint.load_state(directory),
    )
    (seed,) = (s for s in candidates if np.array_equal(make(s)[0].store.vector, model.store.vector))
    assert tokenizer is None or tokenizer.characters == make(seed)[1].characters
    if state is not None:
        assert state[0]["seed"] == seed
        assert (state[1]["m"] == seed).all()
    return seed, state is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": False, "bias": False, "activation": "relu", "dropout": 0.25}]
)
def test_save_and_load_give_the_same_bits(tmp_path, dtype, changes):
    model, _, _ = make(1, dtype, **changes)
    model.save(tmp_path / "deep" / "folder")
    again = minigpt.load(tmp_path / "deep" / "folder")
    assert again.config == model.config
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    assert sorted(os.listdir(tmp_path / "deep" / "folder")) == ["config.json", "model.safetensors"]
    tensors = load_file(tmp_path / "deep" / "folder" / "model.safetensors")  # as any reader of the format does
    assert list(tensors) == sorted(model.parameters)
    assert checkpoint.load_tokenizer(tmp_path / "deep" / "folder") is None
    assert checkpoint.load_state(tmp_path / "deep" / "folder") is None


def test_state_and_tokenizer_come_back_and_go_away_with_their_save(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    assert seed_of(tmp_path) == (1, True)
    assert sorted(os.listdir(tmp_path)) == FILES
    checkpoint.save(tmp_path, *make(2)[:2])
    assert seed_of(tmp_path) == (2, False)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_saving_over_a_checkpoint_that_is_mapped(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    with safe_open(tmp_path / "model.safetensors", framework="np") as mapped:
        checkpoint.save(tmp_path, *make(2))
        np.testing.assert_array_equal(mapped.get_tensor("wte.weight"), make(1)[0].parameters["wte.weight"])
    assert seed_of(tmp_path) == (2, True)


def test_mapped_file_that_windows_will_not_let_go(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, *make(1))
    replace, unlink = os.replace, os.unlink
    mapped = {tmp_path / "model.safetensors"}

    def refuse(operation):
        def wrapped(*paths):
            if mapped & {Path(path) for path in paths}:
                raise PermissionError(
                    13, "The process cannot access the file because it is being used by another process"
                )
            return operation(*paths)

        return wrapped

    monkeypatch.setattr(os, "replace", refuse(replace))
    monkeypatch.setattr(os, "unlink", refuse(unlink))
    checkpoint.save(tmp_path, *make(2))
    assert seed_of(tmp_path) == (2, True)
    assert (tmp_path / "model.2.safetensors").exists()
    mapped.add(tmp_path / "model.2.safetensors")  # loaded and mapped as well
    checkpoint.save(tmp_path, *make(3))
    assert seed_of(tmp_path) == (3, True)
    mapped.clear()
    checkpoint.save(tmp_path, *make(1))
    assert seed_of(tmp_path) == (1, True)
    assert sorted(os.listdir(tmp_path)) == FILES


class Crash(BaseException):
    """The process ends here: no file operation after it does anything, whatever handlers try."""


def inject(monkeypatch, at, error):
    """Let the at-th file operation of a save fail, and all after it where the error is a Crash; ->
    a list that grows with the operations seen.
    """
    seen = []

    def watch(operation, name, partial=False):
        def wrapped(*args, **kwargs):
            if (
                name == "open"
                and "r" in (args[1] if len(args) > 1 else kwargs.get("mode", "r"))
                and "+" not in str(args[1:])
            ):
                return operation(*args, **kwargs)  # reading
            seen.append(name)
            if len(seen) - 1 == at and partial:  # a disk that fills up half way
                Path(args[1]).write_bytes(b"half")
            if len(seen) - 1 == at or (len(seen) - 1 > at and isinstance(error, Crash)):
                raise error
            return operation(*args, **kwargs)

        return wrapped

    for name in ("replace", "fsync", "unlink", "chmod"):
        monkeypatch.setattr(os, name, watch(getattr(os, name), name))
    monkeypatch.setattr("safetensors.numpy.save_file", watch(save_file, "save_file", partial=True))
    monkeypatch.setattr(builtins, "open", watch(open, "open"))
    return seen


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Crash()], ids=["full disk", "crash"])
@pytest.mark.parametrize("before", [None, "bare", "model", "run"])
@pytest.mark.parametrize("after", ["bare", "model", "run"])
def test_failure_at_any_file_operation_leaves_the_old_or_the_new(tmp_path, error, before, after):
    parts = {"bare": 1, "model": 2, "run": 3}
    at, outcomes = 0, []
    while True:
        directory = tmp_path / str(at)
        if before:
            checkpoint.save(directory, *make(1)[: parts[before]])
        with pytest.MonkeyPatch.context() as patch:
            seen = inject(patch, at, error)
            try:
                checkpoint.save(directory, *make(2)[: parts[after]])
                failed = False
            except (MinigptError, Crash) as caught:
                failed = True
                assert isinstance(caught, Crash) or "No space left on device" in str(caught)
        if len(seen) <= at:
            assert not failed
            break
        if before is None and not (directory / "config.json").exists():
            assert failed
            with pytest.raises(MinigptError, match=r"no .*checkpoint"):
                minigpt.load(directory)
        else:
            seed, has_state = seed_of(directory)
            assert has_state == ({1: before, 2: after}[seed] == "run")
            assert (checkpoint.load_tokenizer(directory) is not None) == ({1: before, 2: after}[seed] != "bare")
            assert seed == 2 or failed
            outcomes += [seed] if failed else []
        checkpoint.save(directory, *make(3))
        assert seed_of(directory) == (3, True)
        assert sorted(os.listdir(directory)) == FILES
        at += 1
    assert at > (10 if after != "bare" else 6)
    if before:
        assert outcomes == sorted(outcomes)  # of failed saves: one switch, old up to it, new from it on
        assert set(outcomes) == {1, 2}


def test_partial_files_of_a_failed_save_are_removed(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, *make(1))
    inject(monkeypatch, 6, OSError(28, "No space left on device"))
    with pytest.raises(MinigptError, match="No space left on device"):
        checkpoint.save(tmp_path, *make(2))
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == FILES


def test_folder_that_is_a_file_or_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MinigptError, match="can't be written"):
            checkpoint.save(path, *make(1))
    monkeypatch.setattr(
        Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(MinigptError, match="new can't be written: Permission denied"):
        checkpoint.save(tmp_path / "new", *make(1))


def edit(directory, **changes):
    """Change keys of config.json; None removes one."""
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def tensors(directory, change, name="model.safetensors"):
    """Rewrite a tensor file with a change to its dict."""
    values = load_file(directory / name)
    change(values)
    save_file(values, directory / name)


def header(directory, change):
    """Rewrite the header of model.safetensors as it is not meant to be."""
    path = directory / "model.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    values = json.loads(data[8 : 8 + length])
    change(values)
    text = json.dumps(values).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def lie(values):
    values["wte.weight"]["data_offsets"][1] += 400


def overlap(values):
    values["wte.weight"]["data_offsets"] = values["wpe.weight"]["data_offsets"]


def cut(directory, size):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])


BAD = {
    "unknown key": (lambda d: edit(d, n_layers=3), "unknown config key 'n_layers'"),
    "missing key": (lambda d: edit(d, n_head=None), "n_head"),
    "impossible value": (lambda d: edit(d, n_head=5), "n_embd is 6, it must be a multiple of n_head, which is 5"),
    "wrong type": (lambda d: edit(d, n_embd="6"), "n_embd is '6'"),
    "newer version": (lambda d: edit(d, format_version=2), "format_version is 2, this program reads up to 1"),
    "no version": (lambda d: edit(d, format_version=None), "format_version is missing"),
    "another family": (lambda d: edit(d, model_type="llama"), "model_type is 'llama', it must be"),
    "absurd width": (lambda d: edit(d, n_embd=6 * 10**12), "the config asks for"),
    "absurd depth": (lambda d: edit(d, n_layer=10**9), "it holds 1,104 values, the config asks for [0-9]+ parameters"),
    "absurd digits": (
        lambda d: edit(d, n_embd=6 * 10**4000),
        "n_embd is a number of [0-9]+ bits, it must be less than",
    ),
    "absurd dropout": (lambda d: edit(d, dropout=10**400), "dropout is 1000"),
    "absurd save": (lambda d: edit(d, save=10**400), "save is 1000"),
    "save of another type": (lambda d: edit(d, save="1"), "save is '1'"),
    "files of another type": (
        lambda d: edit(d, files="model.safetensors"),
        "files is 'model.safetensors', it must be a list",
    ),
    "files without the model": (lambda d: edit(d, files=["../x"]), "model.safetensors is missing"),
    "files that are no names": (
        lambda d: edit(d, files=[["model.safetensors"]]),
        r"files\[0\] is \['model.safetensors'\], it must be a string",
    ),
    "other depth": (lambda d: edit(d, n_layer=3), r"12 tensors do not fit; missing: h\.2\.ln_1\.weight, .* and 2 more"),
    "other width": (
        lambda d: edit(d, n_embd=8),
        r"28 tensors do not fit; of another shape: wte\.weight \(7, 6\), not \(7, 8\), ",
    ),
    "not JSON": (lambda d: (d / "config.json").write_text("{"), "not valid JSON"),
    "a list": (lambda d: (d / "config.json").write_text("[1]"), "must be a JSON object"),
    "deep JSON": (lambda d: (d / "config.json").write_text("[" * 100_000), "not valid JSON"),
    "binary JSON": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), "can't be read"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "weights that are a folder": (
        lambda d: [(d / "model.safetensors").unlink(), (d / "model.safetensors").mkdir()],
        r"model\.safetensors can't be read",
    ),
    "config that is a folder": (
        lambda d: [(d / "config.json").unlink(), (d / "config.json").mkdir()],
        r"config\.json can't be read",
    ),
    "empty": (lambda d: cut(d, 0), "truncated or not a safetensors file"),
    "truncated header": (lambda d: cut(d, 50), "truncated or not a safetensors file"),
    "truncated data": (lambda d: cut(d, -1), "truncated or not a safetensors file"),
    "lying length": (
        lambda d: (d / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        "truncated or not a safetensors file",
    ),
    "lying offsets": (lambda d: header(d, lie), "truncated or not a safetensors file"),
    "overlapping offsets": (lambda d: header(d, overlap), "truncated or not a safetensors file"),
    "missing tensor": (lambda d: tensors(d, lambda t: t.pop("ln_f.bias")), r"tensor ln_f\.bias is missing"),
    "extra tensor": (lambda d: tensors(d, lambda t: t.update(x=np.ones(2, np.float32))), "tensor x does not belong"),
    "extra tensor of two lines": (
        lambda d: tensors(d, lambda t: t.update({"x\ny": np.ones(2, np.float32)})),
        r"tensor x\\ny does not belong",
    ),
    "extra empty tensor": (
        lambda d: tensors(d, lambda t: t.update(x=np.ones(0, np.float32))),
        "tensor x does not belong",
    ),
    "misshapen tensor": (
        lambda d: tensors(d, lambda t: t.update({"wte.weight": t["wte.weight"].T.copy()})),
        r"tensor wte\.weight has shape \(6, 7\), the config asks for \(7, 6\)",
    ),
    "half precision": (
        lambda d: tensors(d, lambda t: t.update({k: v.astype(np.float16) for k, v in t.items()})),
        r"28 tensors do not fit; not F32 or F64: wte\.weight, ",
    ),
    "integers": (lambda d: tensors(d, lambda t: t.update({"ln_f.bias": np.ones(6, np.int64)})), r"ln_f\.bias is I64"),
    "mixed": (lambda d: tensors(d, lambda t: t.update({"ln_f.bias": np.ones(6)})), "different dtypes"),
    "NaN": (
        lambda d: tensors(d, lambda t: t["h.1.ln_2.bias"].__setitem__(slice(2), np.nan)),
        r"tensor h\.1\.ln_2\.bias holds 2 values that are not",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_checkpoint_is_named_in_one_line(tmp_path, name):
    spoil, message = BAD[name]
    checkpoint.save(tmp_path, *make(1))
    spoil(tmp_path)
    with pytest.raises(MinigptError, match=message) as caught:
        minigpt.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(MinigptError, match="no such checkpoint folder"):
        minigpt.load(tmp_path / "none")
    with pytest.raises(MinigptError, match=r"config\.json is missing"):
        minigpt.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(MinigptError, match="format_version is missing; a model of transformers is read by from_hugg"):
        minigpt.load(tmp_path)


def test_config_without_a_manifest_reads_the_plain_files(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    edit(tmp_path, save=None, files=None)
    assert seed_of(tmp_path) == (1, True)


def test_state_is_checked_against_what_the_run_needs(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    _, arrays = checkpoint.load_state(tmp_path, {"m": (9,), "t": (1,)})
    assert arrays["t"].dtype == np.int64
    for shapes, message in (
        ({"m": (9,)}, "tensor t does not belong"),
        ({"m": (8,), "t": (1,)}, r"m has shape \(9,\)"),
        ({"q": (1,)}, "missing: q; not of this config: m, t"),
    ):
        with pytest.raises(MinigptError, match=message):
            checkpoint.load_state(tmp_path, shapes)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(MinigptError, match=r"tokenizer\.json: type is missing"):
        checkpoint.load_tokenizer(tmp_path)


def test_random_damage_is_refused_or_harmless(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    rng = np.random.default_rng(0)
    for name in ("model.safetensors", "config.json"):
        good = (tmp_path / name).read_bytes()
        for _ in range(150):
            data = bytearray(good[: rng.integers(len(good))] if rng.random() < 0.3 else good)
            for at in rng.integers(0, max(1, min(len(data), 1500)), rng.integers(1, 4)):
                if data:
                    data[at] = rng.integers(256)
            (tmp_path / name).write_bytes(bytes(data))
            try:
                minigpt.load(tmp_path)
            except MinigptError as error:
                assert "\n" not in str(error)
        (tmp_path / name).write_bytes(good)


def test_absurd_model_is_refused_before_memory_is_taken():
    for changes in (
        {"n_layer": 10**12},
        {"n_embd": 10**9},
        {"n_embd": 2**62},
        {"vocab_size": 10**14},
        {"block_size": 10**14},
    ):
        with pytest.raises(MinigptError, match=r"parameters would take about .* of memory; this machine has"):
            make(1, **changes)


def test_failure_after_the_switch_leaves_the_new_files(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, *make(1))
    replace = os.replace

    def interrupted(source, target):
        replace(source, target)
        if Path(target).name == "config.json":
            raise KeyboardInterrupt  # Ctrl-C, just after the system call came back

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, *make(2))
    monkeypatch.undo()
    assert seed_of(tmp_path) == (2, True)


def test_number_of_a_save_that_left_files_behind_is_not_used_again(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, *make(1))
    (tmp_path / "model.2.safetensors").write_bytes(b"of a save that was killed")
    (tmp_path / ".tmpa1B2c3").write_bytes(b"of the library, in that save")
    monkeypatch.setattr(os, "unlink", lambda path: (_ for _ in ()).throw(PermissionError(13, "in use")))
    checkpoint.save(tmp_path, *make(2))
    assert json.loads((tmp_path / "config.json").read_text())["save"] == 3
    assert seed_of(tmp_path) == (2, True)
    monkeypatch.undo()
    checkpoint.save(tmp_path, *make(3))
    assert sorted(os.listdir(tmp_path)) == FILES


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions that bind the user")
def test_folder_and_files_that_may_not_be_touched(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    os.chmod(tmp_path, 0o500)
    with pytest.raises(MinigptError, match="can't be written: Permission denied"):
        checkpoint.save(tmp_path, *make(2))
    assert seed_of(tmp_path) == (1, True)
    os.chmod(tmp_path, 0o700)
    for name in ("model.safetensors", "config.json"):
        os.chmod(tmp_path / name, 0)
        with pytest.raises(MinigptError, match=f"{name} can't be read: Permission denied"):
            minigpt.load(tmp_path)


def test_what_a_killed_save_left_makes_room_for_the_next(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, *make(1))
    (tmp_path / "model.2.safetensors").write_bytes(b"of a save that was killed")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MinigptError, match="No space left on device"):
        checkpoint.save(tmp_path, *make(2))
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.skipif(os.name == "nt", reason="folders can't be flushed")
def test_all_is_flushed_to_disk_before_the_switch(tmp_path, monkeypatch):
    fsync, replace, flushed, after = os.fsync, os.replace, [], []

    def switch(source, target):
        if Path(target).name == "config.json":
            assert re.fullmatch(r"config\.json\.\w{8}\.tmp", Path(source).name)
            on_disk = {path.stat().st_ino: path.name for path in tmp_path.iterdir()}
            assert {on_disk[inode] for inode in flushed if inode in on_disk} == set(on_disk.values())
            assert len(on_disk) == 5
            assert flushed[-2] == tmp_path.stat().st_ino  # the names too, and the new config.json last
            flushed.clear()
        else:
            after.append(tmp_path.stat().st_ino in flushed)  # plain names come when the switch itself is on disk
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda handle: [fsync(handle), flushed.append(os.fstat(handle).st_ino)])
    monkeypatch.setattr(os, "replace", switch)
    checkpoint.save(tmp_path, *make(1))
    assert after == [True] * 4


@pytest.mark.parametrize("damage", ["{", "unreadable"])
def test_failed_save_over_a_damaged_config_removes_nothing(tmp_path, monkeypatch, damage):
    checkpoint.save(tmp_path, *make(1))
    # as a save leaves it that was stopped after the switch
    os.rename(tmp_path / "model.safetensors", tmp_path / "model.1.safetensors")
    good = (tmp_path / "config.json").read_text()
    if damage == "unreadable":  # another process has it open, on Windows
        monkeypatch.setattr(
            builtins, "open", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    else:
        (tmp_path / "config.json").write_text(damage)
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(MinigptError, match="can't be written"):
        checkpoint.save(tmp_path, *make(2))
    monkeypatch.undo()
    (tmp_path / "config.json").write_text(good)
    assert seed_of(tmp_path) == (1, True)
    (tmp_path / "config.json").write_text("{")
    checkpoint.save(tmp_path, *make(2))  # a whole save puts it right
    assert seed_of(tmp_path) == (2, True)


def test_files_that_no_save_of_ours_wrote_stay_and_are_not_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    for name in ("tokenizer.json", "trainer.json", "vocab.json"):
        (tmp_path / name).write_text("someone else's")
    checkpoint.save(tmp_path, make(1)[0])
    assert checkpoint.load_tokenizer(tmp_path) is None
    assert checkpoint.load_state(tmp_path) is None
    checkpoint.save(tmp_path, make(2)[0])
    assert (tmp_path / "tokenizer.json").read_text() == (tmp_path / "vocab.json").read_text() == "someone else's"


def test_reader_beside_a_writer_finds_a_whole_save(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    saved = {s: make(s)[0].store.vector for s in (1, 2, 3)}
    writer = threading.Thread(target=lambda: [checkpoint.save(tmp_path, *make(1 + i % 3)) for i in range(60)])
    writer.start()
    loads = 0
    while writer.is_alive():
        vector = minigpt.load(tmp_path).store.vector
        assert any(np.array_equal(vector, value) for value in saved.values())
        assert checkpoint.load_tokenizer(tmp_path) is not None
        loads += 1
    writer.join()
    assert loads > 1


def test_replacing_waits_for_a_reader_on_windows(tmp_path, monkeypatch):
    replace, refusals = os.replace, [PermissionError(13, "Access is denied")] * 3

    def busy(source, target):
        if Path(target).name == "config.json" and refusals:
            raise refusals.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    checkpoint.save(tmp_path, *make(1))
    assert not refusals
    assert seed_of(tmp_path) == (1, True)


def test_write_atomically_leaves_the_old_text_and_no_partial_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.txt", "old\n")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a.txt", "new\n")
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old\n"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_files_can_be_read_by_whom_the_user_lets_read(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    (tmp_path / "mine").write_text("x")
    assert {os.stat(tmp_path / name).st_mode for name in os.listdir(tmp_path)} == {os.stat(tmp_path / "mine").st_mode}


def test_file_system_that_cannot_flush_a_folder(tmp_path, monkeypatch):
    fsync = os.fsync

    def no_folders(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", no_folders)
    checkpoint.save(tmp_path, *make(1))
    assert seed_of(tmp_path) == (1, True)


def test_model_in_half_precision_is_not_saved(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    for dtype in (np.float16, np.complex128):
        with pytest.raises(MinigptError, match=f"the model is {np.dtype(dtype)}, it must be float32 or float64"):
            make(2)[0].astype(dtype).save(tmp_path)
    assert seed_of(tmp_path) == (1, True)


def test_state_keeps_shapes_and_may_be_empty(tmp_path):
    model = make(1)[0]
    arrays = {"scalar": np.array(3), "none": np.zeros((0, 4)), "turned": np.arange(6.0).reshape(2, 3).T}
    checkpoint.save(tmp_path, model, None, ({}, arrays))
    _, again = checkpoint.load_state(tmp_path, {name: value.shape for name, value in arrays.items()})
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value, strict=True)
    checkpoint.save(tmp_path, model, None, ({"step": 0}, {}))
    assert checkpoint.load_state(tmp_path, {}) == checkpoint.load_state(tmp_path) == ({"step": 0}, {})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda model, state: model.parameters["h.1.ln_2.bias"].__setitem__(slice(2), np.nan),
            "h.1.ln_2.bias holds 2 values that are not finite",
        ),
        (
            lambda model, state: state[1]["m"].__setitem__(0, np.inf),
            "trainer.safetensors: tensor m holds 1 values that are not finite",
        ),
        (lambda model, state: state[0].update(seed=float("nan")), "not JSON compliant"),
    ],
)
def test_what_no_reader_would_take_is_not_saved(tmp_path, spoil, message):
    checkpoint.save(tmp_path, *make(1))
    model, tokenizer, state = make(2)
    spoil(model, state)
    with pytest.raises(MinigptError, match=f"checkpoint .* can't be written: .*{message}"):
        checkpoint.save(tmp_path, model, tokenizer, state)
    assert seed_of(tmp_path) == (1, True)
    assert len(os.listdir(tmp_path)) == 5


def test_what_another_save_left_under_a_plain_name_is_not_read(tmp_path, monkeypatch):
    """A process on Windows has the old tokenizer open: it keeps its plain name, and the new one its
    numbered name.
    """
    checkpoint.save(tmp_path, *make(1))
    replace = os.replace

    def refuse(source, target):
        if Path(target).name == "tokenizer.json":
            raise PermissionError(13, "in use")
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        checkpoint.save(tmp_path, *make(2))
        assert seed_of(tmp_path) == (2, True)
    os.rename(tmp_path / "tokenizer.json", tmp_path / "kept")
    checkpoint.save(tmp_path, *make(2))
    os.rename(tmp_path / "tokenizer.json", tmp_path / "tokenizer.4.json")
    os.rename(tmp_path / "kept", tmp_path / "tokenizer.json")
    checkpoint.save(tmp_path, make(3)[0])
    assert checkpoint.load_tokenizer(tmp_path) is None


def test_state_that_is_not_json_touches_nothing(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path, *make(2)[:2], ({"step": np.float32(1)}, {}))
    assert seed_of(tmp_path) == (1, True)
    assert len(os.listdir(tmp_path)) == 5


@pytest.mark.parametrize("name", ["tokenizer.json", "trainer.json", "trainer.safetensors"])
def test_listed_file_that_is_gone_is_an_error(tmp_path, name):
    checkpoint.save(tmp_path, *make(1))
    (tmp_path / name).unlink()
    with pytest.raises(MinigptError, match=f"{name} is missing"):
        checkpoint.load_tokenizer(tmp_path) if name == "tokenizer.json" else checkpoint.load_state(tmp_path)


def test_damaged_tokenizer_or_state_is_named_in_one_line(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    half = {"m": np.ones(9, np.float16)}
    for name, content in (
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer.json", b"\xff"),
        ("trainer.json", b"["),
        ("trainer.safetensors", b""),
    ):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MinigptError, match=name) as caught:
            checkpoint.load_tokenizer(tmp_path) if name == "tokenizer.json" else checkpoint.load_state(tmp_path)
        assert "\n" not in str(caught.value)
        (tmp_path / name).write_bytes(good)
    for values, message in (
        (half, "m is F16, it must be F32 or F64 or I64"),
        ({"m": np.array([1, np.inf])}, "m holds 1 values that are not finite"),
    ):
        save_file(values, tmp_path / "trainer.safetensors")
        with pytest.raises(MinigptError, match=message):
            checkpoint.load_state(tmp_path)


def test_config_edited_in_windows_notepad(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert seed_of(tmp_path) == (1, True)
    checkpoint.save(tmp_path, *make(2))
    assert json.loads((tmp_path / "config.json").read_text())["save"] == 2


@pytest.mark.skipif(os.name == "nt", reason="sparse files")
def test_file_larger_than_memory_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    """Its header doesn't even lie, and on disk a sparse file takes no room."""
    monkeypatch.setattr("minigpt.machine.physical_memory", lambda: 2**20)
    checkpoint.save(tmp_path, *make(1))
    text = json.dumps({"wte.weight": {"dtype": "F32", "shape": [10**5, 6], "data_offsets": [0, 24 * 10**5]}}).encode()
    for name in ("model.safetensors", "trainer.safetensors"):
        with open(tmp_path / name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + 24 * 10**5)
        with pytest.raises(
            MinigptError, match=rf"{name} would take about 2\.4 MB of memory; this machine has 1\.05 MB"
        ):
            minigpt.load(tmp_path) if name == "model.safetensors" else checkpoint.load_state(tmp_path)
