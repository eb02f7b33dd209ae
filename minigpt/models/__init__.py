"""The families of models, and loading one from a checkpoint."""

import importlib

from minigpt import checkpoint

FAMILIES = {"gpt": "minigpt.models.gpt"}  # model_type in config.json -> module, imported when it is used


def family(model_type):
    """The class of models of a family: the one in its module that bears its model_type."""
    module = importlib.import_module(FAMILIES[model_type])
    return next(kind for kind in vars(module).values() if getattr(kind, "model_type", None) == model_type)


def load(directory):
    """The model in a checkpoint folder, in the dtype that it was saved in.

    MinigptError, before memory is taken, for: a folder without a checkpoint, a format version newer than this program's, an
    unknown or impossible config key, a file that is truncated or not safetensors, a tensor that is missing, extra, misshapen or
    of another dtype; and after reading, for values that are not finite.
    """
    manifest = checkpoint.read_manifest(directory)
    kind = family(manifest.one_of("model_type", tuple(FAMILIES)))
    config = manifest.config(kind.config_class, beside=checkpoint.OWN_KEYS)
    return kind(config, store=checkpoint.load_parameters(directory, manifest, config, kind.parameter_shapes))
