import numpy as np
import pytest

from minigpt.layers.kv_cache import KVCache

B, H, SIZE, D = 4, 2, 7, 3


def filled_cache(rng, length=5):
    cache = KVCache(B, H, SIZE, D, np.float32)
    keys, values = rng.standard_normal((2, B, H, length, D)).astype(np.float32)
    cache.append(keys, values)
    return cache, keys, values


@pytest.mark.parametrize(
    "origins",
    [[0, 1, 2, 3], [0, 1, 1, 3], [3, 2, 1, 0], [1, 2, 3, 0], [0, 0, 1, 2], [2, 2], [0, 0, 0, 1, 1, 1, 3], [3]],
    ids=str,
)
def test_reorder_takes_each_row_from_its_origin(origins, rng):
    """Rows may change places, be copied over others, multiply and be left out."""
    cache, keys, values = filled_cache(rng)
    before = cache.keys
    cache.reorder(np.array(origins))
    assert (cache.keys is before) == (len(origins) == B)
    for found, expected in zip(cache.filled(), (keys, values)):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected[origins])
    new = rng.standard_normal((len(origins), H, 2, D)).astype(np.float32)
    found, _ = cache.append(new, new)
    np.testing.assert_array_equal(found, np.concatenate([keys[origins], new], axis=2))
    assert cache.scores.shape == (len(origins), H, 1, 7)
    with pytest.raises(ValueError, match="room for 7 tokens, 8 were given"):
        cache.append(new[:, :, :1], new[:, :, :1])


def test_reorder_copies_no_row_that_stays(rng):
    cache, *_ = filled_cache(rng)
    cache.keys[:, :, 5:] = 9  # not filled: of no row that is copied
    cache.reorder(np.array([0, 0, 2, 3]))
    assert (cache.keys[:, :, 5:] == 9).all()


def test_make_room_keeps_what_there_is(rng):
    cache, keys, values = filled_cache(rng)
    cache.make_room(20)
    assert cache.keys.shape == (B, H, 20, D) and cache.length == 5 and cache.scores_buffer.size == B * H * 20
    for found, expected in zip(cache.filled(), (keys, values)):
        np.testing.assert_array_equal(found, expected)
