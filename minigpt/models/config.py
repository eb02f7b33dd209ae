"""Checks that every family's config shares."""

from dataclasses import fields

from minigpt.errors import MinigptError


def check_fields(config, sizes=(), fractions=(), flags=(), choices=None):
    """Check a config's fields. MinigptError names the field, the value and the limit.

    sizes: names of integers of at least 1; fractions: of numbers in [0, 1); flags: of bools; choices: name -> allowed values.
    """
    for name in sizes:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MinigptError(f"{name} is {value!r}, it must be a whole number of at least 1")
        if value >= 2**63:  # beyond what an array can count, and what estimates of memory can be printed for
            raise MinigptError(f"{name} is a number of {value.bit_length()} bits, it must be less than 2**63")
    for name in fractions:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise MinigptError(f"{name} is {value!r}, it must be a number of at least 0 and less than 1")
    for name in flags:
        if not isinstance(getattr(config, name), bool):
            raise MinigptError(f"{name} is {getattr(config, name)!r}, it must be true or false")
    for name, allowed in (choices or {}).items():
        if getattr(config, name) not in allowed:
            raise MinigptError(f"{name} is {getattr(config, name)!r}, it must be one of {', '.join(allowed)}")


def config_from_dict(config_class, values):
    """A config from a dict read from a file. MinigptError for a key that the class does not have, or one that it needs and is missing."""
    known = {field.name for field in fields(config_class)}
    for key in values:
        if key not in known:
            raise MinigptError(f"unknown config key {key!r}; {config_class.__name__} has {', '.join(sorted(known))}")
    try:
        return config_class(**values)
    except TypeError as error:  # a field without a default
        raise MinigptError(f"{config_class.__name__}: {error}") from None
