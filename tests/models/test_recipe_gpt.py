"""What RecipeGPT alone has; test_families.py holds it to what all families are held to."""

import numpy as np
import pytest

from minigpt import GPT, GPTConfig, MinigptError, RecipeGPT, RecipeGPTConfig
from minigpt.models.recipe_gpt import SWITCHED_OFF, gpt_or_recipe

SIZES = {"vocab_size": 11, "block_size": 9, "n_layer": 3, "n_head": 2, "n_embd": 12}


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"tie_embeddings": False, "activation": "silu"}], ids=str)
def test_all_switched_off_it_is_a_gpt_to_the_bit(settings, rng):
    """Initial weights, loss and gradients, dropout included."""
    settings = SIZES | {"dropout": 0.2} | settings
    recipe, gpt = RecipeGPT(RecipeGPTConfig(**settings, **SWITCHED_OFF), 3), GPT(GPTConfig(**settings), 3)
    assert list(recipe.parameters) == list(gpt.parameters)
    np.testing.assert_array_equal(recipe.store.vector, gpt.store.vector)
    ids, targets = rng.integers(0, 11, (2, 4, 9))
    (loss, grads), (expected, right) = (m.loss_and_grads(ids, targets, np.random.default_rng(1)) for m in (recipe, gpt))
    assert loss == expected
    for name, value in right.items():
        np.testing.assert_array_equal(grads[name], value)


@pytest.mark.parametrize("settings", [{}, {"positions": "learned"}, {"smear": False}, {"bias": False}], ids=str)
def test_initial_weights_are_as_wide_as_a_gpts(settings):
    sizes = SIZES | {"vocab_size": 300, "block_size": 200, "n_layer": 8, "n_embd": 64}
    recipe, gpt = RecipeGPT(RecipeGPTConfig(**sizes | settings)), GPT(GPTConfig(**sizes))
    for name, value in recipe.parameters.items():
        if name == "smear.weight":
            assert not value.any()  # nothing is smeared at first
        else:
            assert value.std() == pytest.approx(gpt.parameters[name].std(), rel=0.1), name
            assert value.mean() == pytest.approx(gpt.parameters[name].mean(), abs=0.002), name


def test_defaults_are_the_recipe():
    config = RecipeGPTConfig(**SIZES)
    assert (config.positions, config.qk_norm, config.smear) == ("rotary", True, True)
    parameters = RecipeGPT(config).parameters
    assert "wpe.weight" not in parameters and parameters["smear.weight"].shape == (12,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": "sinusoidal"}, "positions is 'sinusoidal', it must be one of learned, rotary"),
        ({"qk_norm": 1}, "qk_norm is 1, it must be true or false"),
        ({"smear": "yes"}, "smear is 'yes', it must be true or false"),
        ({"n_head": 4, "n_embd": 12}, "n_embd / n_head is 3, it must be even for rotary positions"),
        ({"n_head": 5}, "n_embd is 12, it must be a multiple of n_head, which is 5"),
    ],
)
def test_config_says_what_is_wrong(settings, message):
    with pytest.raises(MinigptError, match=message):
        RecipeGPTConfig(**SIZES | settings)


def test_odd_heads_are_fine_with_learned_positions():
    assert RecipeGPTConfig(**SIZES | {"n_head": 4, "positions": "learned"}).n_head == 4


@pytest.mark.parametrize(
    ("fields", "family"),
    [
        ({}, GPT),
        (SWITCHED_OFF, GPT),
        ({"positions": "rotary"}, RecipeGPT),
        ({"qk_norm": True}, RecipeGPT),
        ({"smear": True, "positions": "learned"}, RecipeGPT),
    ],
)
def test_fields_say_which_of_both_it_is(fields, family):
    kind, config = gpt_or_recipe(SIZES | fields)
    assert kind is family and type(config) is family.config_class
    if family is RecipeGPT:
        found = {name: getattr(config, name) for name in SWITCHED_OFF}
        assert found == SWITCHED_OFF | {name: value for name, value in fields.items() if name in SWITCHED_OFF}
