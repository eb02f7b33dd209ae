import numpy as np
import pytest

from minigpt import MinigptError
from minigpt.data import check_length, consecutive_batches, draw_batch, open_tokens, save_tokens, split


def test_split_is_the_last_tenth():
    train, val = split(np.arange(105))
    np.testing.assert_array_equal(np.concatenate([train, val]), np.arange(105))
    assert len(val) == 11
    assert val.base is train.base is not None


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(65, np.uint8), (256, np.uint8), (257, np.uint16), (50257, np.uint16), (100_000, np.uint32)],
)
def test_token_file_is_mapped_and_small(tmp_path, rng, vocab_size, dtype):
    tokens = rng.integers(0, vocab_size, 999)
    tokens[-1] = vocab_size - 1
    save_tokens(tmp_path / "tokens.npy", tokens, vocab_size)
    mapped = open_tokens(tmp_path / "tokens.npy")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == dtype
    np.testing.assert_array_equal(mapped, tokens)
    a, b = (draw_batch(source, 3, 7, np.random.default_rng(1)) for source in (mapped, tokens))
    np.testing.assert_array_equal(a, b)
    a, b = (list(consecutive_batches(source, 4, 10)) for source in (mapped, tokens))
    np.testing.assert_array_equal(np.concatenate(a, axis=1), np.concatenate(b, axis=1))
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.npy"]


@pytest.mark.parametrize("tokens", [[0, 65], [-1, 3], [0.5], [True], ["a"]])
def test_ids_that_are_not_in_the_vocabulary_are_not_saved(tmp_path, tokens):
    with pytest.raises(
        MinigptError, match=r"tokens\.npy: token ids are .*, some not in 0 \.\. 64, or no whole numbers"
    ):
        save_tokens(tmp_path / "tokens.npy", tokens, 65)
    assert not list(tmp_path.iterdir())


def test_token_file_that_cannot_be_written(tmp_path):
    with pytest.raises(MinigptError, match="can't be written: No such file"):
        save_tokens(tmp_path / "none" / "tokens.npy", [1], 65)
    save_tokens(tmp_path / "tokens.npy", [], 65)


def test_bad_token_files_are_named(tmp_path):
    path = tmp_path / "tokens.npy"
    with pytest.raises(MinigptError, match="no such token file"):
        open_tokens(path)
    path.write_bytes(b"no array")
    with pytest.raises(MinigptError, match=r"not a \.npy file"):
        open_tokens(path)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(MinigptError, match=r"not a \.npy file"):
        open_tokens(path)
    for array in (np.ones(5), np.ones((2, 3), int)):
        np.save(path, array)
        with pytest.raises(MinigptError, match="must be one row of whole numbers"):
            open_tokens(path)
    np.save(path, np.arange(100))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(MinigptError, match=r"not a \.npy file"):
        open_tokens(path)


def test_too_short_a_text_is_named():
    check_length(np.arange(9), 8)
    with pytest.raises(MinigptError, match=r"essay: 8 tokens, at least block_size . 1 = 9 are needed"):
        check_length(np.arange(8), 8, "essay")
