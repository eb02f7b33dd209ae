"""The observer: it sees every op that a model calls, on the thread that asked, changes no bit and
leaves everything as it was."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from observers import Recorder, assert_planted_overflows_are_named, recorded

import minigpt
from minigpt import GPT, GPTConfig, museum, observe, ops
from minigpt.layers import Linear, Store
from minigpt.models.recipe_gpt import RecipeGPT, RecipeGPTConfig
from minigpt.observe import Observer, first_not_finite, observing
from minigpt.ops.linear import linear_forward

V, T, C, H, LAYERS, B = 11, 6, 8, 2, 3, 5  # vocabulary, time, channels, heads, blocks, batch
ROOT = Path(minigpt.__file__).parent


def names_of_the_library():
    """Everything that observing changes for a while, by place."""
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("minigpt", __name__)}
    found = {(name, key): id(value) for name, module in modules.items() for key, value in vars(module).items()}
    found |= {("ACTIVATIONS", name): tuple(map(id, pair)) for name, pair in ops.ACTIVATIONS.items()}
    owners = {holder for _, holder, _ in observe.further_calls() if isinstance(holder, type)}
    for owner in owners | set(observe.layer_classes()):
        found |= {(owner, attribute): id(value) for attribute, value in vars(owner).items()}
    return found


@pytest.fixture
def model():
    return GPT(GPTConfig(V, T, LAYERS, H, C, dropout=0.1), seed=0)


@pytest.fixture
def ids(rng):
    return rng.integers(0, V, (B, T))


def test_the_example_in_the_docstring_is_true():
    assert doctest.testmod(observe).failed == 0


def functions_that_the_library_takes_from_ops():
    """Names of functions of ops that a module outside ops imports."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.relative_to(ROOT).parts[0] in ("ops", "museum"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("minigpt.ops"):
                module = importlib.import_module(node.module)
                yield from (alias.name for alias in node.names if callable(getattr(module, alias.name)))


def test_every_op_is_declared():
    """minigpt.ops.__all__ holds all that layers and models call, and all named as an op is."""
    used = {name for name in functions_that_the_library_takes_from_ops() if not name.endswith(("Cache", "Mask"))}
    assert {"linear_forward", "cross_entropy_backward", "count_targets"} <= used
    used -= {"attend", "attend_backward"}  # which choose an op to call
    used -= {"averaging"}  # a constant vector, for fast decoding
    assert used <= set(ops.__all__)
    modules = [importlib.import_module(f"minigpt.ops.{info.name}") for info in pkgutil.iter_modules(ops.__path__)]
    named = {name for module in modules for name in vars(module) if name.endswith(("_forward", "_backward"))}
    assert named - {"attend_backward"} <= set(ops.__all__)
    assert set(observe.NOT_OPS) <= set(ops.__all__)
    seen = {name for _, name, part in observe.observed_functions() if part == "ops"}
    functions = {name for name in ops.__all__ if isinstance(getattr(ops, name), types.FunctionType)}
    assert seen == functions - set(observe.NOT_OPS) | {"newest_attention"}


def test_further_calls_are_all_there():
    for _, module, _ in observe.FURTHER_CALLS:
        importlib.import_module(module)
    names = [name for _, name, part in observe.observed_functions() if part not in ("ops", "layers", "models")]
    assert sorted(names) == sorted(path for part, _, path in observe.FURTHER_CALLS if part not in ("ops", "models"))


def test_buffers_are_arguments_of_ops():
    functions = [function for function, _, part in observe.observed_functions() if part == "ops"]
    arguments = {name for function in functions for name in inspect.signature(function).parameters}
    assert set(observe.BUFFERS) <= arguments


def test_an_op_in_a_family_of_its_own_file_is_seen(rng):
    """A module that takes ops and layers by name, as this one does, needs no line for it."""

    class Doubled(Linear):
        def forward(self, p, x):
            y, cache = super().forward(p, x)
            return linear_forward(y, p[self.weight.name])[0], cache

    layer = Doubled("double", C, C)
    p = Store.initialised(layer.parameters(), 0, np.float64)
    seen = recorded(lambda: layer.forward(p, rng.standard_normal((B, C))))
    assert [(call.place, call.path) for call, _ in seen.ended] == [
        ("double: linear_forward", ("double",)),
        ("double: Linear.forward", ("double",)),
        ("double: linear_forward", ("double",)),
        ("double: Doubled.forward", ("double",)),
    ]


def test_calls_know_their_layers_arguments_and_outputs(model, ids):
    seen = recorded(lambda: model.loss_and_grads(ids, ids, np.random.default_rng(0)))
    ended = {call.place: (call, outputs) for call, outputs in seen.ended}
    call, (y, cache) = ended["h.1.attn.c_attn: linear_forward"]
    assert call.path == ("h.1", "h.1.attn", "h.1.attn.c_attn")
    assert (call.direction, call.part, y.shape) == ("forward", "ops", (B, T, 3 * C))
    assert list(call.inputs()) == ["x", "weight", "bias"]
    assert call.inputs()["weight"] is model.parameters["h.1.attn.c_attn.weight"] is cache.weight
    call, dx = ended["h.1.attn: Attention.backward"]
    assert (call.direction, call.part, dx.shape) == ("backward", "layers", (B, T, C))


def test_forward_and_backward_are_seen_in_the_order_in_which_they_run(model, ids):
    places = recorded(lambda: model.loss_and_grads(ids, ids, np.random.default_rng(0))).places()
    half = places.index("cross_entropy_forward") + 1
    assert places[half] == "cross_entropy_backward"
    forwards, backwards = places[: half - 1], places[half + 1 :]
    as_forward = [place.replace("_backward", "_forward") for place in backwards]
    assert sorted(as_forward) == sorted(forwards)
    order = [place.partition(":")[0] for place in forwards]
    assert order == [place.partition(":")[0] for place in reversed(as_forward)]
    assert places.count("h.2.mlp: gelu_tanh_forward") == places.count("h.2.mlp: gelu_tanh_backward") == 1


def test_activations_that_are_computed_again_are_seen_again(model, ids):
    places = recorded(step_of(model, ids)).places()
    assert places.count("h.1.mlp: gelu_tanh_forward") == 2
    assert places.count("h.1.mlp: gelu_tanh_backward") == places.count("wte: embedding_forward") == 1


@pytest.mark.parametrize("length", [T, 300])
def test_observed_numbers_are_the_same_to_the_bit(length, rng):
    model = GPT(GPTConfig(V, length, 1, H, C, dropout=0.1), seed=0)
    ids = rng.integers(0, V, (2, length))
    expected = model.loss_and_grads(ids, ids, np.random.default_rng(1))
    with observing(Recorder()) as recorder:
        loss, grads = model.loss_and_grads(ids, ids, np.random.default_rng(1))
    assert loss == expected[0]
    for name, value in grads.items():
        np.testing.assert_array_equal(value, expected[1][name])
    form = "attention" if length == T else "lean_attention"
    assert {f"h.0.attn: {form}_forward", f"h.0.attn: {form}_backward"} <= set(recorder.places())


def test_everything_is_put_back(model, ids):
    before = names_of_the_library()
    with pytest.raises(ZeroDivisionError), observing(Recorder()):  # noqa: PT012
        assert names_of_the_library() != before
        with observing(Recorder()):
            model.loss(ids, ids)
        late = types.ModuleType("loaded_while_somebody_observes")
        sys.modules[late.__name__] = late
        late.taken = ops.linear_forward
        assert late.taken is not before
        raise ZeroDivisionError
    assert names_of_the_library() == before
    assert sys.modules.pop(late.__name__).taken is ops.linear_forward
    assert observe.THREAD.observer is None and observe.THREAD.layers == ()
    assert observe.INSTALLATION.users == 0 and not observe.INSTALLATION.replaced


def test_an_op_that_raises_ends_all_the_same(model):
    class Depth(Observer):
        def __init__(self):
            self.depth, self.outputs = 0, []

        def enter(self, call):
            self.depth += 1

        def leave(self, call, outputs):
            self.depth -= 1
            self.outputs.append(outputs)

    with observing(Depth()) as depth:
        model.ln_f.forward(model.store, np.ones((1, 1, C)))
        with pytest.raises(ValueError, match="matmul"):
            model.blocks[0].mlp.forward(model.store, np.ones((1, 1, C + 1)))
    assert depth.depth == 0
    assert depth.outputs[-1] is None and depth.outputs[0] is not None
    assert observe.THREAD.layers == ()


def test_nothing_is_told_under_observing_none(model, ids):
    class Curious(Recorder):
        def leave(self, call, outputs):
            super().leave(call, outputs)
            with observing(None):
                model.loss(ids, ids)

    recorder = Curious()
    with observing(recorder):
        model.ln_f.forward(model.store, np.ones((1, 1, C)))
    assert recorder.places() == ["ln_f: layernorm_forward"]


def test_threads_have_observers_of_their_own(model, ids):
    here, there, calls = Recorder(), Recorder(), []

    def unobserved():
        model.loss(ids, ids)

    def observed():
        with observing(there):
            model.blocks[0].mlp.forward(model.store, np.ones((1, 1, C), np.float32))

    with observing(here):
        for target in (unobserved, observed):
            calls.append(threading.Thread(target=target))
            calls[-1].start()
            calls[-1].join()
        model.ln_f.forward(model.store, np.ones((1, 1, C), np.float32))
    assert here.places() == ["ln_f: layernorm_forward"]
    assert there.places()[0] == "h.0.mlp.c_fc: linear_forward" and len(there.places()) == 4


def test_planted_mistakes_stay_planted_and_are_observed(model, ids):
    exhibit = next(exhibit for exhibit in museum.EXHIBITS if exhibit.edits[0].function == "layernorm_forward")
    right = model.loss(ids, ids)
    with museum.planted(exhibit):
        wrong = model.loss(ids, ids)
        with observing(Recorder()) as recorder:
            assert model.loss(ids, ids) == wrong != right
        assert "ln_f: layernorm_forward" in recorder.places()
    with observing(Recorder()) as recorder:
        with museum.planted(exhibit):
            assert model.loss(ids, ids) == wrong
        assert "ln_f: layernorm_forward" in recorder.places()
        assert model.loss(ids, ids) == right
    assert model.loss(ids, ids) == right


def step_of(model, ids):
    """A function that computes a model's loss and gradients."""
    return lambda: model.add_gradients(model.store.zeros_like(), ids, ids, np.random.default_rng(0), keep="inputs")


GPT2 = GPTConfig(V, T, LAYERS, H, C, dropout=0.1, activation="gelu")
LONG_RECIPE = RecipeGPTConfig(V, 300, LAYERS, H, C, dropout=0.1, tie_embeddings=False)  # memory-lean attention


@pytest.mark.parametrize("config", [GPT2, LONG_RECIPE], ids=["GPT", "RecipeGPT"])
def test_overflow_planted_in_any_op_is_named(config, rng):
    model = GPT(config, seed=0) if config is GPT2 else RecipeGPT(config, seed=0)
    run = step_of(model, rng.integers(0, V, (2, config.block_size)))
    expected = {"linear", "layernorm", "dropout", "embedding", "cross_entropy"}
    expected |= {"lean_attention" if config is LONG_RECIPE else "attention", "gelu" if config is GPT2 else "gelu_tanh"}
    expected |= {"learned_positions", "unembedding"} if config is GPT2 else {"rotary", "rmsnorm", "smear"}
    names = assert_planted_overflows_are_named(run)
    assert names == {f"{op}_{way}" for op in expected for way in ("forward", "backward")}


def test_overflow_that_numbers_make_is_named(model, ids):
    p = model.parameters
    for parameter, value, place in (
        ("h.1.attn.c_attn.weight", 1e30, "h.1.attn: attention_forward"),  # q k^T
        ("h.2.mlp.c_fc.weight", 3e38, "h.2.mlp.c_fc: linear_forward"),
        ("ln_f.weight", 3e38, "ln_f: layernorm_forward"),
    ):
        before = p[parameter].copy()
        p[parameter][...] = value
        assert first_not_finite(step_of(model, ids)) == place
        p[parameter][...] = before
    logits, cache = model.forward(ids)
    place = first_not_finite(lambda: model.backward(np.full_like(logits, 1e38), cache))
    assert place == "head: unembedding_backward"


def test_a_model_is_asked_where_its_numbers_go_wrong(model, ids):
    assert model.first_not_finite({"ids": ids, "targets": ids}) is None
    model.parameters["h.1.attn.c_attn.weight"][...] = 1e30
    before = model.store.vector.copy()
    assert model.first_not_finite(ids, ids) == "h.1.attn: attention_forward"
    rng = np.random.default_rng(3)
    batch, counts = {"ids": ids, "targets": ids}, {"targets": 7}
    assert model.first_not_finite(batch, rng=rng, counts=counts) == "h.1.attn: attention_forward"
    assert rng.bit_generator.state != np.random.default_rng(3).bit_generator.state  # its dropout was drawn
    np.testing.assert_array_equal(before, model.store.vector)


def test_sum_that_overflows_between_ops_is_told_from_an_op_that_does(model, ids):
    p = model.parameters
    p["wte.weight"][...] = p["h.0.attn.c_proj.bias"][...] = 3e38
    assert first_not_finite(step_of(model, ids)) == "h.0.ln_2: x of layernorm_forward"


def test_sum_within_a_layer_is_named_by_the_layer():
    class Shifted(Linear):
        def forward(self, p, x):
            y, cache = super().forward(p, x)
            return y * np.float32(1e38), cache

    layer = Shifted("shifted", C, C)
    p = Store.initialised(layer.parameters(), 0, np.float32)
    assert first_not_finite(lambda: layer.forward(p, np.full((B, C), 1e5, np.float32))) == "shifted: Shifted.forward"


def test_numbers_in_a_cache_count_and_what_was_given_does_not(rng):
    q = rng.standard_normal((1, H, T, C))
    hiding = np.where(np.tri(T, dtype=bool), 0, -np.inf)[None, None]
    assert first_not_finite(lambda: ops.lean_attention_forward(q, q, q, bias=hiding)) is None
    huge = np.full((2, 2), 1e30, np.float32)
    assert first_not_finite(lambda: ops.rmsnorm_forward(huge)) is None  # zero, but finite
    assert first_not_finite(lambda: ops.layernorm_forward(huge * huge, huge[0])) == "x of layernorm_forward"


def test_buffers_hold_nothing_before_they_are_written(rng):
    q = rng.standard_normal((1, H, T, C))
    _, cache = ops.attention_forward(q, q, q)
    out = tuple(np.full_like(q, np.nan) for _ in range(3))
    assert first_not_finite(lambda: ops.attention_backward(q, cache, out=out)) is None
    assert first_not_finite(lambda: ops.attention_backward(q * np.inf, cache, out=out)) == "dy of attention_backward"
