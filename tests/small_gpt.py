"""The small model that most tests look at."""

import numpy as np

from minigpt.models.recipe_gpt import gpt_or_recipe

SIZES = {"vocab_size": 11, "block_size": 9, "n_layer": 2, "n_head": 3, "n_embd": 12}


def small_gpt(rng=None, *, std=0.5, dtype=np.float64, seed=1, **changes):
    """A GPT of SIZES, or a RecipeGPT where `changes` ask for one;
    with weights of normal(0, std) where a generator is given.
    """
    family, config = gpt_or_recipe(SIZES | changes)
    model = family(config, seed, dtype)
    if rng is not None:  # small weights, such as the initial ones, would hide wrong gradients
        model.store.vector[:] = std * rng.standard_normal(model.num_parameters)
    return model
