"""The families of models, and loading one from a checkpoint."""

import importlib

from minigpt import checkpoint

FAMILIES = {  # model_type in config.json -> module, imported when it is used
    "bert": "minigpt.models.bert",
    "gpt": "minigpt.models.gpt",
    "gpt_neo": "minigpt.models.gpt_neo",
    "roberta": "minigpt.models.roberta",
    "recipe_gpt": "minigpt.models.recipe_gpt",
    "t5": "minigpt.models.t5",
}


def family(model_type):
    """The class of models of a family: the one in its module that bears its model_type."""
    module = importlib.import_module(FAMILIES[model_type])
    return next(kind for kind in vars(module).values() if getattr(kind, "model_type", None) == model_type)


def load(directory):
    """The model in a checkpoint folder, in the dtype that it was saved in.

    MinigptError, before memory is taken, for: a folder without a checkpoint, a format version newer
    than this program's, an unknown or impossible config key, a file that is truncated or not
    safetensors, a tensor that is missing, extra, misshapen or of another dtype; and after reading,
    for values that are not finite.
    """
    kind, config, manifest = read_config(directory)
    return kind(config, store=checkpoint.load_parameters(directory, manifest, config, kind.parameters_of))


def read_config(directory):
    """What a checkpoint folder holds, without its numbers -> the family's class, the config, the
    manifest. MinigptError as for load.
    """
    manifest = checkpoint.read_manifest(directory)
    model_type, beside = manifest.one_of("model_type", tuple(FAMILIES)), checkpoint.OWN_KEYS
    if model_type == "gpt":
        model_type, beside = earlier_gpt(manifest)
    kind = family(model_type)
    return kind, manifest.config(kind.config_class, beside=beside), manifest


def earlier_gpt(manifest):
    """What a folder of a gpt holds -> model_type, and the keys that are not of its config.

    Earlier versions called a RecipeGPT a gpt, too.
    """
    rotary = manifest.one_of("positions", ("learned", "rotary"), default="learned") == "rotary"
    switches = [manifest.flag(key, default=False) for key in ("qk_norm", "smear")]
    if rotary or any(switches):
        return "recipe_gpt", checkpoint.OWN_KEYS
    return "gpt", (*checkpoint.OWN_KEYS, "positions", "qk_norm", "smear")
