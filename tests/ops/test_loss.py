import math

import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import IGNORED, count_targets, cross_entropy_backward, cross_entropy_forward

B, T, V = 2, 3, 5
TARGETS = {
    "all count": [[0, 4, 2], [2, 2, 1]],
    "some ignored": [[0, IGNORED, 2], [IGNORED, 2, 1]],
    "one counts": [[IGNORED] * 3, [IGNORED, 4, IGNORED]],
}


@pytest.fixture(params=TARGETS.values(), ids=TARGETS.keys())
def targets(request):
    return np.array(request.param)


@pytest.mark.parametrize("count", [None, 11])
def test_cross_entropy_gradients(targets, count, rng):
    logits = 2 * rng.standard_normal((B, T, V))
    assert (
        check_op(lambda x, t: cross_entropy_forward(x, t, count), cross_entropy_backward, (logits, targets)).max_error
        < 1e-13
    )


def test_cross_entropy_values(targets, rng):
    logits = rng.standard_normal((B, T, V))
    loss, _ = cross_entropy_forward(logits, targets)
    terms = [
        -math.log(math.exp(row[t]) / sum(map(math.exp, row)))
        for row, t in zip(logits.reshape(-1, V), targets.ravel())
        if t != IGNORED
    ]
    assert len(terms) == count_targets(targets)
    assert loss == pytest.approx(sum(terms) / len(terms), rel=1e-14)


def test_cross_entropy_ignored_targets_have_no_gradient(targets, rng):
    _, cache = cross_entropy_forward(rng.standard_normal((B, T, V)), targets)
    dlogits = cross_entropy_backward(1.0, cache)
    assert not dlogits[targets == IGNORED].any()
    assert dlogits[targets != IGNORED].all()


def test_cross_entropy_parts_with_count_add_up_to_the_whole(rng):
    logits, targets = rng.standard_normal((7, V)), np.array([1, IGNORED, 0, 4, IGNORED, IGNORED, 2])
    whole, cache = cross_entropy_forward(logits, targets)
    dwhole = cross_entropy_backward(1.0, cache)
    loss, dlogits = 0, []
    for part in (slice(0, 4), slice(4, 6), slice(6, 7)):  # the second part has no target that counts
        value, cache = cross_entropy_forward(logits[part], targets[part], count_targets(targets))
        loss += value
        dlogits.append(cross_entropy_backward(1.0, cache))
    assert loss == pytest.approx(whole, rel=1e-14)
    np.testing.assert_allclose(np.concatenate(dlogits), dwhole, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_huge_logits_is_finite(dtype):
    logits = np.array([[1e4, 0, -1e4], [1e4, 0, -1e4]], dtype)
    loss, cache = cross_entropy_forward(logits, np.array([0, 2]))
    assert loss == 1e4  # (0 + 20000) / 2
    np.testing.assert_array_equal(cross_entropy_backward(1.0, cache), [[0, 0, 0], [0.5, 0, -0.5]])


def test_cross_entropy_shifts_each_row_by_its_own_maximum(rng):
    logits, targets = rng.standard_normal((4, V)), np.arange(4)
    far = logits + np.array([[2000.0], [0], [-2000], [3]])
    loss, cache = cross_entropy_forward(far, targets)
    assert loss == pytest.approx(cross_entropy_forward(logits, targets)[0], rel=1e-12)
    np.testing.assert_allclose(cache.probabilities.sum(-1), 1, rtol=1e-14)


def test_cross_entropy_of_equal_logits_is_log_v():
    assert cross_entropy_forward(np.full((4, V), 3.0), np.arange(4))[0] == pytest.approx(math.log(V), rel=1e-15)


@pytest.mark.parametrize("dy", [1.0, -2.5, np.float64(3)])
def test_cross_entropy_gradient_scales_with_dy(dy, rng):
    _, cache = cross_entropy_forward(rng.standard_normal((4, V)).astype(np.float32), np.arange(4))
    dlogits = cross_entropy_backward(dy, cache)
    np.testing.assert_allclose(dlogits, dy * cross_entropy_backward(1.0, cache), rtol=1e-6)
    assert dlogits.dtype == np.float32


def test_cross_entropy_without_targets_is_an_error(rng):
    with pytest.raises(ValueError, match="all 6 are -100"):
        cross_entropy_forward(rng.standard_normal((B, T, V)), np.full((B, T), IGNORED))
