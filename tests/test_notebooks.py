"""The notebooks run from top to bottom, stand in the repository as they ran,
and define nothing that minigpt defines.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIZE_LIMIT = 600_000  # bytes, so that they open quickly on the web

# In a process of its own: Jupyter's own warnings are none of ours.
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code_cells(path):
    """The code cells of a notebook file."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def check_outputs(cells):
    """Every cell ran, in order, without an error and without a word on stderr;
    some showed something.
    """
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


def definitions(tree):
    """The names that code binds to functions, classes or values at any depth, imports aside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            for target in getattr(node, "targets", None) or [node.target]:
                yield from (
                    name.id
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
                )


def public_names():
    """What minigpt's packages offer: every name in an __all__, read without importing anything."""
    names = set()
    for path in (ROOT / "minigpt").rglob("__init__.py"):
        if path.parent.name == "museum":  # it plants mistakes, and teaches no code
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [target.id for target in node.targets] == ["__all__"]:
                names |= set(ast.literal_eval(node.value))
    return names


def test_there_are_notebooks():
    assert NOTEBOOKS
    assert {"GPT", "layernorm_forward", "Mask"} <= public_names()


@each_notebook
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbclient", "ipykernel"))), reason="needs the extra minigpt[test]"
)
def test_notebook_runs_from_top_to_bottom(path, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "MINIGPT_TEXT"}
    env |= {
        "MINIGPT_NOTEBOOK_FAST": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")])),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, whatever a user has installed
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(tmp_path / "done.ipynb")],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_outputs(code_cells(tmp_path / "done.ipynb"))


@each_notebook
def test_notebook_is_committed_as_it_ran(path):
    check_outputs(code_cells(path))


@each_notebook
def test_notebook_is_small_and_tells_nothing_of_the_machine(path):
    assert path.stat().st_size < SIZE_LIMIT
    raw = path.read_text(encoding="utf-8")
    notebook, text = json.loads(raw), re.sub(r'"image/png": "[^"]*"', "", raw)
    assert not re.findall(r"(?:/home|/Users|/tmp|/work|/root|/usr|/opt|/var|site-packages)/", text)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(not cell["metadata"] for cell in notebook["cells"])


@each_notebook
def test_notebook_uses_the_library_and_does_not_write_it_again(path):
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code_cells(path)))
    assert "minigpt" in {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not set(definitions(tree)) & public_names()


@each_notebook
def test_notebook_is_in_the_list(path):
    assert f"({path.name})" in (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")


@each_notebook
def test_keywords_that_a_notebook_gives_are_those_of_the_library(path):
    """In cells too that the small run leaves out."""
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code_cells(path)))
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "minigpt":
            module = importlib.import_module(node.module)
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and callable(function := names.get(getattr(call.func, "id", None))):
            known = inspect.signature(function).parameters
            given = {keyword.arg for keyword in call.keywords} - {None}
            assert given <= set(known) or any(p.kind == p.VAR_KEYWORD for p in known.values()), ast.unparse(call)
