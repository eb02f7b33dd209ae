"""Mistakes planted in GPT-Neo's wiring."""

from minigpt.museum.families import golden_gpt_neo, gpt_neo_gradients, gpt_neo_initial_weights, gpt_neo_numbers
from minigpt.museum.planting import Edit, other

EXHIBITS = [
    other(
        "GPT-Neo: the first block local, not global",
        Edit("models.gpt_neo", "GPTNeoConfig.window", "[layer % 2]", "[1 - layer % 2]"),
        "golden: loss of Hugging Face's GPT-Neo", golden_gpt_neo, "loss",
        "none in training from scratch; a checkpoint from elsewhere gives a high loss on long texts alone",
        gpt_neo_gradients,
    ),
    other(
        "GPT-Neo: scores divided by sqrt(D), both ways",
        Edit("models.gpt_neo", "GPTNeo.wire", '"scale": 1.0', '"scale": None'),
        "golden: loss of Hugging Face's GPT-Neo", golden_gpt_neo, "loss",
        "none in training from scratch; a checkpoint from elsewhere attends too evenly and rambles",
        gpt_neo_gradients,
    ),
    other(
        "GPT-Neo: biases for q, k and v",
        Edit("models.gpt_neo", "GPTNeo.wire", '"qkv_bias": False', '"qkv_bias": True'),
        "accounting: numbers of gpt-neo-125m", gpt_neo_numbers, "gpt-neo-125m, a narrow MLP",
        "none: they start at zero; a checkpoint from elsewhere has no tensors for them", gpt_neo_gradients,
    ),
    other(
        "GPT-Neo: an intermediate_size of its own ignored",
        Edit(
            "models.gpt_neo", "GPTNeo.wire",
            "config.intermediate_size or 4 * config.hidden_size", "4 * config.hidden_size",
        ),
        "accounting: numbers of a narrow MLP", gpt_neo_numbers, "a narrow MLP",
        "none, but the model is larger than it was asked to be", gpt_neo_gradients,
    ),
    other(
        "GPT-Neo: residual projections scaled down as GPT-2's",
        Edit("models.gpt_neo", "GPTNeo.wire", "activation=c.activation, dropout=c.dropout",
             "activation=c.activation, dropout=c.dropout, residual_std=0.02 / (2 * c.num_layers) ** 0.5"),
        "golden: GPT-Neo's initial deviations", gpt_neo_initial_weights, "c_proj",
        "none: it starts a little more quietly", gpt_neo_gradients,
    ),
]  # fmt: skip
