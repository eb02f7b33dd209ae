import numpy as np
import pytest
from lifted_casts import lift_casts

import minigpt
from minigpt import GPT, GPTConfig, GPTNeo, GPTNeoConfig, MinigptError

B, T, V = 3, 8, 11
SIZES = {"vocab_size": V, "max_position_embeddings": 9, "hidden_size": 6, "num_layers": 3, "num_heads": 2}
SETTINGS = [
    {},
    {"intermediate_size": 10, "activation": "relu"},
    {"attention_layers": ("local", "local", "global"), "window_size": 1, "tie_embeddings": False},
]


def small_gpt_neo(rng, dtype=np.float64, **changes):
    """A small GPTNeo with O(1) weights."""
    model = GPTNeo(GPTNeoConfig(**SIZES | {"window_size": 3} | changes), seed=1, dtype=dtype)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model


@pytest.fixture
def batch(rng):
    return rng.integers(0, V, (2, B, T))


def test_gpt_neo_layers_see_the_whole_text_and_a_window_by_turns(batch, rng):
    model = small_gpt_neo(rng, dtype=np.float32)
    _, cache = model.forward(batch[0])
    distance = np.arange(T)[:, None] - np.arange(T)
    for block, kind in zip(cache.blocks, ("global", "local", "global")):
        seen = (distance >= 0) & (distance < (3 if kind == "local" else T))
        np.testing.assert_array_equal(block.attn.weights[0, 0] > 0, seen)


def test_gpt_neo_defaults():
    """Those of Hugging Face's config, and an MLP of four times the width."""
    config = GPTNeoConfig(**SIZES)
    found = config.window_size, config.tie_embeddings, config.dropout, config.activation
    assert found == (256, True, 0.0, "gelu_tanh")
    parameters = GPTNeo(config).parameters
    assert parameters["h.0.mlp.c_fc.weight"].shape == (6, 24) and "lm_head.weight" not in parameters


def test_gpt_neo_that_sees_all_is_a_gpt_of_larger_queries(batch, rng):
    """GPT-2 divides scores by sqrt(D): with queries that much larger, and q, k, v without biases,
    both are one function.
    """
    model = small_gpt_neo(rng, attention_layers=("global",) * 3)
    gpt = GPT(GPTConfig(V, 9, n_layer=3, n_head=2, n_embd=6), dtype=np.float64)
    for name, value in gpt.parameters.items():
        value[...] = 0 if name.endswith("c_attn.bias") else model.parameters[name]
        if name.endswith("c_attn.weight"):
            value[:, :6] *= np.sqrt(3)
    np.testing.assert_allclose(gpt.logits(batch[0]), model.logits(batch[0]), rtol=1e-11, atol=1e-12)


def test_gpt_neo_scores_are_not_scaled(batch, rng):
    model = small_gpt_neo(rng)
    _, cache = model.forward(batch[0])
    first = cache.blocks[0].attn.attention
    scores = np.einsum("bhtd,bhsd->bhts", first.q, first.k)
    expected = np.where(np.tri(T, dtype=bool), np.exp(scores), 0)
    np.testing.assert_allclose(cache.blocks[0].attn.weights, expected / expected.sum(-1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 4}, "hidden_size is 6, it must be a multiple of num_heads, which is 4"),
        ({"window_size": 0}, "window_size is 0, it must be a whole number of at least 1"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        (
            {"attention_layers": ("global", "local")},
            "attention_layers is .*, it must be a list of num_layers = 3 words",
        ),
        ({"attention_layers": "local"}, "attention_layers is 'local', it must be a list"),
        (
            {"attention_layers": ("global", "near", "local")},
            r"attention_layers\[1\] is 'near', it must be one of global, local",
        ),
        ({"attention_layers": ("global", [], "local")}, r"attention_layers\[1\] is \[\]"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"activation": "mish"}, "activation is 'mish'"),
    ],
)
def test_gpt_neo_config_says_what_is_wrong(changes, message):
    with pytest.raises(MinigptError, match=message):
        GPTNeoConfig(**SIZES | changes)


@pytest.mark.parity
@pytest.mark.parametrize("lifted", [True, False])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gpt_neo_equals_transformers(settings, lifted, tmp_path, batch, rng, monkeypatch):
    """Logits, loss and every gradient: to 1e-10 without their casts to float32, to 1e-5 with."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from transformers.models.gpt_neo import modeling_gpt_neo

    if lifted:
        lift_casts(monkeypatch, modeling_gpt_neo, "query = query.to(torch.float32)", "key = key.to(torch.float32)")
    limit = 1e-10 if lifted else 1e-5
    model = small_gpt_neo(rng, **settings)
    minigpt.to_huggingface(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    ids, targets = batch
    logits = theirs(torch.tensor(ids)).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    expected.backward()
    logits = logits.detach().numpy()
    assert np.abs(model.logits(ids) - logits).max() < limit * np.abs(logits).max()
    loss, grads = model.loss_and_grads(ids, targets)
    assert loss == pytest.approx(expected.item(), rel=limit)
    gradients = minigpt.to_huggingface_names(model, grads)
    assert gradients.keys() == dict(theirs.named_parameters()).keys()
    largest = max(np.abs(value).max() for value in grads.values())
    for name, value in gradients.items():
        theirs_grad = theirs.get_parameter(name).grad.numpy()
        scale = max(np.abs(theirs_grad).max(), 1e-3 * largest)
        assert np.abs(value - theirs_grad).max() < limit * scale, name
