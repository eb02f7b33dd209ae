"""One row a family, and one a setting that changes its wiring, for test_families.py."""

from dataclasses import replace

import numpy as np

from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.gpt_neo import GPTNeo, GPTNeoConfig
from minigpt.models.recipe_gpt import RecipeGPT, RecipeGPTConfig

VOCABULARY, POSITIONS = 11, 9
GPT_SIZES = {"vocab_size": VOCABULARY, "block_size": POSITIONS, "n_layer": 2, "n_head": 2, "n_embd": 8}
NEO_SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "hidden_size": 6, "num_layers": 2}
NEO_SIZES |= {"num_heads": 2, "window_size": 3}
ALL_LOCAL = {"attention_layers": ("local", "local"), "intermediate_size": 10, "activation": "relu"}

CAUSAL = {  # name of a row -> model, config: each predicts the next of VOCABULARY tokens and sees POSITIONS of them
    "gpt": (GPT, GPTConfig(**GPT_SIZES)),
    "gpt untied": (GPT, GPTConfig(**GPT_SIZES, tie_embeddings=False, bias=False, activation="relu")),
    "recipe_gpt": (RecipeGPT, RecipeGPTConfig(**GPT_SIZES)),
    "recipe_gpt rotary": (RecipeGPT, RecipeGPTConfig(**GPT_SIZES, smear=False, qk_norm=False)),
    "recipe_gpt smear": (RecipeGPT, RecipeGPTConfig(**GPT_SIZES, positions="learned", qk_norm=False)),
    "gpt_neo": (GPTNeo, GPTNeoConfig(**NEO_SIZES)),
    "gpt_neo untied": (GPTNeo, GPTNeoConfig(**NEO_SIZES, **ALL_LOCAL, tie_embeddings=False)),
}


def random_model(row, rng, dtype=np.float64, **changes):
    """A row's model with O(1) weights: small ones, as the initial, would hide wrong gradients."""
    family, config = CAUSAL[row]
    model = family(replace(config, **changes), seed=1, dtype=dtype)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model
