"""Buckets of distances, and the bias that is looked up by them."""

import numpy as np
import pytest

from minigpt.ops import relative_bias_backward, relative_bias_forward, relative_buckets

N, H, T, S = 8, 3, 5, 7


def test_buckets_of_t5():
    """32 buckets up to a distance of 128, as all checkpoints have them: worked out from the
    formula, and where rounding decides, 16, 32 and 64, as transformers has it.
    """
    before = [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 10, 11]
    np.testing.assert_array_equal(relative_buckets(-np.arange(24)), before)
    np.testing.assert_array_equal(relative_buckets(np.arange(1, 24)), 16 + np.array(before[1:]))
    far = np.array([31, 32, 45, 46, 63, 64, 90, 91, 127, 128, 10**6])
    np.testing.assert_array_equal(relative_buckets(-far), [11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15])
    np.testing.assert_array_equal(relative_buckets(far), [27, 28, 28, 29, 29, 30, 30, 31, 31, 31, 31])
    back = np.array([0, 1, 15, 16, 18, 19, 20, 21, 31, 99, 112, 113, 127, 128, 10**6])
    one_sided = [0, 1, 15, 16, 16, 17, 17, 18, 21, 30, 30, 31, 31, 31, 31]
    np.testing.assert_array_equal(relative_buckets(-back, bidirectional=False), one_sided)
    assert not relative_buckets(back, bidirectional=False).any()  # all keys behind the query


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_grow_with_the_distance_up_to_the_last(bidirectional):
    for buckets, farthest in ((8, 6), (6, 40), (4, 3), (32, 17)):
        found = relative_buckets(-np.arange(2 * farthest), buckets, farthest, bidirectional)
        half = buckets // 2 if bidirectional else buckets
        np.testing.assert_array_equal(found[: half // 2], np.arange(half // 2))
        assert (np.diff(found) >= 0).all() and (found[farthest:] == half - 1).all()
        assert found.dtype == np.int64


def test_no_buckets_are_made_up():
    for buckets, farthest, both in ((2, 9, True), (3, 9, True), (1, 9, False), (8, 2, True), (8, 4, False)):
        with pytest.raises(ValueError, match="half of them exact, for distances up to"):
            relative_buckets(np.arange(3), buckets, farthest, both)
    assert relative_buckets(np.array([-9, 9]), 4, 2).tolist() == [1, 3]
    assert relative_buckets(np.array([-9, 9]), 2, 2, bidirectional=False).tolist() == [1, 0]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("queries", "keys"), [(T, S), (S, S), (1, S), (1, 1)])
def test_bias_is_the_row_of_each_distances_bucket(queries, keys, bidirectional, rng):
    """The last query stands where the last key does, as in decoding."""
    weight = rng.standard_normal((N, H))
    bias, cache = relative_bias_forward(weight, queries, keys, 6, bidirectional)
    assert bias.shape == (1, H, queries, keys)
    places = keys - queries + np.arange(queries)
    distance = np.arange(keys) - places[:, None]
    buckets = relative_buckets(distance, N, 6, bidirectional)
    np.testing.assert_array_equal(bias[0], weight[buckets].transpose(2, 0, 1))
    dy = rng.standard_normal(bias.shape)
    expected = np.zeros_like(weight)
    np.add.at(expected, buckets, dy[0].transpose(1, 2, 0))
    np.testing.assert_allclose(relative_bias_backward(dy, cache), expected, rtol=1e-13, atol=1e-14)
    whole, _ = relative_bias_forward(weight, keys, keys, 6, bidirectional)
    np.testing.assert_array_equal(bias, whole[:, :, keys - queries :])


def test_defaults_are_those_of_t5(rng):
    weight = rng.standard_normal((32, H))
    bias, _ = relative_bias_forward(weight, 1, 300)
    np.testing.assert_array_equal(bias[0, :, 0], weight[relative_buckets(np.arange(-299, 1))].T)


def test_a_bias_takes_memory_of_its_diagonals_alone(rng):
    """And lies as scores do, a key's queries end to end; nobody can write into one number, which
    stands in many places.
    """
    bias, _ = relative_bias_forward(rng.standard_normal((N, H)), 40, 50, 6)
    extent = sum((n - 1) * abs(stride) for n, stride in zip(bias.shape, bias.strides)) + bias.itemsize
    assert extent == 8 * H * (40 + 50 - 1) and bias.strides[2:] == (8, -8)
    with pytest.raises(ValueError, match="read-only"):
        bias[0, 0, 0, 0] = 1


@pytest.mark.parity
@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_transformers(bidirectional):
    """Also where a boundary falls on a whole number and float32 decides."""
    torch = pytest.importorskip("torch")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = np.concatenate([np.arange(-2500, 2501), [-(10**6), 10**6]])
    for buckets in (4, 6, 8, 10, 16, 32, 64, 100, 128):
        for farthest in (buckets // 2 + 1, buckets, 2 * buckets, 100, 128, 256, 1000, 2048):
            if farthest > buckets // 2:
                expected = t5.T5Attention._relative_position_bucket(
                    torch.tensor(distance), bidirectional, buckets, farthest
                )
                found = relative_buckets(distance, buckets, farthest, bidirectional)
                np.testing.assert_array_equal(found, expected.numpy(), err_msg=f"{buckets} {farthest}")
