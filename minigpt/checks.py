"""One-line complaints: what a value must be, said the same way everywhere."""

import dataclasses
import math
import numbers

from minigpt.errors import MinigptError

NAMED = 10  # things that a message names, of many


def whole(name, value, *, at_least=None, at_most=None):
    """A whole number within limits -> int. MinigptError names it, its value and the limits; True
    and 1.0 are none.
    """
    right = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (right and within(value, at_least, at_most)):
        raise MinigptError(f"{name} is {shortened(value)}, it must be a whole number{limits(at_least, at_most)}")
    return int(value)


def number(name, value, *, at_least=None, at_most=None, below=None):
    """A finite number within limits, the last one excluded -> as it is. MinigptError names it, its
    value and the limits.
    """
    right = isinstance(value, numbers.Real) and not isinstance(value, bool) and is_finite(value)
    if not (right and within(value, at_least, at_most) and (below is None or value < below)):
        under = "" if below is None else f"{' of' if at_least is None else ' and'} less than {below}"
        raise MinigptError(f"{name} is {shortened(value)}, it must be a number{limits(at_least, at_most)}{under}")
    return value


def one_of(name, value, allowed):
    """One of a few values -> that one. MinigptError names it, its value and those allowed; 1 is not
    True.
    """
    for choice in allowed:
        if isinstance(value, bool) == isinstance(choice, bool) and is_equal(value, choice):
            return choice
    choices = f"one of {', '.join(map(str, allowed))}" if len(allowed) > 1 else repr(*allowed)
    raise MinigptError(f"{name} is {shortened(value)}, it must be {choices}")


def flag(name, value):
    """True or False -> as it is. MinigptError names anything else."""
    if not isinstance(value, bool):
        raise MinigptError(f"{name} is {shortened(value)}, it must be true or false")
    return value


def shortened(value, longest=80):
    """repr of a value in one line; of a long one the beginning, and how long it is.

    >>> shortened("x" * 5000, 10)
    "'xxxxxxxxxx...' (5,000 characters)"
    """
    if isinstance(value, str) and len(value) > longest:
        quoted = repr(value[:longest])
        return f"{quoted[:-1]}...{quoted[-1]} ({len(value):,} characters)"
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a number of more digits than Python prints, lists in lists in lists
        return f"a number of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    if len(text) <= longest:
        return text
    size = f"{len(value):,} entries" if isinstance(value, list | tuple | dict) else f"{len(text):,} characters"
    return f"{text[:longest]}... ({size})"


def listed(names, most=NAMED):
    """Names in a row, and how many more there are.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    names = [str(name) for name in names]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def is_finite(value):
    """Whether a real number is neither NaN nor infinite, nor an int too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_equal(value, choice):
    """value == choice as one bool: of arrays and the like False."""
    return isinstance(value, str | numbers.Real | type(None)) and value == choice


def within(value, at_least, at_most):
    """Whether a number lies within limits, None for none."""
    return (at_least is None or value >= at_least) and (at_most is None or value <= at_most)


def limits(at_least, at_most):
    """Limits in words, with a space before them."""
    if at_least is not None and at_most is not None:
        return f" from {at_least} to {at_most}"
    if at_least is not None:
        return f" of at least {at_least}"
    return "" if at_most is None else f" of at most {at_most}"


# Configs: frozen dataclasses whose fields are checked when they are made

LARGEST_SIZE = 2**63 - 1  # what an array can count, and what estimates of memory can be printed for


def setting(help, default=dataclasses.MISSING):
    """A field of a config that says what it is, for those who read the class and for the command
    line's help: field.metadata["help"].
    """
    return dataclasses.field(default=default, metadata={"help": help})


def check_fields(config, sizes=(), fractions=(), *, flags=(), choices=None):
    """Check a config's fields. MinigptError names the field, the value and the limit.

    sizes: names of integers of at least 1; fractions: of numbers in [0, 1); flags: of bools;
    choices: name -> allowed values.
    """
    for name in sizes:
        value = whole(name, getattr(config, name), at_least=1)
        if value > LARGEST_SIZE:
            raise MinigptError(f"{name} is a number of {value.bit_length()} bits, it must be less than 2**63")
        object.__setattr__(config, name, value)  # a plain int where it was one of NumPy's
    for name in fractions:
        number(name, getattr(config, name), at_least=0, below=1)
    for name in flags:
        flag(name, getattr(config, name))
    for name, allowed in (choices or {}).items():
        one_of(name, getattr(config, name), allowed)


def config_from_dict(config_class, values):
    """A config from a dict read from a file. MinigptError for a key that the class does not have,
    or one that it needs and is missing.
    """
    known = [field.name for field in dataclasses.fields(config_class)]
    for key in values:
        if key not in known:
            raise MinigptError(
                f"unknown config key {shortened(key)}; {config_class.__name__} has {', '.join(sorted(known))}"
            )
    for field in dataclasses.fields(config_class):
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise MinigptError(f"{config_class.__name__}: {field.name} is missing")
    return config_class(**values)
