import copy
import pickle

import numpy as np
import pytest

from minigpt.layers import Parameter, Store

SHAPES = {"b": (2, 3), "a": (5,), "c": (), "d": (2, 1, 4)}


PARAMETERS = [Parameter(name, shape, "hidden") for name, shape in SHAPES.items()]


@pytest.fixture
def store():
    return Store(PARAMETERS, np.arange(20.0))


def test_store_is_views_of_one_vector_in_order(store):
    assert list(store) == list(SHAPES) and len(store) == 4 and "z" not in store
    assert store.vector.size == 2 * 3 + 5 + 1 + 2 * 4
    np.testing.assert_array_equal(np.concatenate([v.ravel() for v in store.values()]), np.arange(20))
    assert {n: v.shape for n, v in store.items()} == SHAPES
    store.vector[:] = -1
    assert all((v == -1).all() for v in store.values())
    store["a"][...] = 7
    np.testing.assert_array_equal(store.vector[6:11], 7)


def test_store_adds_in_place(store):
    view = store["b"]
    store["b"] += 10
    assert store["b"] is view
    np.testing.assert_array_equal(store.vector[:6], np.arange(6) + 10)
    store["a"] = np.full(5, 3)
    np.testing.assert_array_equal(store.vector[6:11], 3)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("z", 1, KeyError), ("b", np.zeros((3, 2)), ValueError), ("a", np.zeros(4), ValueError)],
)
def test_store_refuses_unknown_names_and_wrong_shapes(store, name, value, error):
    with pytest.raises(error):
        store[name] = value


def test_parts_side_by_side_may_have_a_spread_each():
    """The same normal numbers, times one factor a column."""
    spread, shape = (0.1, 2.0, 30.0), (400, 6)
    one, three = (
        Store.initialised([Parameter("w", shape, "hidden", std=std, parts=3)], 1, np.float32)["w"]
        for std in (1.0, spread)
    )
    np.testing.assert_array_equal(three, one * np.repeat(np.float32(spread), 2))
    for part, std in zip(np.split(three, 3, axis=1), spread):
        assert part.std() == pytest.approx(std, rel=0.1)


def test_store_zeros_like(store):
    g = store.zeros_like()
    assert g.shapes == store.shapes and g.vector.dtype == store.vector.dtype and not g.vector.any()
    g["b"] += 1
    np.testing.assert_array_equal(store.vector, np.arange(20))


def test_store_of_some_names(store):
    g = store.zeros_like(only=["c", "b"])
    assert g.shapes == {"b": (2, 3), "c": ()} and g.vector.size == 7 and "a" not in g
    assert store.zeros_like(only=[]).vector.size == 0


def test_store_like_another_has_its_parameters_and_that_vector(store):
    vector = -np.arange(20.0)
    other = store.like(vector)
    assert other.parameters == store.parameters and other.vector is vector
    np.testing.assert_array_equal(other["b"], -store["b"])


def test_store_holds_float32_unless_told():
    assert Store(PARAMETERS).vector.dtype == np.float32


def test_a_name_of_two_different_parameters_is_refused():
    one, other = Parameter("w", (2, 3), "hidden"), Parameter("w", (3, 2), "hidden")
    with pytest.raises(ValueError, match="w names two parameters"):
        Store([one, other])
    assert Store([one, one]).vector.shape == (6,)  # a layer that stands in two places


def test_role_must_be_one_of_four():
    with pytest.raises(ValueError, match="w: role is 'matrix', it must be one of hidden, embedding, head, vector"):
        Store([Parameter("w", (2, 3), "matrix")])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_store_astype_is_a_copy(store, dtype):
    other = store.astype(dtype)
    assert other.vector.dtype == other["b"].dtype == dtype
    np.testing.assert_array_equal(other.vector, store.vector)
    other.vector[:] = 0
    assert store.vector.any()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"])
def test_store_clones_keep_their_views(store, clone):
    other = clone(store)
    np.testing.assert_array_equal(other["b"], store["b"])
    other.vector[:] = -1
    assert (other["b"] == -1).all()
    assert not (store.vector == -1).any()


@pytest.mark.parametrize("vector", [np.zeros(19), np.zeros(21), np.zeros((20, 1))])
def test_store_refuses_a_wrong_vector(vector):
    with pytest.raises(ValueError, match=r"vector has shape .*\(20,\)"):
        Store(PARAMETERS, vector)


def test_store_initialised_draws_the_same_in_every_dtype():
    parameters = [
        Parameter("w", (300, 70), "hidden", std=0.5),
        Parameter("ln", (11,), "vector", mean=1.0),
        Parameter("b", (3,), "vector"),
        Parameter("m", (400, 50), "embedding", 0.1, 2.0),
    ]
    low, high = (Store.initialised(parameters, 3, dtype) for dtype in (np.float32, np.float64))
    np.testing.assert_array_equal(low.vector, high.vector)
    assert high.vector.dtype == np.float64
    assert (high["ln"] == 1).all() and not high["b"].any()
    assert high["w"].std() == pytest.approx(0.5, rel=0.02) and abs(high["w"].mean()) < 0.02
    assert high["m"].std() == pytest.approx(0.1, rel=0.02) and high["m"].mean() == pytest.approx(2, abs=0.01)
    assert (Store.initialised(parameters, 4, np.float32).vector != low.vector).any()
