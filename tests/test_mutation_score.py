"""The mutation score's own machinery:
what it plants, and that its list of equivalents is not stale.
"""

import sys
import types

import pytest

from benchmarks import mutation_score
from benchmarks.mutation_equivalents import EQUIVALENT
from benchmarks.mutation_score import TESTS, likeliest_first, modules_of, mutants_of, plant

SOURCE = '''"""A module."""
import functools
from dataclasses import dataclass
from typing import NamedTuple

LIMIT = 7


@functools.lru_cache(maxsize=16)  # a comment
def scaled(x, factor=3, *, offset=4):
    """x * factor + offset."""
    total = x * factor  # one comment
    total += (
        offset
    )
    return total


@dataclass
class Config:
    size: int = 5


class Cache(NamedTuple):
    size: int = 6


class Model:
    KIND = 8

    def run(self):
        def inner():
            return 9

        return inner()
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module minigpt.ops.<name> of this source; the library's own is not touched."""
    folder = tmp_path / "minigpt" / "ops"
    folder.mkdir(parents=True)
    (folder / "planted.py").write_text(SOURCE)
    live = types.ModuleType("minigpt.ops.planted")
    monkeypatch.setitem(sys.modules, live.__name__, live)
    exec(compile(SOURCE, "planted.py", "exec"), vars(live))
    monkeypatch.setattr(mutation_score, "ROOT", tmp_path)
    return "ops/planted"


def mutant(module, change, text=None):
    (found,) = (m for m in mutants_of(module) if m.change == change and text in (None, m.text))
    return found


@pytest.mark.parametrize(
    ("change", "call", "before", "after"),
    [
        ("7 -> 8", lambda live: live.LIMIT, 7, 8),
        ("3 -> 4", lambda live: live.scaled(2), 10, 12),
        ("4 -> 5", lambda live: live.scaled(2), 10, 11),
        ("x * factor -> x / factor", lambda live: live.scaled(6), 22, 6.0),
        ("total += offset -> dropped", lambda live: live.scaled(2), 10, 6),
        ("5 -> 6", lambda live: live.Config().size, 5, 6),
        ("6 -> 7", lambda live: live.Cache().size, 6, 7),
        ("8 -> 9", lambda live: live.Model.KIND, 8, 9),
        ("9 -> 10", lambda live: live.Model().run(), 9, 10),
    ],
)
def test_mutant_is_planted_in_the_live_module(change, call, before, after, module):
    live = sys.modules["minigpt.ops.planted"]
    assert call(live) == before
    if hasattr(live.scaled, "cache_clear"):
        live.scaled.cache_clear()
    plant(mutant(module, change))
    assert call(live) == after


def test_mutants_are_named_by_statements_without_comments_and_line_breaks(module):
    texts = {m.text for m in mutants_of(module)}
    assert {"total = x * factor", "total += offset", "functools.lru_cache(maxsize=16)", "LIMIT = 7"} <= texts
    assert not any("#" in text or "\n" in text for text in texts)


def test_mutants_of_the_library_have_names_of_their_own_and_equivalents_are_among_them():
    mutants = [m for folder in TESTS for module in modules_of(folder) for m in mutants_of(module)]
    names = {m.identity for m in mutants}
    assert len(names) == len(mutants) > 1000
    assert EQUIVALENT.keys() <= names, EQUIVALENT.keys() - names


def test_tests_of_a_folder_kill_its_mutants_the_modules_own_first():
    def item(path, name):
        return types.SimpleNamespace(path=mutation_score.ROOT / "tests" / path, originalname=name)

    items = [item("models/test_gpt.py", "a"), item("layers/test_block.py", "b"), item("ops/test_linear_op.py", "c")]
    of = {module: [i.originalname for i in likeliest_first(items, types.SimpleNamespace(module=module))] for module in (
        "ops/linear", "layers/block", "models/gpt")}  # fmt: skip
    assert of == {"ops/linear": ["c", "b"], "layers/block": ["b", "c"], "models/gpt": ["a", "b"]}
