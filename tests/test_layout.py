"""The directions of import and other rules of docs/ARCHITECTURE.md, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minigpt

ROOT = Path(minigpt.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# Each entry may import, as a module, what stands above it; ops and layers even less, see their
# tests.
ORDER = ["errors", "checks", "machine", "files", "tensors", "tables", "ops", "layers", "observe", "tokenizers", "data"]
ORDER += ["objectives", "sampling", "beams", "checkpoint", "models", "gradcheck", "optim", "hub", "explain", "plots"]
ORDER += ["training", "sentences", "profile", "pages", "museum", "cli", "__init__", "__main__"]
FORBIDDEN = {"eval", "exec", "compile", "__import__"}
COMPILES = "museum/planting.py"  # patches of our own source, which run as the functions that they patch


def entry(name):
    """ops/linear.py -> ops, sampling.py -> sampling."""
    return name.split("/")[0].removesuffix(".py")


def imports(tree, inside_functions=True):
    """Names of imported modules; `from minigpt import x` counts as minigpt.x."""
    if not inside_functions:
        tree = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "minigpt":
                yield from (f"minigpt.{alias.name}" for alias in node.names)
            else:
                yield node.module


def entries(tree, inside_functions=True):
    """Entries of minigpt that a module imports."""
    return {name.split(".")[1] for name in imports(tree, inside_functions) if name.startswith("minigpt.")}


def files(*names):
    return pytest.mark.parametrize("name", [name for name in TREES if not names or entry(name) in names])


@files()
def test_module_has_its_place_in_the_order(name):
    assert entry(name) in ORDER


@files("ops")
def test_ops_import_numpy_alone(name):
    for module in imports(TREES[name]):
        assert module == "numpy" or module.startswith("minigpt.ops") or module.split(".")[0] in sys.stdlib_module_names


@files("layers")
def test_layers_import_ops_and_layers(name):
    assert entries(TREES[name]) <= {"ops", "layers", "errors", "machine"}


@files("tokenizers", "data", "objectives", "optim")
def test_tokenizers_data_objectives_and_optim_import_no_model(name):
    assert entries(TREES[name]).isdisjoint({"models", "GPT", "training", "checkpoint", "hub", "sampling"})
    assert "minigpt" not in imports(TREES[name])


@files()
def test_modules_import_only_what_stands_above(name):
    """Also in functions, which import when they are called: no arrow runs back up."""
    above = set(ORDER[: ORDER.index(entry(name)) + 1])
    used = entries(TREES[name])
    assert used <= above, used - above


def test_modules_import_in_no_circle():
    """Nor within an entry, whose modules have no order of their own."""
    names = {f"minigpt.{name.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__"): name for name in TREES}
    arrows = {module: {m for m in imports(TREES[name]) if m in names} for module, name in names.items()}
    for module, used in arrows.items():  # what `from package import name` takes is in the package or a module of it
        for node in ast.walk(TREES[names[module]]):
            if isinstance(node, ast.ImportFrom):
                used |= {f"{node.module}.{alias.name}" for alias in node.names} & names.keys()
        package_itself = {m for m in used if f"{module}.".startswith(f"{m}.")}  # `from package import module`
        used -= package_itself
    while leaves := [module for module, used in arrows.items() if not used & arrows.keys()]:
        for module in leaves:
            del arrows[module]
    assert not arrows


@files()
def test_matplotlib_is_imported_by_plots_alone(name):
    assert entry(name) == "plots" or "matplotlib" not in {module.split(".")[0] for module in imports(TREES[name])}


def test_import_minigpt_is_light():
    """Heavy modules come when they are used."""
    heavy = {"matplotlib", "safetensors", "torch", "transformers", "tqdm", "threadpoolctl", "platformdirs", "regex"}
    # early versions import it themselves
    code = "import sys, numpy; print('numpy.random' in sys.modules); import minigpt; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    early, modules = done.stdout.splitlines()
    assert heavy.isdisjoint(modules.split())
    assert early == "True" or "numpy.random" not in modules.split()


def test_every_part_is_an_attribute_of_the_package():
    """import minigpt; minigpt.museum"""
    parts = sorted({entry(name) for name in TREES} - {"__init__", "__main__"})
    code = f"import minigpt; print(*[name for name in {parts} if not hasattr(minigpt, name)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@files()
def test_nothing_executes_data(name):
    assert {m.split(".")[0] for m in imports(TREES[name])}.isdisjoint(
        {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
    )
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            allowed = {"compile"} if name == COMPILES else set()
            assert not (isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN - allowed), node.lineno
            assert not any(
                k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                for k in node.keywords
            )


@files()
def test_global_random_state_is_not_used(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
            assert node.attr in ("default_rng", "Generator", "SeedSequence", "PCG64"), node.lineno


@files()
def test_files_and_functions_are_short(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 < 50, node.name


def public(body, prefix=""):
    """Public functions, classes and their public methods, caches left out: they say what they hold
    by a comment a field.
    """
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if not (node.name.endswith("Cache") and [ast.unparse(base) for base in node.bases] == ["NamedTuple"]):
                yield node.name, node
            yield from public(node.body, f"{node.name}.")


@files()
def test_public_names_have_docstrings(name):
    tree = TREES[name]
    missing = [f"{n} (line {node.lineno})" for n, node in public(tree.body) if not ast.get_docstring(node)]
    assert not missing
    assert ast.get_docstring(tree) or not tree.body


def test_all_lists_what_is_there():
    for module in (minigpt, minigpt.ops, minigpt.layers):
        assert sorted(module.__all__) == sorted(set(module.__all__))
        assert all(hasattr(module, name) for name in module.__all__)
