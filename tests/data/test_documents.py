import numpy as np

from minigpt.data import plays, split_each
from minigpt.data.documents import FIRST_LINES


def shakespeare():
    """Nine short plays, each with its true first line."""
    return [f"{line}\n{'And so it goes. ' * (5 + i)}\n" for i, line in enumerate(FIRST_LINES.values())]


def test_plays_are_found_by_their_first_lines():
    nine = shakespeare()
    assert plays("".join(nine)) == nine
    assert plays("".join(nine[:8])) == ["".join(nine[:8])]
    assert plays("".join(nine[::-1])) == ["".join(nine[::-1])]
    assert plays("Some other text.") == ["Some other text."]


def test_the_last_tenth_of_each_text_is_held_out():
    train, held_out = split_each(["abcdefghij" * 3, "0123456789"])
    assert (train, held_out) == (["abcdefghij" * 2 + "abcdefg", "012345678"], ["hij", "9"])
    whole = shakespeare()
    train, held_out = split_each(whole)
    assert [a + b for a, b in zip(train, held_out)] == whole
    np.testing.assert_allclose([len(b) / len(w) for b, w in zip(held_out, whole)], 0.1, atol=0.01)
