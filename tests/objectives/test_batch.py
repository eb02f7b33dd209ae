import numpy as np
import pytest

from minigpt import MinigptError
from minigpt.objectives import Batch


@pytest.fixture
def batch(rng):
    targets = rng.integers(0, 9, (5, 3))
    targets[1:3] = -100
    return Batch({"ids": rng.integers(0, 9, (5, 3)), "targets": targets, "labels": np.arange(5)})


def test_batch_is_a_mapping_of_arrays(batch):
    assert list(batch) == ["ids", "targets", "labels"]
    assert len(batch) == 3
    assert batch.rows == 5
    assert "ids" in batch
    assert "masks" not in batch
    assert {**batch}["labels"] is batch["labels"]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_parts_are_views_cut_as_array_split_cuts_rows(batch, n):
    parts = batch.split(n)
    assert len(parts) == n
    for name, value in batch.items():
        for part, expected in zip(parts, np.array_split(value, n), strict=True):
            np.testing.assert_array_equal(part[name], expected)
            assert part.rows == len(expected)
            assert part[name].size == 0 or np.shares_memory(part[name], value)
    for name, count in batch.counts.items():
        assert sum(part.counts[name] for part in parts) == count


def test_counts_are_of_targets_that_are_not_ignored(batch):
    assert batch.counts == {"targets": 9, "labels": 5}
    assert batch.split(5)[1].counts == {"targets": 0, "labels": 1}
    ones = np.ones(2, int)
    arrays = {"ids": ones, "token_type_ids": ones, "ends": ones, "starts": -100 * ones, "next_sentence": ones}
    assert Batch(arrays).counts == {"ends": 2, "starts": 0, "next_sentence": 2}
    assert Batch({"ids": ones}).counts == {}


@pytest.mark.parametrize(
    "arrays", [{}, {"ids": np.ones((2, 3)), "labels": np.ones(3)}, {"ids": np.ones((2, 3)), "label": 4}]
)
def test_arrays_of_different_rows_are_named(arrays):
    with pytest.raises(
        MinigptError,
        match=r"batch: (no array|ids \(2, 3\), label.* \(3?,?\)); its arrays must have the same number of rows",
    ):
        Batch(arrays)
