"""docs/OWN_OPS.md keeps its promises: its code runs and prints what stands below it, and its
table's advice is right.
"""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from minigpt import check_op
from minigpt.gradcheck import NotComplexSafe

TEXT = (Path(__file__).parents[1] / "docs" / "OWN_OPS.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)*)", TEXT, re.DOTALL)


def lines(text):
    """Lines without indentation and without errors of rounding, which differ from machine to
    machine.
    """
    text = re.sub(r"\d\.\de-1[5-9]", "tiny", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_code_prints_what_stands_below_it():
    assert len(BLOCKS) == TEXT.count("```python") >= 6
    names = {}
    for code, output in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "OWN_OPS.md", "exec"), names)
        assert lines(printed.getvalue()) == lines(output), code
        assert len(lines(output)) >= 1


X = np.random.default_rng(0).standard_normal((3, 5))
SIGN = np.where(X < 0, -1, 1)
NORM = np.sqrt((X * X).sum())


def deviation(x):
    d = x - x.mean()
    return np.sqrt((d * d).mean())


def softmax(x, shift):
    e = np.exp(x - shift(x))
    return e / e.sum()


def softmax_backward(dy, y):
    return y * (dy - (y * dy).sum())


def filled(x, out):
    out[...] = x * x
    return out


def masked(x):
    return np.exp(np.where(X > 0, 0.5 * x, -np.inf))


# written as in the table -> (forward, backward), right ones
INSTEAD_OF = {
    "np.abs(x)": (lambda x: (np.abs(x), None), lambda dy, c: dy * SIGN),
    "np.abs(x) ** 2": (lambda x: (np.abs(x) ** 2, None), lambda dy, c: 2 * dy * X),
    "np.linalg.norm(x)": (lambda x: (np.linalg.norm(x), None), lambda dy, c: dy * X / NORM),
    "x.std()": (lambda x: (x.std(), None), lambda dy, c: dy * (X - X.mean()) / X.size / X.std()),
    "x.conj().T": (lambda x: (x.conj().T, None), lambda dy, c: dy.T),
    "np.vdot(x, x)": (lambda x: (np.vdot(x, x), None), lambda dy, c: 2 * dy * X),
    "float(x)": (lambda x: (np.array([float(a) for a in x.flat]), None), lambda dy, c: dy.reshape(3, 5)),
    "x.astype(np.float32)": (lambda x: (x.astype(np.float32) * x, None), lambda dy, c: 2 * dy * X),
    "out = np.empty(n)": (lambda x: (filled(x, np.empty(x.shape)), None), lambda dy, c: 2 * dy * X),
}
WRITE = {
    "x * np.where(x.real < 0, -1, 1)": (lambda x: (x * np.where(x.real < 0, -1, 1), None), lambda dy, c: dy * SIGN),
    "x * x": (lambda x: (x * x, x), lambda dy, x: 2 * dy * x),
    "np.sqrt((x * x).sum())": (lambda x: (np.sqrt((x * x).sum()), x), lambda dy, x: dy * x / np.sqrt((x * x).sum())),
    "np.sqrt((d * d).mean())": (lambda x: (deviation(x), x), lambda dy, x: dy * (x - x.mean()) / x.size / x.std()),
    "x.real.max()": (lambda x: (softmax(x, lambda x: x.real.max()),) * 2, softmax_backward),
    "x * (x.real > 0)": (lambda x: (x * (x.real > 0), None), lambda dy, c: dy * (X > 0)),
    "x.T": (lambda x: (x.T, None), lambda dy, c: dy.T),
    "(x * x).sum()": (lambda x: ((x * x).sum(), x), lambda dy, x: 2 * dy * x),
    "np.empty_like(x)": (lambda x: (filled(x, np.empty_like(x)), x), lambda dy, x: 2 * dy * x),
    "np.where(mask, scores, -np.inf)": (lambda x: (masked(x),) * 2, lambda dy, y: 0.5 * dy * y),
}


@pytest.mark.parametrize("text", INSTEAD_OF)
def test_what_the_table_warns_of_is_reported_and_central_differences_check_it(text):
    assert f"`{text}`" in TEXT
    with pytest.raises(NotComplexSafe):
        check_op(*INSTEAD_OF[text], (X,))
    if "float32" not in text:
        assert check_op(*INSTEAD_OF[text], (X,), "central").passed


@pytest.mark.parametrize("text", WRITE)
def test_what_the_table_advises_passes(text):
    assert f"`{text}`" in TEXT
    report = check_op(*WRITE[text], (X,))
    assert report.passed and not report.remarks, report


def test_every_cell_of_the_table_is_tried():
    rows = [line.split("|")[1:3] for line in TEXT.splitlines() if line.startswith("| `")]
    cells = [re.findall("`([^`]*)`", cell) for cell in zip(*rows, strict=True) for cell in cell]
    # the last ones do no harm, or are a part
    tried = {*INSTEAD_OF, *WRITE, "np.maximum(x, 0)", "x.max()", "d = x - x.mean()", "scores + mask"}
    assert {text for cell in cells for text in cell} <= tried
