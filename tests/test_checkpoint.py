import builtins
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import minigpt
from minigpt import GPT, CharTokenizer, GPTConfig, MinigptError, checkpoint

CONFIG = GPTConfig(vocab_size=7, block_size=5, n_layer=2, n_head=2, n_embd=6)


def make(seed, dtype=np.float32, **changes):
    """Model, tokenizer and state that all carry one seed."""
    model = GPT(GPTConfig(**{**vars(CONFIG), **changes}), seed, dtype)
    tokenizer = CharTokenizer("abcdefg" if seed % 2 else "gfedcba")
    state = {"seed": seed, "step": seed}, {"m": np.full(9, seed, np.float32), "t": np.array([seed], np.int64)}
    return model, tokenizer, state


def seed_of(directory, candidates=(1, 2, 3)):
    """The one seed whose model, config, tokenizer and state stand in a checkpoint; fails on a mixture."""
    model, tokenizer, state = checkpoint.load(directory), checkpoint.load_tokenizer(directory), checkpoint.load_state(directory)
    (seed,) = (s for s in candidates if np.array_equal(make(s)[0].store.vector, model.store.vector))
    assert tokenizer.characters == make(seed)[1].characters
    if state is not None:
        assert state[0]["seed"] == seed
        assert (state[1]["m"] == seed).all()
    return seed, state is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "bias": False, "activation": "relu", "dropout": 0.25}])
def test_save_and_load_give_the_same_bits(tmp_path, dtype, changes):
    model, _, _ = make(1, dtype, **changes)
    model.save(tmp_path / "deep" / "folder")
    again = minigpt.load(tmp_path / "deep" / "folder")
    assert again.config == model.config
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    assert sorted(os.listdir(tmp_path / "deep" / "folder")) == ["config.json", "model.safetensors"]
    tensors = load_file(tmp_path / "deep" / "folder" / "model.safetensors")  # a plain file of the format, for any reader
    assert list(tensors) == sorted(model.parameters)
    assert checkpoint.load_tokenizer(tmp_path / "deep" / "folder") is None
    assert checkpoint.load_state(tmp_path / "deep" / "folder") is None


def test_state_and_tokenizer_come_back_and_go_away_with_their_save(tmp_path):
    checkpoint.save(tmp_path, *make(1))
    assert seed_of(tmp_path) == (1, True)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"]
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
                raise PermissionError(13, "The process cannot access the file because it is being used by another process")
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
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"]


class Crash(BaseException):
    """The process ends here: nothing is cleaned up by a handler of ordinary errors."""


def inject(monkeypatch, at, error):
    """Let the at-th file operation of a save fail; -> a list that grows with the operations seen."""
    seen = []

    def watch(operation, name, partial=False):
        def wrapped(*args, **kwargs):
            if name == "open" and "r" in (args[1] if len(args) > 1 else kwargs.get("mode", "r")) and "+" not in str(args[1:]):
                return operation(*args, **kwargs)  # reading
            seen.append(name)
            if len(seen) - 1 == at:
                if partial:  # a disk that fills up half way
                    Path(args[1]).write_bytes(b"half")
                raise error
            return operation(*args, **kwargs)

        return wrapped

    for name in ("replace", "fsync", "unlink", "chmod"):
        monkeypatch.setattr(os, name, watch(getattr(os, name), name))
    monkeypatch.setattr("safetensors.numpy.save_file", watch(save_file, "save_file", partial=True))
    monkeypatch.setattr(builtins, "open", watch(open, "open"))
    return seen


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Crash()], ids=["full disk", "crash"])
@pytest.mark.parametrize("before", [None, "model", "run"])
@pytest.mark.parametrize("after", ["model", "run"])
def test_failure_at_any_file_operation_leaves_the_old_or_the_new(tmp_path, error, before, after):
    parts = {"model": 2, "run": 3}
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
                checkpoint.load(directory)
        else:
            seed, has_state = seed_of(directory)
            assert has_state == ({1: before, 2: after}[seed] == "run")
            assert seed == 2 or failed
            outcomes.append(seed)
        checkpoint.save(directory, *make(3))
        assert seed_of(directory) == (3, True)
        assert sorted(os.listdir(directory)) == ["config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"]
        at += 1
    assert at > 10
    if before:
        assert outcomes == sorted(outcomes)  # one switch: old up to it, new from it on
        assert set(outcomes) == {1, 2}


def test_partial_files_of_a_failed_save_are_removed(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, *make(1))
    inject(monkeypatch, 6, OSError(28, "No space left on device"))
    with pytest.raises(MinigptError, match="No space left on device"):
        checkpoint.save(tmp_path, *make(2))
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors", "tokenizer.json", "trainer.json", "trainer.safetensors"]


def test_folder_that_is_a_file_or_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MinigptError, match="can't be written"):
            checkpoint.save(path, *make(1))
    monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
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
    "no version": (lambda d: edit(d, format_version=None), "format_version is None"),
    "another family": (lambda d: edit(d, model_type="llama"), "model_type is 'llama', it must be one of"),
    "absurd width": (lambda d: edit(d, n_embd=6 * 10**12), "the config asks for"),
    "absurd depth": (lambda d: edit(d, n_layer=10**12), "the config asks for"),
    "other depth": (lambda d: edit(d, n_layer=3), r"tensor h\.2\.ln_1\.weight is missing"),
    "other width": (lambda d: edit(d, n_embd=8), r"tensor wte\.weight has shape \(7, 6\), the config asks for \(7, 8\)"),
    "not JSON": (lambda d: (d / "config.json").write_text("{"), "not valid JSON"),
    "a list": (lambda d: (d / "config.json").write_text("[1]"), "must be a JSON object"),
    "deep JSON": (lambda d: (d / "config.json").write_text("[" * 100_000), "not valid JSON"),
    "binary JSON": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), "can't be read"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "empty": (lambda d: cut(d, 0), "truncated or not a safetensors file"),
    "truncated header": (lambda d: cut(d, 50), "truncated or not a safetensors file"),
    "truncated data": (lambda d: cut(d, -1), "truncated or not a safetensors file"),
    "lying length": (lambda d: (d / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"), "truncated or not a safetensors file"),
    "lying offsets": (lambda d: header(d, lie), "truncated or not a safetensors file"),
    "overlapping offsets": (lambda d: header(d, overlap), "truncated or not a safetensors file"),
    "missing tensor": (lambda d: tensors(d, lambda t: t.pop("ln_f.bias")), r"tensor ln_f\.bias is missing"),
    "extra tensor": (lambda d: tensors(d, lambda t: t.update(x=np.ones(2, np.float32))), "tensor x does not belong"),
    "extra empty tensor": (lambda d: tensors(d, lambda t: t.update(x=np.ones(0, np.float32))), "tensor x does not belong"),
    "misshapen tensor": (
        lambda d: tensors(d, lambda t: t.update({"wte.weight": t["wte.weight"].T.copy()})),
        r"tensor wte\.weight has shape \(6, 7\), the config asks for \(7, 6\)",
    ),
    "half precision": (lambda d: tensors(d, lambda t: t.update({k: v.astype(np.float16) for k, v in t.items()})), "is F16, it must be F32 or F64"),
    "integers": (lambda d: tensors(d, lambda t: t.update({"ln_f.bias": np.ones(6, np.int64)})), r"ln_f\.bias is I64"),
    "mixed": (lambda d: tensors(d, lambda t: t.update({"ln_f.bias": np.ones(6)})), "different dtypes"),
    "NaN": (lambda d: tensors(d, lambda t: t["h.1.ln_2.bias"].__setitem__(slice(2), np.nan)), r"tensor h\.1\.ln_2\.bias holds 2 values that are not"),
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
        ({"q": (1,)}, "q is missing"),
    ):
        with pytest.raises(MinigptError, match=message):
            checkpoint.load_state(tmp_path, shapes)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(MinigptError, match="not a character tokenizer"):
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
    for changes in ({"n_layer": 10**12}, {"n_embd": 10**9}, {"vocab_size": 10**14}, {"block_size": 10**14}):
        with pytest.raises(MinigptError, match=r"parameters would take about .* of memory; this machine has"):
            make(1, **changes)
