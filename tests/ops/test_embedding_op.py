import numpy as np
import pytest

from minigpt.gradcheck import check_op
from minigpt.ops import embedding_backward, embedding_forward, unembedding_backward, unembedding_forward

V, C = 6, 5


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint16])
@pytest.mark.parametrize("ids", [[0], [3, 3, 3], [[0, 5, 2], [5, 5, 0]], [[[1], [4]]]])
def test_embedding_is_onehot_product(ids, dtype, rng):
    ids = np.array(ids, dtype)
    weight, dy, onehot = rng.standard_normal((V, C)), rng.standard_normal((*ids.shape, C)), np.eye(V)[ids]
    y, cache = embedding_forward(ids, weight)
    np.testing.assert_array_equal(y, onehot @ weight)
    np.testing.assert_allclose(
        embedding_backward(dy, cache), onehot.reshape(-1, V).T @ dy.reshape(-1, C), rtol=1e-14, atol=1e-15
    )


def test_embedding_gradients_with_repeated_ids(rng):
    ids = rng.integers(0, V, (3, 7))
    assert len(np.unique(ids)) < ids.size
    assert (
        check_op(lambda w, i: embedding_forward(i, w), embedding_backward, (rng.standard_normal((V, C)), ids)).max_error
        < 1e-13
    )


def test_embedding_does_not_share_memory_with_the_table(rng):
    weight = rng.standard_normal((V, C))
    assert not np.shares_memory(embedding_forward(np.array([0, 1]), weight)[0], weight)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_unembedding_gradients(leading, rng):
    x, weight, bias = (rng.standard_normal(shape) for shape in ((*leading, C), (V, C), V))
    for given in ((x, weight, None), (x, weight, bias)):
        assert check_op(unembedding_forward, unembedding_backward, given).max_error < 1e-13
    np.testing.assert_allclose(unembedding_forward(x, weight)[0], x @ weight.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(unembedding_forward(x, weight, bias)[0], x @ weight.T + bias, rtol=1e-12, atol=1e-14)
