import copy
import math
import tracemalloc

import numpy as np
import pytest
from small_gpt import small_gpt

import minigpt
from minigpt import GPT, GPTConfig, MinigptError
from minigpt.ops import ACTIVATIONS, IGNORED

B, T, V = 3, 5, 11
SIZES = {"vocab_size": V, "block_size": 7, "n_layer": 2, "n_head": 4, "n_embd": 8}


def make_gpt(rng=None, **changes):
    """small_gpt of SIZES."""
    return small_gpt(rng, **SIZES | changes)


@pytest.fixture
def batch(rng):
    """ids and targets (B, T), some of the targets ignored."""
    ids, targets = rng.integers(0, V, (2, B, T))
    targets[0, 1] = targets[2, 3:] = IGNORED
    return ids, targets


def assert_close(grads, expected, limit=1e-13):
    """Largest difference over largest gradient, for every parameter."""
    assert grads.keys() == expected.keys()
    for name in expected:
        assert np.abs(grads[name] - expected[name]).max() <= limit * np.abs(expected[name]).max(), name


# Gradients


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gpt_gradients(activation, bias, tie_embeddings, batch, rng):
    model = make_gpt(rng, n_layer=1, activation=activation, bias=bias, tie_embeddings=tie_embeddings)
    report = minigpt.check_gradients(model, *batch)
    assert [row.name for row in report.rows] == list(model.parameters)
    assert report.max_error < 1e-13, report


@pytest.mark.parametrize(
    ("positions", "qk_norm", "smear"),
    [
        ("learned", False, False),
        ("rotary", False, False),
        ("learned", True, False),
        ("learned", False, True),
        ("rotary", True, True),
    ],
)
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("dropout_seed", [None, 3])
def test_gpt_gradients_with_depth_dropout_and_lean_attention(
    dropout_seed, lean, positions, qk_norm, smear, batch, rng, take_lean
):
    if lean:
        take_lean(4, 2)
    model = make_gpt(rng, n_layer=3, dropout=0.2, positions=positions, qk_norm=qk_norm, smear=smear)
    report = minigpt.check_gradients(model, *batch, dropout_seed=dropout_seed)
    assert report.max_error < 1e-13, report


def test_gpt_gradients_at_initial_weights(batch):
    assert minigpt.check_gradients(make_gpt(dtype=np.float32), *batch).max_error < 1e-13


def test_gpt_gradients_survive_huge_and_rare_ids(rng):
    """One row of one token; the unused rows of both tables get exactly nothing."""
    model = make_gpt(rng, tie_embeddings=False)
    _, grads = model.loss_and_grads([[4]], [[2]])
    assert not grads["wte.weight"][np.arange(V) != 4].any() and grads["wte.weight"][4].all()
    assert not grads["wpe.weight"][1:].any()
    assert minigpt.check_gradients(model, [[4]], [[2]]).max_error < 1e-13


def test_gpt_lean_attention_equals_plain(batch, rng, take_lean):
    model = make_gpt(rng)
    loss, grads = model.loss_and_grads(*batch)
    take_lean(1, block=64)
    lean_loss, lean_grads = model.loss_and_grads(*batch)
    assert lean_loss == pytest.approx(loss, rel=1e-14)
    assert_close(lean_grads, grads)


def test_gpt_takes_lean_attention_for_long_texts(rng):
    model = make_gpt(rng, block_size=300)
    ids = rng.integers(0, V, (1, 300))
    _, long = model.forward(ids)
    _, short = model.forward(ids[:, :200])
    assert hasattr(long.blocks[0].attn.attention, "log_total")
    assert not hasattr(short.blocks[0].attn.attention, "log_total")
    np.testing.assert_allclose(model.logits(ids)[:, :200], model.logits(ids[:, :200]), rtol=1e-11, atol=1e-12)


def test_gpt_forward_and_backward_are_loss_and_grads(batch, rng):
    model = make_gpt(rng)
    ids, targets = batch
    logits, cache = model.forward(ids)
    np.testing.assert_array_equal(model.logits(ids), logits)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    kept = targets != IGNORED
    dlogits = np.where(kept[..., None], p - np.eye(V)[np.where(kept, targets, 0)], 0) / kept.sum()
    grads = model.backward(dlogits, cache)
    loss, expected = model.loss_and_grads(ids, targets)
    assert loss == pytest.approx(model.loss(ids, targets), rel=1e-15)
    assert loss == pytest.approx(-np.log(p[kept][np.arange(kept.sum()), targets[kept]]).mean(), rel=1e-13)
    assert_close(grads, expected)
    assert_close(model.backward(dlogits, cache), grads, 0)  # the cache is whole after a backward


def test_gpt_gradients_are_fresh_and_float32(batch):
    model = make_gpt(dtype=np.float32)
    before = model.store.vector.copy()
    loss, first = model.loss_and_grads(*batch)
    _, second = model.loss_and_grads(*batch)
    assert type(first) is dict and loss.dtype == np.float32
    assert {g.dtype for g in first.values()} == {np.dtype(np.float32)}
    assert {n: g.shape for n, g in first.items()} == {n: p.shape for n, p in model.parameters.items()}
    for name in first:
        assert not np.shares_memory(first[name], second[name])
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_array_equal(model.store.vector, before)


def test_gpt_float32_gradients_are_near_float64(batch, rng):
    model = make_gpt(rng, dtype=np.float32)
    _, low = model.loss_and_grads(*batch)
    _, high = model.astype(np.float64).loss_and_grads(*batch)
    assert_close(low, high, 1e-4)


@pytest.mark.parametrize("parts", [[slice(0, 1), slice(1, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]])
@pytest.mark.parametrize("all_ignored", [False, True])
def test_gpt_parts_of_a_batch_add_up_to_the_whole(parts, all_ignored, batch, rng):
    """However unevenly the ignored targets are spread,
    up to a part without any target that counts.
    """
    model = make_gpt(rng)
    ids, targets = batch
    if all_ignored:
        targets[0] = IGNORED
    counts = {"targets": int((targets != IGNORED).sum())}
    whole, expected = model.loss_and_grads(ids, targets)
    g = model.store.zeros_like()
    total = sum(model.add_gradients(g, ids[part], targets[part], counts=counts) for part in parts)
    assert total == pytest.approx(whole, rel=1e-13)
    assert sum(model.loss(ids[part], targets[part], counts=counts) for part in parts) == pytest.approx(whole, rel=1e-13)
    assert_close(dict(g), dict(expected))


@pytest.mark.parametrize(
    "settings", [{}, {"dropout": 0.3}, {"positions": "rotary", "qk_norm": True, "smear": True, "dropout": 0.3}], ids=str
)
@pytest.mark.parametrize("padded", [False, True])
def test_gpt_recomputed_gradients_have_the_same_bits(settings, padded, batch, rng):
    """Dropout included, a backward may run twice,
    and the generator is left where it would have been.
    """
    model, ids = make_gpt(rng, **settings), batch[0]
    mask = np.arange(T) >= np.array([0, 2, 1])[:, None] if padded else None
    found = {}
    for keep in ("activations", "inputs"):
        draws = np.random.default_rng(5)
        logits, cache = model.forward(ids, draws, mask, keep=keep)
        dlogits = np.random.default_rng(6).standard_normal(logits.shape)
        found[keep] = (
            logits,
            draws.random(),
            *model.backward(dlogits, cache).values(),
            *model.backward(dlogits, cache).values(),
        )
    for kept, computed in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(computed, kept)


def test_gpt_recomputing_takes_less_memory(rng):
    """Of eight blocks, one block's activations at a time and eight inputs."""
    model = make_gpt(rng, n_layer=8, block_size=64, dropout=0.1)
    ids, targets = rng.integers(0, V, (2, 3, 64))
    peaks = []
    for keep in ("activations", "inputs"):
        g = model.store.zeros_like()
        tracemalloc.start()
        model.add_gradients(g, ids, targets, np.random.default_rng(0), keep=keep)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 0.4 * peaks[0]


def test_gpt_dropout_needs_a_generator(batch, rng):
    model = make_gpt(rng, dropout=0.5)
    first, again, other = (model.loss(*batch, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert model.loss(*batch) == model.loss(*batch) != first


# Parameters


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_gpt_num_parameters(bias, tie_embeddings):
    model = make_gpt(bias=bias, tie_embeddings=tie_embeddings)
    C, P, L = 8, 7, 2
    vectors = (3 + 1 + 4 + 1 + 2) * C * L + C if bias else 0
    expected = V * C + P * C + L * (12 * C * C + 2 * C) + C + vectors + (0 if tie_embeddings else C * V)
    assert model.num_parameters == sum(p.size for p in model.parameters.values()) == expected
    assert ("lm_head.weight" in model.parameters) == (not tie_embeddings)


@pytest.mark.parametrize(
    "settings", [{}, {"bias": False}, {"tie_embeddings": False}, {"positions": "rotary"}, {"smear": True}], ids=str
)
def test_config_knows_the_number_of_parameters(settings):
    """Before any memory is taken for them."""
    model = make_gpt(**settings)
    assert model.config.num_parameters == model.num_parameters


def test_gpt2_has_its_124_million_parameters():
    config = GPTConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768)
    assert sum(math.prod(p.shape) for p in GPT.parameters_of(config)) == config.num_parameters == 124_439_808


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_gpt_initial_loss_is_log_v(tie_embeddings, rng):
    model = GPT(GPTConfig(vocab_size=65, block_size=32, n_layer=3, n_head=2, n_embd=48, tie_embeddings=tie_embeddings))
    ids, targets = rng.integers(0, 65, (2, 8, 32))
    assert model.loss(ids, targets) == pytest.approx(math.log(65), abs=0.05)


def test_gpt_initial_weights():
    L = 8
    model = GPT(
        GPTConfig(vocab_size=400, block_size=200, n_layer=L, n_head=2, n_embd=64, tie_embeddings=False),
        dtype=np.float64,
    )
    for name, p in model.parameters.items():
        if name.endswith("bias"):
            assert not p.any(), name
        elif "ln_" in name:
            assert (p == 1).all(), name
        else:
            std = 0.02 / math.sqrt(2 * L) if "c_proj" in name else 0.02
            assert p.std() == pytest.approx(std, rel=0.05), name
            assert abs(p.mean()) < 5 * std / math.sqrt(p.size), name
    flat = [p.ravel()[:50] for n, p in model.parameters.items() if p.ndim == 2]
    assert np.abs(np.corrcoef(flat) - np.eye(len(flat))).max() < 0.8  # no two parameters start alike


def test_gpt_seed_and_dtype():
    low, high, other = make_gpt(dtype=np.float32), make_gpt(), GPT(GPTConfig(**SIZES), seed=2)
    np.testing.assert_array_equal(low.store.vector, high.store.vector)
    assert low.dtype == np.float32 and high.dtype == np.float64
    assert (other.store.vector != low.store.vector).any()
    generated = GPT(GPTConfig(**SIZES), seed=np.random.default_rng(1))
    np.testing.assert_array_equal(generated.store.vector, low.store.vector)


def test_gpt_parameters_are_live_views(batch, rng):
    model = make_gpt(rng)
    before = model.loss(*batch)
    model.parameters["h.1.mlp.c_fc.weight"][...] *= 2
    assert model.loss(*batch) != before
    np.testing.assert_array_equal(np.concatenate([p.ravel() for p in model.parameters.values()]), model.store.vector)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: m.astype(np.float64)], ids=["deepcopy", "astype"])
def test_gpt_copies_are_independent(clone, batch, rng):
    model = make_gpt(rng)
    before = model.loss(*batch)
    other = clone(model)
    assert other.loss(*batch) == before
    other.store.vector[:] = 0
    assert other.loss(*batch) == pytest.approx(math.log(V))
    assert model.loss(*batch) == before


# What a position sees


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lean_from", [1, 1000])
def test_gpt_is_causal_to_the_bit(dtype, lean_from, rng, take_lean):
    take_lean(lean_from, 2)
    model = make_gpt(rng, dtype=dtype)
    ids = rng.integers(0, V, (B, 7))
    logits = model.logits(ids)
    for t in range(1, 7):
        changed = ids.copy()
        changed[:, t:] = (changed[:, t:] + 1) % V
        other = model.logits(changed)
        np.testing.assert_array_equal(other[:, :t], logits[:, :t])
        assert (other[:, t:] != logits[:, t:]).any(-1).all()


def test_gpt_sees_the_order_of_tokens(rng):
    model = make_gpt(rng)
    assert np.abs(model.logits([[1, 2, 3]])[0, -1] - model.logits([[2, 1, 3]])[0, -1]).max() > 1e-3


def test_gpt_padding_leaves_real_positions_unchanged(rng):
    model, ids, length = make_gpt(rng), rng.integers(0, V, (2, 6)), 4
    alone = model.logits(ids[:1, :length])
    right = np.arange(6) < np.array([length, 6])[:, None]
    np.testing.assert_allclose(model.logits(ids, attention_mask=right)[0, :length], alone[0], rtol=1e-12, atol=1e-13)
    left_ids = np.concatenate([[[9, 9]], ids[:1, :length]], axis=1)
    positions = [[0, 0, 0, 1, 2, 3]]
    left = model.logits(left_ids, attention_mask=[[0, 0, 1, 1, 1, 1]], position_ids=positions)
    np.testing.assert_allclose(left[0, 2:], alone[0], rtol=1e-12, atol=1e-13)
    # the mask does hide something
    assert np.abs(model.logits(left_ids, position_ids=positions)[0, 2:] - alone[0]).max() > 1e-3


def test_gpt_position_ids(rng):
    model, ids = make_gpt(rng), rng.integers(0, V, (2, 4))
    np.testing.assert_array_equal(model.logits(ids, position_ids=np.arange(4)), model.logits(ids))
    np.testing.assert_array_equal(model.logits(ids, position_ids=[[0, 1, 2, 3], [3, 4, 5, 6]])[0], model.logits(ids)[0])
    assert np.abs(model.logits(ids, position_ids=np.arange(3, 7)) - model.logits(ids)).max() > 1e-3


def test_gpt_takes_ids_of_any_integer_dtype(rng):
    model, ids = make_gpt(rng), rng.integers(0, V, (2, 4))
    expected = model.loss_and_grads(ids, ids)[1]
    for dtype in (np.uint8, np.int32, np.uint16):
        np.testing.assert_array_equal(model.logits(ids.astype(dtype)), model.logits(ids))
        assert_close(model.loss_and_grads(ids.astype(dtype), ids.astype(dtype))[1], expected, 0)


# Errors

OK = [[1, 2, 3]]

BAD_CONFIGS = [
    ({"n_embd": 10}, ["n_embd", "10", "n_head", "4"]),
    *[({name: value}, [name, repr(value), "at least 1"]) for name in SIZES for value in (0, -3, True, "4", 2.0, None)],
    *[
        ({"dropout": value}, ["dropout", repr(value), "less than 1"])
        for value in (1.0, -0.1, float("nan"), "0.1", True, None)
    ],
    ({"activation": "swish"}, ["activation", "swish", "silu"]),
    ({"bias": 1}, ["bias", "1", "true or false"]),
    ({"tie_embeddings": "yes"}, ["tie_embeddings", "yes", "true or false"]),
]


def assert_one_line(error, words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("changes", "words"), BAD_CONFIGS, ids=str)
def test_gpt_config_error(changes, words):
    with pytest.raises(MinigptError) as error:
        GPTConfig(**{**SIZES, **changes})
    assert_one_line(error, words)


def test_gpt_config_is_frozen():
    with pytest.raises(AttributeError):
        GPTConfig(**SIZES).n_layer = 3


BAD_IDS = [
    ([[1, V]], ["ids", str(V), "(0, 1)", f"0 to {V - 1}"]),
    ([[1, 2], [-1, 0]], ["ids", "-1", "(1, 0)", f"0 to {V - 1}"]),
    ([[1.0, 2.0]], ["ids", "float64", "integers"]),
    ([[True, False]], ["ids", "bool", "integers"]),
    ([1, 2, 3], ["ids", "(3,)", "(batch, time)"]),
    ([[[1, 2]]], ["ids", "(1, 1, 2)", "(batch, time)"]),
    (3, ["ids", "()", "(batch, time)"]),
    ([[1] * 8], ["ids", "8", "block_size", "7"]),
    (np.zeros((0, 3), int), ["ids", "(0, 3)", "at least one"]),
    (np.zeros((2, 0), int), ["ids", "(2, 0)", "at least one"]),
    ([[1, 2], [3]], ["ids", "unequal lengths"]),
    ([["a", "b"]], ["ids", "integers"]),
]


@pytest.mark.parametrize(("ids", "words"), BAD_IDS, ids=str)
def test_gpt_ids_error(ids, words):
    with pytest.raises(MinigptError) as error:
        make_gpt().logits(ids)
    assert_one_line(error, words)


@pytest.mark.parametrize(("ids", "words"), BAD_IDS, ids=str)
def test_gpt_loss_refuses_what_logits_refuses(ids, words):
    for run in (make_gpt().loss, make_gpt().loss_and_grads):
        with pytest.raises(MinigptError) as error:
            run(ids, np.zeros(np.shape(ids), int) if words[1] != "unequal lengths" else OK)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([[1, 2]], ["targets", "(1, 2)", "(1, 3)"]),
        ([1, 2, 3], ["targets", "(3,)", "(1, 3)"]),
        ([[1.0, 2.0, 3.0]], ["targets", "float64", "integers"]),
        ([[1, V, 3]], ["targets", str(V), "(0, 1)", f"0 to {V - 1}"]),
        ([[1, 2, -1]], ["targets", "-1", "(0, 2)", f"0 to {V - 1}"]),
        ([[IGNORED] * 3], ["targets", "3", "-100", "at least 1"]),
        ([[1], [2, 3]], ["targets", "unequal lengths"]),
    ],
    ids=str,
)
def test_gpt_targets_error(targets, words):
    for run in (make_gpt().loss, make_gpt().loss_and_grads):
        with pytest.raises(MinigptError) as error:
            run(OK, targets)
        assert_one_line(error, words)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"attention_mask": [[1, 1]]}, ["attention_mask", "(1, 2)", "(1, 3)"]),
        ({"attention_mask": [1, 1, 1]}, ["attention_mask", "(3,)", "(1, 3)"]),
        ({"position_ids": [0, 1]}, ["position_ids", "(2,)", "(3,)"]),
        ({"position_ids": [0, 1, 7]}, ["position_ids", "7", "0 to 6"]),
        ({"position_ids": [0.0, 1.0, 2.0]}, ["position_ids", "float64"]),
    ],
    ids=str,
)
def test_gpt_mask_and_position_error(kwargs, words):
    with pytest.raises(MinigptError) as error:
        make_gpt().logits(OK, **kwargs)
    assert_one_line(error, words)


def test_gpt_too_large_for_memory_is_an_error(monkeypatch):
    monkeypatch.setattr("minigpt.machine.physical_memory", lambda: 10**9)
    with pytest.raises(MinigptError, match=r"parameters would take about .*TB.* has 1 GB"):
        GPT(GPTConfig(vocab_size=10**6, block_size=10, n_layer=10, n_head=1, n_embd=10**5))


def gpt2_by_hand(p, ids, n_layer, n_head, activation):
    """GPT-2's logits for one row of ids, head by head, from the report and picoGPT's reading of it;
    written without minigpt.
    """

    def norm(x, name):
        xhat = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return xhat * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["wte.weight"][ids] + p["wpe.weight"][: len(ids)]
    for i in range(n_layer):
        qkv = linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn")
        q, k, v = (np.split(part, n_head, -1) for part in np.split(qkv, 3, -1))
        heads = []
        for h in range(n_head):
            e = np.exp(q[h] @ k[h].T / np.sqrt(q[h].shape[-1])) * np.tri(len(ids))
            heads.append(e / e.sum(-1, keepdims=True) @ v[h])
        x = x + linear(np.concatenate(heads, -1), f"h.{i}.attn.c_proj")
        x = x + linear(activation(linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ p.get("lm_head.weight", p["wte.weight"].T)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_gpt_is_gpt2_by_hand(tie_embeddings, rng):
    model, ids = make_gpt(rng, tie_embeddings=tie_embeddings, activation="relu"), rng.integers(0, V, (B, T))
    expected = np.stack([gpt2_by_hand(model.parameters, row, 2, 4, lambda x: np.maximum(x, 0)) for row in ids])
    logits, cache = model.forward(ids)
    np.testing.assert_allclose(logits, expected, rtol=1e-11, atol=1e-12)
    assert [block.attn.weights.shape for block in cache.blocks] == [(B, 4, T, T)] * 2


# Parity


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu", "silu"])
@pytest.mark.parametrize("lean", [False, True])
def test_gpt_is_transformers_gpt2(activation, lean, rng, take_lean):
    """Logits, loss and every gradient in float64, all sizes distinct."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if lean:
        take_lean(1, 2)
    model = make_gpt(rng, block_size=9, n_layer=3, n_embd=12, activation=activation)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=9, n_layer=3, n_head=4, n_embd=12, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        activation_function={"gelu_tanh": "gelu_new"}.get(activation, activation), bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    other = transformers.GPT2LMHeadModel(config).double().eval()
    parameters = dict(other.named_parameters())
    assert parameters.keys() == {f"transformer.{name}" for name in model.parameters}
    with torch.no_grad():
        for name, value in model.parameters.items():
            parameters[f"transformer.{name}"].copy_(torch.from_numpy(value))
    ids, targets = rng.integers(0, V, (2, 2, 7))
    targets[1, 2:4] = IGNORED
    logits = other(torch.from_numpy(ids)).logits
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(targets).reshape(-1))
    expected.backward()
    ours = model.logits(ids)
    assert np.abs(ours - logits.detach().numpy()).max() < 1e-12 * np.abs(ours).max()
    loss, grads = model.loss_and_grads(ids, targets)
    assert loss == pytest.approx(expected.item(), rel=1e-13)
    assert_close(grads, {name: parameters[f"transformer.{name}"].grad.numpy() for name in model.parameters}, 1e-10)
