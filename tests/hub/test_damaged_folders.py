"""Folders of other people, damaged at random: one MinigptError of one line, or a model."""

import json
import shutil

import numpy as np
import pytest
from hub_folders import shard, small_gpt

import minigpt
from minigpt import MinigptError

FOLDERS = 150  # damaged, of each kind
VALUES = (
    None,
    True,
    False,
    -1,
    0,
    1.5,
    2**70,
    -(2**70),
    float("nan"),
    float("inf"),
    1e308,
    "",
    "x" * 5000,
    "a\nb\x1b[2J\udc80",
    [],
    [[1]],
    {},
    {"a": {}},
)


def damage_bytes(path, rng):
    """Flip, cut or insert some bytes."""
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)) ** rng.choice([1, 0.5]))  # a header begins at 0
    kind = rng.integers(4)
    if kind == 0:
        data[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        del data[at : at + int(rng.integers(1, 40))]
    elif kind == 2:
        data[at:at] = rng.bytes(int(rng.integers(1, 40)))
    else:
        data = data[:at]
    path.write_bytes(bytes(data))


def damage_values(values, rng):
    """A JSON value with one of the values in it replaced or left out."""
    key = list(values)[rng.integers(len(values))]
    if isinstance(values[key], dict) and values[key] and rng.random() < 0.8:
        return values | {key: damage_values(values[key], rng)}
    if rng.random() < 0.1:
        return {k: v for k, v in values.items() if k != key}
    return values | {key: VALUES[rng.integers(len(VALUES))]}


def damage_json(path, rng):
    path.write_text(json.dumps(damage_values(json.loads(path.read_text()), rng)))


def damage_header(path, rng):
    """A safetensors header that lies."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    name = list(header)[rng.integers(len(header))]
    wrong = damage_values(header[name], rng)
    if rng.random() < 0.3:
        wrong = header[name] | {"dtype": ["F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "F3"][rng.integers(7)]}
    elif rng.random() < 0.5 and "shape" in header[name]:
        wrong = header[name] | {
            "shape": [[], [0], [2**40, 2**40], [-1], [1.5], [6, 1], header[name]["shape"][::-1]][rng.integers(7)]
        }
    text = json.dumps(header | {name: wrong}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])


def load_damaged(source, directory, rng):
    """Damage a copy of a folder in one or two places and load it; -> whether it was refused."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(source, directory)
    for _ in range(rng.integers(1, 3)):
        files = sorted(directory.iterdir())
        path = files[rng.integers(len(files))]
        damage = damage_bytes
        if path.stat().st_size == 0:
            continue
        if rng.random() < 0.7:
            damage = damage_json if path.suffix == ".json" else damage_header
        try:
            damage(path, rng)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # it was damaged before
    said = []
    try:
        minigpt.from_huggingface(directory, say=said.append)
    except MinigptError as error:
        said.append(str(error))
    else:
        return False
    finally:
        assert all(message.isprintable() and len(message) <= 1000 for message in said), said
    return True


@pytest.mark.parametrize("sharded", [False, True])
def test_a_damaged_folder_is_refused_in_one_line(sharded, tmp_path, rng):
    minigpt.to_huggingface(small_gpt(rng, np.float32), tmp_path / "whole")
    if sharded:
        shard(tmp_path / "whole")
    refused = sum(load_damaged(tmp_path / "whole", tmp_path / "damaged", rng) for _ in range(FOLDERS))
    assert refused > FOLDERS / 3
