"""What T5 has for itself."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from families import ENCODER_DECODERS, T5_SIZES, VOCABULARY, pair_batch, random_model

from minigpt import T5, MinigptError, T5Config, cli

B, S, T, C, D, F, H = 3, 8, 6, 8, 3, 10, 2


def test_t5_defaults():
    """Those of t5-small, dropout aside; the sizes of the published models."""
    c = T5Config(32128)
    assert (c.d_model, c.d_kv, c.d_ff, c.num_layers, c.num_decoder_layers, c.num_heads) == (512, 64, 2048, 6, None, 8)
    assert (c.relative_attention_num_buckets, c.relative_attention_max_distance) == (32, 128)
    assert (c.feed_forward_proj, c.layer_norm_epsilon, c.dropout, c.tie_embeddings) == ("relu", 1e-6, 0.0, True)
    assert (c.pad_token_id, c.eos_token_id, c.decoder_start_token_id, c.scale_decoder_outputs) == (0, 1, 0, None)
    assert c.decoder_layers == 6 and T5Config(9, num_decoder_layers=2).decoder_layers == 2
    assert c.num_parameters == 60_506_624
    base = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    assert T5Config(32128, **base).num_parameters == 222_903_552
    gated = {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}
    small = {"d_ff": 1024, "num_layers": 8, "num_heads": 6}
    assert T5Config(32128, **small, **gated).num_parameters == 76_961_152
    assert T5Config(32128, **base | {"d_ff": 2048}, **gated).num_parameters == 247_577_856


def test_the_head_is_scaled_where_it_is_tied_unless_given():
    for tied, given, expected in (
        (True, None, 0.125), (False, None, 1), (True, False, 1), (False, True, 0.125), (True, True, 0.125)
    ):  # fmt: skip
        config = T5Config(9, d_model=64, tie_embeddings=tied, scale_decoder_outputs=given)
        assert config.output_scale == expected


def test_names_and_shapes_of_t5():
    attention = {"attn.c_attn": (C, 3 * H * D), "attn.c_proj": (H * D, C)}
    cross = {"ln_cross": (C,), "cross.q_attn": (C, H * D), "cross.c_attn": (C, 2 * H * D), "cross.c_proj": (H * D, C)}
    mlp = {"mlp.c_fc": (C, F), "mlp.c_proj": (F, C)}

    def names(gated, tied, decoder_layers=2):
        hidden = {"mlp.c_gate": (C, F)} | mlp if gated else mlp
        encoder = {"ln_1": (C,), **attention, "ln_2": (C,), **hidden}
        decoder = {"ln_1": (C,), **attention, **cross, "ln_2": (C,), **hidden}
        found = {"wte.weight": (VOCABULARY, C), "encoder.bias.weight": (8, H)}
        found |= {f"encoder.h.{i}.{name}.weight": shape for i in range(2) for name, shape in encoder.items()}
        found |= {"encoder.ln_f.weight": (C,), "decoder.bias.weight": (8, H)}
        blocks = range(decoder_layers)
        found |= {f"decoder.h.{i}.{name}.weight": shape for i in blocks for name, shape in decoder.items()}
        found["decoder.ln_f.weight"] = (C,)
        return found if tied else found | {"lm_head.weight": (C, VOCABULARY)}

    shapes = {row: T5.parameter_shapes(ENCODER_DECODERS[row][1]) for row in ("t5", "t5 1.1", "t5 tied")}
    assert shapes["t5"] == names(False, True) and shapes["t5 tied"] == names(True, True)
    assert shapes["t5 1.1"] == names(True, False, 3)
    # as they lie in the store, where a cross-attention's parts stand between the two others
    order = list(shapes["t5"])
    at = order.index("decoder.h.0.ln_1.weight")
    assert [name.removeprefix("decoder.h.0.").removesuffix(".weight") for name in order[at : at + 10]] == [
        "ln_1", "attn.c_attn", "attn.c_proj", "ln_cross", "cross.q_attn", "cross.c_attn", "cross.c_proj",
        "ln_2", "mlp.c_fc", "mlp.c_proj",
    ]  # fmt: skip


@pytest.mark.parametrize("row", ENCODER_DECODERS)
def test_t5_starts_as_documented(row):
    """By what a matrix sums over; norms at 1, tokens and an untied head at normal(0, 1)."""
    channels, heads, hidden, queries = C**-0.5, (H * D) ** -0.5, F**-0.5, (C * D) ** -0.5
    stds = {"attn.c_attn": (queries, channels, channels), "attn.c_proj": heads, "cross.q_attn": queries}
    stds |= {"cross.c_attn": channels, "cross.c_proj": heads, "mlp.c_gate": channels, "mlp.c_fc": channels}
    stds |= {"mlp.c_proj": hidden, "wte": 1.0, "lm_head": 1.0, "encoder.bias": channels, "decoder.bias": channels}
    tables, parts = ("wte", "encoder.bias", "decoder.bias"), {"attn.c_attn": 3, "cross.c_attn": 2}
    for p in T5.parameters_of(ENCODER_DECODERS[row][1]):
        name = p.name.removesuffix(".weight")
        kind = name if name.count(".") < 3 else name.split(".", 3)[3]
        role = "embedding" if kind in tables else "head" if kind == "lm_head" else "hidden"
        expected = ("vector", 0.0, 1.0) if "ln_" in kind else (role, pytest.approx(stds.get(kind)), 0.0)
        assert (p.role, p.std, p.mean) == expected, p.name
        assert p.parts == parts.get(kind, 1)
    drawn = T5(T5Config(50, d_model=64, d_kv=9, num_heads=5, d_ff=20, num_layers=1), seed=3).parameters
    q, k, v = np.split(drawn["encoder.h.0.attn.c_attn.weight"], 3, axis=1)
    assert q.std() == pytest.approx((64 * 9) ** -0.5, rel=0.05)
    assert k.std() == pytest.approx(1 / 8, rel=0.05) and v.std() == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.parametrize("row", ["t5", "t5 1.1"])
def test_dropout_stands_where_t5_has_it(row, rng):
    """On tokens, attention weights, branches, inside of each MLP, and on what each stack gives."""
    model = random_model(row, rng, dropout=0.4)
    batch, shapes = pair_batch(model, rng), []

    class Draws:
        def random(self, shape, dtype=None):
            shapes.append(shape)
            return rng.random(shape, dtype=dtype)

    model.forward(batch["ids"], batch["decoder_input_ids"], rng=Draws())
    source, target = (B, S, C), (B, T, C)
    encoder = [(B, H, S, S), source, (B, S, F), source]
    decoder = [(B, H, T, T), target, (B, H, S, T), target, (B, T, F), target]  # weights lie [key, query]
    blocks = model.config.decoder_layers
    assert shapes == [source, *encoder * 2, source, target, *decoder * blocks, target]


class AllButTheLast:
    """Draws at which nothing is dropped, but for the number `last`, which is a pattern."""

    def __init__(self, last, pattern):
        self.last, self.pattern, self.n = last, pattern, 0

    def random(self, shape, dtype=None):
        self.n += 1
        return self.pattern if self.n == self.last else np.ones(shape, dtype)


def test_what_a_stack_gives_is_dropped_behind_its_norm(rng):
    """A norm behind it would make up for what is dropped."""
    model = random_model("t5", rng, dropout=0.4)
    batch = pair_batch(model, rng)
    memory, _ = model.encode(batch["ids"])
    for run, ids in (
        (model.encode, batch["ids"]),
        (lambda ids, rng: model.decode(ids, memory, rng=rng), batch["decoder_input_ids"]),
    ):
        pattern = rng.random((*ids.shape, C))
        counted = AllButTheLast(None, pattern)
        whole, _ = run(ids, rng=counted)
        dropped, _ = run(ids, rng=AllButTheLast(counted.n, pattern))
        np.testing.assert_allclose(dropped, np.where(pattern >= 0.4, whole, 0), rtol=1e-13)


@pytest.mark.parametrize(
    ("proj", "expected"),
    [
        ("relu", ("MLP", "relu")),
        ("gelu", ("MLP", "gelu")),
        ("silu", ("MLP", "silu")),
        ("gated-relu", ("GatedMLP", "relu")),
        ("gated-gelu", ("GatedMLP", "gelu_tanh")),
        ("gated-silu", ("GatedMLP", "silu")),
    ],
)
def test_feed_forward_is_what_the_config_says(proj, expected):
    model = T5(T5Config(**T5_SIZES, feed_forward_proj=proj, dropout=0.2))
    for block in model.encoder + model.decoder:
        assert (type(block.mlp).__name__, block.mlp.activation) == expected
        assert (block.mlp.dropout, block.mlp.inner_dropout) == (0.2, 0.2)


def test_norms_have_the_epsilon_of_the_config():
    model = T5(T5Config(**T5_SIZES, layer_norm_epsilon=0.5))
    norms = [model.encoder_ln_f, model.decoder_ln_f, *(block.ln_cross for block in model.decoder)]
    norms += [norm for block in model.encoder + model.decoder for norm in (block.ln_1, block.ln_2)]
    assert [norm.eps for norm in norms] == [0.5] * 12


def test_attention_of_t5(rng):
    """The encoder sees both ways and the decoder back; all heads of a stack read one table, with
    the buckets of the config; the source is read without a bias.
    """
    model = random_model("t5", rng)
    batch = pair_batch(model, rng)
    _, cache = model.forward(batch["ids"], batch["decoder_input_ids"])
    p, seen = model.parameters, np.tril(np.ones((T, T), bool))
    for block in cache.encoder.blocks:
        assert (block.attn.weights > 0).all()
    for block in cache.decoder.blocks:
        np.testing.assert_array_equal(block.attn.weights > 0, np.broadcast_to(seen, (B, H, T, T)))
        q, k = block.cross.attention.q, block.cross.attention.k
        scores = np.exp(q @ k.swapaxes(-1, -2))
        expected = scores / scores.sum(-1, keepdims=True)
        np.testing.assert_allclose(block.cross.weights, expected, rtol=1e-11)
    encoder, decoder = cache.encoder.shared.bias[0, 1], cache.decoder.shared.bias[0, 1]
    table = p["encoder.bias.weight"][:, 1]
    np.testing.assert_array_equal(encoder[0], table[[0, 5, 6, 6, 7, 7, 7, 7]])
    np.testing.assert_array_equal(encoder[7], table[[3, 3, 3, 3, 2, 2, 1, 0]])
    np.testing.assert_array_equal(decoder[5], p["decoder.bias.weight"][:, 1][[6, 4, 3, 2, 1, 0]])


def test_attention_of_t5_is_not_scaled(rng):
    model = random_model("t5", rng)
    batch = pair_batch(model, rng)
    _, cache = model.forward(batch["ids"], batch["decoder_input_ids"])
    assert {block.attn.attention.scale for block in cache.encoder.blocks + cache.decoder.blocks} == {1.0}
    assert {block.cross.attention.scale for block in cache.decoder.blocks} == {1.0}
    assert {block.attn.head_channels for block in model.encoder} == {D}


def test_memory_of_t5_grows_with_its_layers():
    """By the stack whose tokens take less."""
    source, target, read = 4 * C + 5 * H * D + F, 6 * C + 8 * H * D + F, 2 * H * D
    gated = T5(T5Config(**T5_SIZES, feed_forward_proj="gated-relu")).activation_memory(10)
    assert gated == 4 * 10 * 2 * (source + 2 * F + read)
    for layers, decoder_layers in ((2, 3), (9, 1)):
        model = T5(T5Config(**T5_SIZES | {"num_layers": layers, "num_decoder_layers": decoder_layers}))
        ours, theirs = layers * source + decoder_layers * read, decoder_layers * target + 2 * VOCABULARY
        assert (ours < theirs) == (layers == 2)
        assert model.activation_memory(10) == 4 * 10 * min(ours, theirs)
        assert model.astype(np.float64).activation_memory(30) == 6 * model.activation_memory(10)
        inputs = min(layers * C, decoder_layers * C + 2 * VOCABULARY) + source / 2
        assert model.activation_memory(10, keep="inputs") == 4 * 10 * inputs
        assert type(model.activation_memory(10, keep="inputs")) is int


def bytes_of(value, found):
    """The arrays that a nest of tuples and lists keeps alive: id -> bytes, into a dict."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        found[id(value)] = value.nbytes
    elif isinstance(value, tuple | list):
        for part in value:
            bytes_of(part, found)
    return found


@pytest.mark.parametrize("row", ["t5", "t5 1.1"])
@pytest.mark.parametrize("keep", ["activations", "inputs"])
def test_memory_of_t5_is_a_lower_bound(keep, row, rng):
    """Of what the cache holds; with inputs alone, one block's activations come when it runs."""
    config = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 96, "vocab_size": 40}
    model = random_model(row, rng, np.float32, **config)
    ids, decoder_ids = rng.integers(0, 40, (2, 12)), rng.integers(0, 40, (2, 9))
    logits, cache = model.forward(ids, decoder_ids, keep=keep)
    kept = sum(bytes_of(cache, {id(model.store.vector): 0}).values()) - model.store.vector.nbytes + 2 * logits.nbytes
    bound = model.activation_memory(2 * 12 + 2 * 9, keep=keep)
    if keep == "activations":
        assert 0.5 * kept < bound < kept
    else:
        assert bound < model.activation_memory(2 * 12 + 2 * 9) and kept < 2 * bound


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_kv": 0}, "d_kv is 0, it must be a whole number of at least 1"),
        ({"d_model": 0}, "d_model is 0"),
        ({"d_ff": 0}, "d_ff is 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_decoder_layers": 0}, "num_decoder_layers is 0, it must be a whole number of at least 1"),
        ({"num_decoder_layers": 1.5}, "num_decoder_layers is 1.5"),
        ({"relative_attention_num_buckets": 7}, "relative_attention_num_buckets is 7, it must be even and at least 4"),
        ({"relative_attention_num_buckets": 2}, "relative_attention_num_buckets is 2, it must be even and at least 4"),
        (
            {"relative_attention_max_distance": 4},
            "relative_attention_max_distance is 4, it must be more than half of relative_attention_num_buckets, 4",
        ),
        ({"relative_attention_max_distance": 0}, "relative_attention_max_distance is 0, it must be a whole number of"),
        ({"feed_forward_proj": "gelu_new"}, "feed_forward_proj is 'gelu_new', it must be one of relu, gelu, silu, ga"),
        ({"feed_forward_proj": "gated-mish"}, "feed_forward_proj is 'gated-mish', it must be one of relu, gelu"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0, it must be more than 0"),
        ({"layer_norm_epsilon": -1e-6}, "layer_norm_epsilon is -1e-06"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"tie_embeddings": 1}, "tie_embeddings is 1"),
        ({"scale_decoder_outputs": 0}, "scale_decoder_outputs is 0, it must be true or false"),
        ({"pad_token_id": VOCABULARY}, "pad_token_id is 11, it must be a whole number from 0 to 10"),
        ({"eos_token_id": VOCABULARY}, "eos_token_id is 11, it must be a whole number from 0 to 10"),
        ({"decoder_start_token_id": -1}, "decoder_start_token_id is -1, it must be a whole number from 0 to 10"),
        ({"eos_token_id": None}, "eos_token_id is None"),
    ],
)
def test_t5_config_says_what_is_wrong(changes, message):
    with pytest.raises(MinigptError, match=message):
        T5Config(**T5_SIZES | changes)


def test_the_fewest_buckets_and_nearest_farthest_distance(rng):
    config = T5Config(
        **T5_SIZES | {"relative_attention_num_buckets": 4, "relative_attention_max_distance": 3, "eos_token_id": 10}
    )
    model = T5(config, dtype=np.float64)
    assert np.isfinite(model.loss(model.random_batch(rng, 2, 9)))


def test_whole_numbers_of_numpy_are_plain_ones_in_a_config():
    """Which JSON can hold."""
    names = ("pad_token_id", "eos_token_id", "decoder_start_token_id", "d_kv")
    config = T5Config(9, **{name: np.int64(3) for name in names})
    assert {type(getattr(config, name)) for name in names} == {int}


def test_t5_config_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        T5Config(9).d_kv = 3


def test_commands_take_a_t5(tmp_path, capsys, rng):
    model = random_model("t5", rng)
    model.save(tmp_path)
    assert cli.main(["gradcheck", "--model", str(tmp_path), "--method", "complex"]) == 0
    assert cli.main(["info", str(tmp_path)]) == 0
    assert "decoder.h.0.cross.q_attn.weight" in capsys.readouterr().out
