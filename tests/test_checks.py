import dataclasses
import pickle

import numpy as np
import pytest

from minigpt import MinigptError, checks
from minigpt.checks import check_fields, config_from_dict, flag, number, one_of, setting, shortened, whole
from minigpt.errors import LONGEST, one_line


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = setting("how large")
    rate: float = setting("how much", 0.5)
    on: bool = setting("whether", True)
    kind: str = setting("which", "a")

    def __post_init__(self):
        check_fields(self, ("size",), ("rate",), flags=("on",), choices={"kind": ("a", "b")})


@pytest.mark.parametrize("text", ["a\nb", "a\r\x1b[2Jb", "\udc80", "\u2028", "\x85", "\u202e", "a\0", "\x7f"])
def test_message_is_one_line_that_a_terminal_can_take(text):
    message = str(MinigptError(f"file {text}: it is gone"))
    assert message.isprintable()
    assert message.encode("utf-8") and len(message.splitlines()) == 1
    assert message.startswith("file ") and message.endswith(": it is gone")


def test_message_keeps_what_can_be_read():
    assert str(MinigptError("Dateiname ü, 名前 😀: C:\\temp\\n")) == "Dateiname ü, 名前 😀: C:\\temp\\n"


@pytest.mark.parametrize("text", ["x" * 10**7, "\0" * 10**6, "\udc80" * 1_001, "x" * 999 + "\n", "x" * 1_001])
def test_long_message_keeps_its_beginning_and_its_end(text):
    message = str(MinigptError(f"the thing {text} the limit"))
    assert len(message) <= LONGEST
    assert message.startswith("the thing ") and message.endswith(" the limit")


def test_message_of_a_message_is_the_same():
    once = MinigptError("a\n" * 900)
    assert str(MinigptError(str(once))) == str(once) == str(pickle.loads(pickle.dumps(once))) == one_line(once)
    assert str(MinigptError()) == ""


class Odd:
    def __repr__(self):
        return "an\nodd   one"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        (True, "True"),
        (None, "None"),
        (2**70, "1180591620717411303424"),
        (Odd(), "an odd one"),
        ("x" * 5000, "'" + "x" * 80 + "...' (5,000 characters)"),
        ("'" * 90, '"' + "'" * 80 + '..." (90 characters)'),
        ("\n" * 90, "'" + "\\n" * 80 + "...' (90 characters)"),
        ([0] * 5000, "[" + "0, " * 26 + "0... (5,000 entries)"),
        (10**4000, "1" + "0" * 79 + "... (4,001 characters)"),
    ],
)
def test_shortened(value, text):
    assert shortened(value) == text


def test_shortened_of_what_has_no_repr():
    assert shortened(1 << 10**5) == "a number of 100,001 bits"
    value = []
    for _ in range(10**5):
        value = [value]
    assert shortened(value) == "a list"


@pytest.mark.parametrize("value", [0, 7, 2**62, np.int64(3), np.uint8(3)])
def test_whole_number(value):
    assert whole("n", value, at_least=0, at_most=2**62) == value
    assert type(whole("n", value)) is int


@pytest.mark.parametrize("value", [True, 1.0, np.float64(1), "1", None, [1], float("nan"), np.bool_(True)])
def test_what_is_no_whole_number(value):
    with pytest.raises(MinigptError, match=r"^n is .*, it must be a whole number of at least 0$"):
        whole("n", value, at_least=0)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"at_least": 3}, "of at least 3"),
        ({"at_most": 1}, "of at most 1"),
        ({"at_least": 3, "at_most": 4}, "from 3 to 4"),
    ],
)
def test_limits_are_in_the_message(limits, words):
    for check, noun in ((whole, "whole number"), (number, "number")):
        with pytest.raises(MinigptError, match=f"^n is 2, it must be a {noun} {words}$"):
            check("n", 2, **limits)
    assert whole("n", 3, at_least=3, at_most=3) == number("n", 3, at_least=3, at_most=3) == 3


def test_number():
    assert number("x", 0.5) == 0.5
    assert number("x", 1, at_least=1) == 1
    assert number("x", np.float32(0.5), below=1) == 0.5
    for value in (True, "0.5", None, float("nan"), float("inf"), 10**400, 1j, [0.5]):
        with pytest.raises(MinigptError, match=r"^x is .*, it must be a number of at least 0 and less than 1$"):
            number("x", value, at_least=0, below=1)
    for value in (1, 1.0, -0.1):
        with pytest.raises(MinigptError, match="less than 1"):
            number("x", value, at_least=0, below=1)
    with pytest.raises(MinigptError, match="it must be a number of less than 1"):
        number("x", 2, below=1)


def test_one_of():
    assert one_of("x", "a", ("a", "b")) == "a"
    assert one_of("x", 1e-5, (1e-5,)) == 1e-5
    assert one_of("x", None, (None, "a")) is None
    assert one_of("x", True, (True,)) is True
    for value in ("c", ["a"], {}, None, 0, np.array(["a", "b"])):
        with pytest.raises(MinigptError, match=r"^x is .*, it must be one of a, b$"):
            one_of("x", value, ("a", "b"))
    with pytest.raises(MinigptError, match="x is 1, it must be True"):
        one_of("x", 1, (True,))
    with pytest.raises(MinigptError, match="x is False, it must be 0"):
        one_of("x", False, (0,))


def test_flag():
    assert flag("x", True) is True
    for value in (1, 0, "true", None, []):
        with pytest.raises(MinigptError, match=r"^x is .*, it must be true or false$"):
            flag("x", value)


def test_config_says_what_its_fields_are():
    assert [field.metadata["help"] for field in dataclasses.fields(Config)] == [
        "how large",
        "how much",
        "whether",
        "which",
    ]
    assert dataclasses.asdict(Config(np.int64(3))) == {"size": 3, "rate": 0.5, "on": True, "kind": "a"}
    assert type(Config(np.int64(3)).size) is int  # which json can write


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size is 0, it must be a whole number of at least 1"),
        ({"size": 2**70}, r"size is a number of 71 bits, it must be less than 2\*\*63"),
        ({"size": 1, "rate": 1.0}, "rate is 1.0, it must be a number of at least 0 and less than 1"),
        ({"size": 1, "on": 1}, "on is 1, it must be true or false"),
        ({"size": 1, "kind": ["a"]}, r"kind is \['a'\], it must be one of a, b"),
        ({"size": 1, "sizes": 1}, "unknown config key 'sizes'; Config has kind, on, rate, size"),
        ({"rate": 0}, "Config: size is missing"),
    ],
)
def test_config_from_a_wrong_dict(values, message):
    with pytest.raises(MinigptError, match=message):
        config_from_dict(Config, values)


def test_largest_size_is_what_an_array_can_count():
    assert Config(2**63 - 1).size == checks.LARGEST_SIZE
