"""Damage to other people's files, at random: bytes, values of JSON, headers of safetensors that
lie.
"""

import json
import shutil

VALUES = (None, True, False, -1, 0, 1.5, 2**70, -(2**70), 10**400, float("nan"), float("inf"), 1e308, -1e-320)
VALUES += ("", "x" * 5000, "a\nb\x1b[2J\udc80", "../../x", [], [[1]], ["a"] * 5000, {}, {"a": {}})
DTYPES = ("F16", "BF16", "F32", "F64", "I64", "BOOL", "F8_E4M3", "F3")
SHAPES = ([], [0], [2**40, 2**40], [2**62, 2**62], [-1], [1.5], [6, 1], [1] * 100)
DEEP = 3000  # lists in lists


def damage_bytes(path, rng):
    """Flip, cut or insert some bytes, most of them at the beginning, where headers are."""
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)) ** rng.choice([1, 0.5]))
    kind = rng.integers(5)
    if kind == 0:
        data[at] ^= 1 << rng.integers(8)
    elif kind == 1:
        data[at] = rng.integers(256)
    elif kind == 2:
        del data[at : at + int(rng.integers(1, 40))]
    elif kind == 3:
        data[at:at] = rng.bytes(int(rng.integers(1, 40)))
    else:
        data = data[:at]
    path.write_bytes(bytes(data))


def damaged_value(value, rng):
    """A JSON value with one of the values in it replaced, left out or wrapped in lists."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.1:
            kept = [k for k in keys if k != key]
            return {k: value[k] for k in kept} if isinstance(value, dict) else [value[k] for k in kept]
        changed = value.copy()
        changed[key] = damaged_value(value[key], rng)
        return changed
    return VALUES[rng.integers(len(VALUES))]


def dumps(value, rng):
    """JSON, now and then with a key that stands twice or with lists in lists in lists."""
    text = json.dumps(value)
    kind = rng.random()
    if kind < 0.03 and ": " in text:
        head, _, rest = text.partition(": ")
        return f"{head}: {'[' * DEEP}{']' * DEEP}, {head[1:]}: {rest}"
    if kind < 0.06 and isinstance(value, dict) and value:
        key = json.dumps(list(value)[rng.integers(len(value))])
        return f"{text[:-1]}, {key}: 1}}"
    return text


def damage_json(path, rng):
    """One value of a JSON file, or of one line of it where the lines are JSON."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = rng.integers(len(lines))
    lines[at] = dumps(damaged_value(json.loads(lines[at]), rng), rng)
    path.write_text("\n".join(lines) + "\n")


def damage_header(path, rng):
    """A safetensors header that lies about a tensor's dtype, shape or place, or about its own
    length.
    """
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    names = list(header)
    name = names[rng.integers(len(names))]
    kind, wrong = rng.integers(6), dict(header[name])
    if kind == 0:
        wrong = damaged_value(wrong, rng)
    elif kind == 1:
        wrong["dtype"] = DTYPES[rng.integers(len(DTYPES))]
    elif kind == 2:
        wrong["shape"] = [*SHAPES, wrong.get("shape", [])[::-1]][rng.integers(len(SHAPES) + 1)]
    elif kind == 3:
        offsets = wrong.get("data_offsets", [0, 0])
        wrong["data_offsets"] = [int(offset + rng.integers(-40, 40)) for offset in offsets]
    elif kind == 4:
        wrong = header[names[rng.integers(len(names))]]  # that of another tensor
    header[name] = wrong
    text = dumps(header, rng).encode()
    length = len(text) if kind < 5 else int(rng.choice([0, 1, len(text) - 1, len(text) + 1, 2**31, 2**62, 2**64 - 1]))
    path.write_bytes(length.to_bytes(8, "little") + text + data[start:])


def damage(source, folder, rng):
    """A copy of a folder, damaged in one to three places."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(rng.integers(1, 4)):
        path = files[rng.integers(len(files))]
        if path.stat().st_size == 0:
            continue
        special = {".json": damage_json, ".jsonl": damage_json, ".safetensors": damage_header}.get(path.suffix)
        try:
            (special if special and rng.random() < 0.7 else damage_bytes)(path, rng)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError, RecursionError):
            continue  # it was damaged before
