"""What a run that went wrong is told."""

import numpy as np
import pytest

from minigpt.training.diagnosis import diagnosis, first_not_finite_name

GOOD, BAD = np.ones(2), np.array([1.0, np.nan])
NORM = "the norm of the gradients, which overflowed"


@pytest.mark.parametrize(
    ("loss", "parameters", "gradient", "places", "words"),
    [
        (np.nan, [GOOD, BAD], [GOOD, GOOD], ["ln: f"], "the loss is nan; first in parameter b"),
        (np.inf, [GOOD, GOOD], [BAD, BAD], [None, "ln: f", "h: g"], "the loss is inf; first in ln: f"),
        (1.5, [GOOD, GOOD], [BAD, GOOD], [None, "h: g"], "a gradient is not finite; first in h: g"),
        (1.5, [GOOD, GOOD], [BAD, BAD], [None], "a gradient is not finite; first in gradient of b"),
        (1.5, [GOOD, GOOD], [GOOD, GOOD], [], f"a gradient is not finite; first in {NORM}"),
    ],
)
def test_first_that_is_wrong_is_told(loss, parameters, gradient, places, words):
    assert diagnosis(loss, dict(zip("ab", parameters)), dict(zip("ab", gradient)), places) == words


def test_places_are_asked_until_one_says():
    asked = []

    def places():
        for place in (None, "here", "there"):
            asked.append(place)
            yield place

    assert diagnosis(np.nan, {}, {}, places()).endswith("first in here")
    assert asked == [None, "here"]


def test_no_place_is_asked_where_a_parameter_is_wrong():
    assert diagnosis(np.nan, {"a": BAD}, {}, iter(lambda: pytest.fail("asked"), None)).endswith("parameter a")


def test_first_name_is_the_first_in_order():
    assert first_not_finite_name({"a": GOOD, "b": BAD, "c": BAD}) == "b"
    assert first_not_finite_name({"a": GOOD}) is None
