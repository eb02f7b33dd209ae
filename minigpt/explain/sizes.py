"""From a family's name, one of its sizes or a folder to a config: no numbers are read or made."""

import dataclasses

from minigpt import hub, models
from minigpt.errors import MinigptError
from minigpt.explain.counts import PARTS, count_by_part


def sized(family, size=None):
    """The config of one of a family's sizes by its name, of the first one unless given.

    MinigptError for a size that the family does not have.
    """
    size = next(iter(family.sizes)) if size is None else size
    if size not in family.sizes:
        raise MinigptError(f"size is {size!r}, it must be one of {', '.join(family.sizes)}")
    return models.family(family.model_type).config_class(**family.sizes[size])


def config_of_folder(directory, families):
    """The family and config of a model's folder, of ours or of transformers: -> one of families,
    config.

    MinigptError for a folder that holds none, and for a family that has no table.
    """
    if hub.is_huggingface(directory):
        config = hub.describe(directory)["config"]
        kinds = {family.name: models.family(family.model_type) for family in families}
        found = (name for name, kind in kinds.items() if kind.config_class is type(config))
        name = next(found, type(config).__name__.removesuffix("Config"))
    else:
        kind, config, _ = models.read_config(directory)
        name = next((f.name for f in families if f.model_type == kind.model_type), kind.model_type)
    by_name = {family.name: family for family in families}
    if name not in by_name:
        raise MinigptError(f"{directory} holds a {name}, there are tables of {', '.join(by_name)}")
    return by_name[name], config


def blocks_of(family, config):
    """How many blocks each stack of a config has; a number that is None is the first stack's."""
    numbers = [getattr(config, name) for name in family.blocks]
    return [numbers[0] if n is None else n for n in numbers]


def with_blocks(family, config, numbers):
    """The same config with so many blocks in each stack."""
    changes = dict(zip(family.blocks, numbers, strict=True))
    if hasattr(config, "attention_layers"):  # a word a block
        changes["attention_layers"] = None
    return dataclasses.replace(config, **changes)


def counts_of(family, config):
    """How many numbers each part of a family's model learns: dict of part -> number.

    Two blocks of a stack are wired and not all of them, as a config's own num_parameters does it.
    """
    kind, numbers = models.family(family.model_type), blocks_of(family, config)

    def counted(*blocks):
        return count_by_part(kind.parameter_shapes(with_blocks(family, config, blocks)))

    ones = [1] * len(numbers)
    counts = one = counted(*ones)
    for i, n in enumerate(numbers):
        two = counted(*ones[:i], 2, *ones[i + 1 :])
        counts = {part: counts[part] + (n - 1) * (two[part] - one[part]) for part in PARTS}
    return counts


def with_head(config, head):
    """The same config with another head."""
    return dataclasses.replace(config, head=head)
