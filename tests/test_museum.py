"""The bug museum: every mistake is caught by the rung that the table names, and by nothing less."""

import functools
import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

from minigpt import MinigptError, museum
from minigpt.gradcheck import LIMIT
from minigpt.museum import (
    EXHIBITS,
    GRADIENT_EXHIBITS,
    OTHER_EXHIBITS,
    Edit,
    Exhibit,
    Finding,
    function_of,
    patched_code,
    planted,
)
from minigpt.museum.planting import code_text, places
from minigpt.museum.training_oracles import adamw_oracle
from minigpt.ops import attention_forward, linear_backward, linear_forward
from minigpt.ops.attention import position_penalty

RUNGS = ("gradient check", "oracle: ", "invariance: ", "accounting: ", "golden: ")
BLIND = [exhibit for exhibit in EXHIBITS if exhibit.blind]
MISSED = {  # by central differences in float32, step 1e-3, tolerance 2e-2
    "LayerNorm: backward assumes a variance of exactly 1, without eps",
    "LayerNorm: unbiased variance (C - 1) in backward only",
    "RMSNorm: eps outside the root in forward only",
    "attention: the scale typed with three digits in backward",
    "GELU: the derivative of the tanh form for the exact one",
    "GELU: 1 / sqrt(2 pi) typed as 0.4",
    "GELU (tanh): 0.044715 typed as 0.0447 in backward",
    "linear: dweight kept in float16",
    "linear: a float32 in the middle of a float64 backward",
    "loss: label smoothing left in backward, 0.001 of it",
    "loss: the vocabulary's last entry left out",
}
ISSUE = (  # words of the mistakes that the museum has to show
    "1 / sqrt(D) missing", "mask applied after the softmax", "LayerNorm: the mean's term", "unbiased variance",
    "dweight[ids] = rows",
    "tied head: its gradient lost", "dropout: scaled twice", "dk transposed", "residual branch",
    "Jacobian without its second term",
    "targets not shifted", "mean over all targets", "summed over time", "bias correction", "clipping by value",
    "band off by one",
    "eps outside the root", "derivative of the tanh form", "shard means averaged", "checker: hands over its own dy",
    "head's input not scaled", "bias scaled like the scores", "before and behind the query swapped",
    "gradient of one layer alone", "overwritten by each layer", "gate and value swapped", "sentinels count upwards",
    "decoder's input not shifted", "memory's padding seen", "the mean taken off first",
)  # fmt: skip


def each(exhibits):
    return pytest.mark.parametrize("exhibit", exhibits, ids=lambda exhibit: exhibit.name)


def codes(exhibit):
    return [function.__code__ for function in dict.fromkeys(map(function_of, exhibit.edits))]


CODES = [codes(exhibit) for exhibit in EXHIBITS]  # before any test


@functools.cache
def without_bug(check, *method):
    """What a check says of the code as it is; several exhibits share one."""
    return check(*method)


def test_museum_is_large_and_labelled():
    assert len(EXHIBITS) >= 40
    assert len({exhibit.name for exhibit in EXHIBITS}) == len(EXHIBITS)
    assert len({exhibit.edits for exhibit in EXHIBITS}) == len(EXHIBITS)
    for exhibit in EXHIBITS:
        assert exhibit.caught_by.startswith(RUNGS) and exhibit.wrong and exhibit.symptom and exhibit.edits
        assert exhibit.by_gradient == (exhibit in GRADIENT_EXHIBITS)
    assert all(any(exhibit.caught_by.startswith(rung) for exhibit in EXHIBITS) for rung in RUNGS)


@pytest.mark.parametrize("page", ["README.md", "docs/PROOF.md", "docs/ARCHITECTURE.md", "CHANGELOG.md"])
def test_pages_say_how_many(page):
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    assert re.findall(r"(\d+) (?:classic )?mistakes", text) == [str(len(EXHIBITS))]


def test_proof_says_how_many_of_each_kind():
    text = (Path(__file__).parents[1] / "docs" / "PROOF.md").read_text(encoding="utf-8")
    of_checker = [exhibit for exhibit in OTHER_EXHIBITS if exhibit.name.startswith("checker: ")]
    found = [r"(\d+) are seen by the complex step", r"miss (\d+) of these", r"(\d+) can be seen by no gradient check"]
    found = [int(*re.findall(pattern, text)) for pattern in [*found, r"(\d+) of the latter are in the checker"]]
    assert found == [len(GRADIENT_EXHIBITS), len(MISSED), len(OTHER_EXHIBITS), len(of_checker)]


@pytest.mark.parametrize("words", ISSUE)
def test_museum_shows(words):
    assert any(words in exhibit.name for exhibit in EXHIBITS)


@each(EXHIBITS)
def test_old_text_occurs_once(exhibit):
    for edit in exhibit.edits:
        assert len(places(edit.old, code_text(function_of(edit)))) == 1
        assert edit.old != edit.new and "#" not in edit.old


@each(EXHIBITS)
def test_planted_mistake_is_caught_by_its_rung(exhibit):
    before = codes(exhibit)
    with planted(exhibit):
        assert all(now is not then for now, then in zip(codes(exhibit), before))
        finding = exhibit.check()
    assert all(now is then for now, then in zip(codes(exhibit), before))
    assert finding.wrong == exhibit.wrong, finding
    assert not finding.error < 1e-9  # a limit of 1e-13 is passed by far; NaN and infinity are caught, too


@each(EXHIBITS)
def test_code_as_it_is_is_clean(exhibit):
    finding = without_bug(exhibit.check)
    assert finding.wrong == ()
    assert finding.error < (LIMIT["complex"] if exhibit.by_gradient else 0.1)


@each(GRADIENT_EXHIBITS)
def test_central_differences_in_float32_miss_what_is_small(exhibit):
    row = museum.visit(exhibit)
    assert row.caught
    assert row.float32_catches == (exhibit.name not in MISSED), row.float32_error
    errors = without_bug(exhibit.check, "float32").errors
    # what it says of the code as it is: no false alarm
    assert max(errors[name] for name in exhibit.wrong) < museum.FLOAT32_TOLERANCE


def test_models_own_check_cannot_see_an_arriving_gradient_of_one_ignored():
    """What the exhibit's symptom says: an op has to be checked with a random dy."""
    (exhibit,) = (e for e in EXHIBITS if e.name == "loss: the arriving gradient ignored")
    with planted(exhibit):
        assert museum.gradients.gpt().wrong == ()


def test_kept_results_neither_hide_a_mistake_nor_outlive_it():
    (exhibit,) = (e for e in EXHIBITS if e.name == "attention: the causal mask off by one")
    asked = 0, 3, 3, True, None, np.dtype(np.float64)
    right = position_penalty(*asked)
    with planted(exhibit):
        wrong = position_penalty(*asked)
    assert np.isneginf(right).sum() == 3 and np.isneginf(wrong).sum() == 1
    np.testing.assert_array_equal(position_penalty(*asked), right)


def test_missed_names_exhibits():
    assert {exhibit.name for exhibit in GRADIENT_EXHIBITS} >= MISSED


@each(BLIND)
def test_gradient_check_is_blind_to_what_is_wrong_both_ways(exhibit):
    """It runs the wrong code, and forward and backward agree."""
    with planted(exhibit):
        finding = exhibit.blind()
    assert finding.wrong == () and finding.error < LIMIT["complex"], finding


def test_blind_checks_are_there_for_all_that_has_a_gradient():
    for exhibit in OTHER_EXHIBITS:
        with_gradient = all(edit.module.startswith(("ops", "layers")) for edit in exhibit.edits)
        assert bool(exhibit.blind) or not with_gradient or exhibit.name.startswith("KV cache")


# The mechanism

GOOD = Edit("ops.linear", "linear_backward", ".T @ rows", ".T @ rows * 2")
STALE = Edit("ops.linear", "linear_forward", "no such text", "pass")


def exhibit_of(*edits):
    return Exhibit("test", edits, "gradient check", museum.gradients.linear, ("weight",), "none")


def test_planted_is_undone_after_an_exception():
    before = linear_backward.__code__
    with pytest.raises(ZeroDivisionError), planted(exhibit_of(GOOD)):  # noqa: PT012
        assert linear_backward.__code__ is not before
        raise ZeroDivisionError
    assert linear_backward.__code__ is before


def test_planted_changes_what_the_function_does_and_nothing_else(rng):
    x, weight, dy = rng.standard_normal((3, 4)), rng.standard_normal((4, 5)), rng.standard_normal((3, 5))
    cache = linear_forward(x, weight)[1]
    right = linear_backward(dy, cache)
    with planted(exhibit_of(GOOD)):
        dx, dweight, _ = linear_backward(dy, cache)
        assert (
            linear_backward.__name__ == "linear_backward"
            and linear_backward.__doc__
            and linear_backward.__module__ == "minigpt.ops.linear"
        )
    np.testing.assert_array_equal(dx, right[0])
    np.testing.assert_array_equal(dweight, 2 * right[1])
    np.testing.assert_array_equal(linear_backward(dy, cache)[1], right[1])


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ((STALE,), "linear_forward: the text to replace occurs 0 times"),
        ((GOOD, STALE), "linear_forward: the text to replace occurs 0 times"),
        ((Edit("ops.linear", "linear_backward", "rows", "x"),), "occurs 5 times"),
        ((GOOD._replace(new=""), GOOD), "linear_backward: the text to replace occurs 0 times"),
        ((GOOD._replace(old="def linear_backward(", new="def other("),), "does not fit"),
    ],
)
def test_stale_exhibit_is_refused_and_nothing_is_planted(edits, message):
    before = linear_backward.__code__, linear_forward.__code__
    with pytest.raises(MinigptError, match=message), planted(exhibit_of(*edits)):
        pass
    assert (linear_backward.__code__, linear_forward.__code__) == before


def test_edit_sees_code_however_it_is_broken_into_lines():
    source = "y = f(\n    a,\n    b.T,\n) + cab"
    (match,) = places("f(a, b.T", source)
    assert match.group() == "f(\n    a,\n    b.T"
    assert not places("ab", source) and not places("f(a, b.T)", source)
    assert "# D numbers" in inspect.getsource(attention_forward) and "#" not in code_text(attention_forward)


def test_two_edits_of_one_function_are_planted_together(rng):
    x, weight, dy = rng.standard_normal((3, 4)), rng.standard_normal((4, 5)), rng.standard_normal((3, 5))
    cache = linear_forward(x, weight)[1]
    right = linear_backward(dy, cache)
    with planted(exhibit_of(GOOD, GOOD._replace(old="dx = (rows", new="dx = 3 * (rows"))):
        dx, dweight, _ = linear_backward(dy, cache)
    np.testing.assert_array_equal(dx, 3 * right[0])
    np.testing.assert_array_equal(dweight, 2 * right[1])


def test_patched_code_keeps_name_file_and_lines():
    code, real = patched_code(GOOD), linear_backward.__code__
    assert (code.co_name, code.co_qualname, code.co_filename, code.co_firstlineno) == (
        real.co_name, real.co_qualname, real.co_filename, real.co_firstlineno,
    )  # fmt: skip


def test_planted_keeps_defaults_methods_and_functions_inside(rng):
    """What is equal, planted in a function with defaults, in a method and in one that holds a
    function over its variables, changes nothing.
    """
    edits = [
        Edit("ops.attention", "attention_forward", "q * scale", "scale * q"),
        Edit("optim.adamw", "AdamW.step", "t += 1", "t += 2 - 1"),
    ]
    q, k, v = rng.standard_normal((3, 2, 3, 5, 4))
    expected = attention_forward(q, k, v)[0]
    with planted(exhibit_of(*edits)):
        assert patched_code(edits[1]).co_qualname == "AdamW.step"
        assert adamw_oracle().wrong == ()
        np.testing.assert_array_equal(attention_forward(q, k, v)[0], expected)


# The table


def finding_rows():
    """Two rows as a tour makes them, and one that was not caught."""
    missed = next(e for e in GRADIENT_EXHIBITS if e.name in MISSED)
    return [
        museum.Row(missed, Finding(missed.wrong, 6e-5, {"x": 6e-5}), 4e-4),
        museum.Row(OTHER_EXHIBITS[0], Finding(OTHER_EXHIBITS[0].wrong, math.nan, {}), None),
        museum.Row(OTHER_EXHIBITS[1], Finding((), 0.0, {}), None),
    ]


def test_table_has_a_line_an_exhibit():
    rows = finding_rows()
    lines = museum.table(rows).splitlines()
    assert len(lines) == 5
    assert lines[0].split("  ")[0] == "mistake" and lines[0].split()[-3:] == ["symptom", "in", "training"]
    for line, row in zip(lines[1:], rows):
        assert line.startswith(row.exhibit.name) and line.endswith(row.exhibit.symptom)
        assert line.index(row.exhibit.symptom) == lines[0].index("symptom")
    assert "gradient check: layernorm.x" in lines[1] and "MISSED 4e-04" in lines[1] and "6e-05" in lines[1]
    assert "blind" in lines[2] and "nan" in lines[2] and "NOT" not in lines[2]
    assert "NOT CAUGHT by oracle" in lines[3]
    assert (
        lines[4].startswith("3 mistakes: 1 seen by the complex step")
        and "miss 1;" in lines[4]
        and OTHER_EXHIBITS[1].name in lines[4]
    )
    assert "every one caught" in museum.table(rows[:2])


def test_run_visits_every_exhibit_and_reports_progress(monkeypatch):
    monkeypatch.setattr(museum.tour, "EXHIBITS", [GRADIENT_EXHIBITS[0], OTHER_EXHIBITS[-1]])
    seen = []
    text = museum.table(progress=lambda exhibits: seen.extend(exhibits) or seen)
    assert seen == museum.tour.EXHIBITS
    assert [row.exhibit for row in museum.run()] == seen and all(row.caught for row in museum.run())
    assert text == museum.table(museum.run())  # the same numbers each time


def test_nothing_is_left_planted():
    assert [codes(exhibit) for exhibit in EXHIBITS] == CODES
    assert linear_backward.__code__ is function_of(GOOD).__code__


@pytest.mark.parity
def test_golden_loss_is_transformers():
    """Remakes the value on record."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, ids, targets = museum.golden_case()
    c = model.config
    config = transformers.GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.block_size, n_layer=c.n_layer, n_head=c.n_head, n_embd=c.n_embd,
        activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    missing, unexpected = theirs.load_state_dict(
        {f"transformer.{n}": torch.tensor(x) for n, x in model.parameters.items()}, strict=False
    )
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    assert loss.item() == pytest.approx(museum.GOLDEN_LOSS, rel=1e-12)
