"""What every family of models is held to, whatever is in it: gradients, decoding, files."""

from dataclasses import replace

import numpy as np
import pytest
from families import CAUSAL, FAMILIES, POSITIONS, VOCABULARY, random_model

import minigpt
from minigpt import MinigptError, hub, models
from minigpt.objectives import Batch
from minigpt.observe import Observer, observing

B, T = 3, 8
FIRST = [row for row in CAUSAL if " " not in row]  # one of each family


@pytest.fixture
def batch(rng):
    """ids and targets (B, T), one of the targets ignored."""
    ids, targets = rng.integers(0, VOCABULARY, (2, B, T))
    targets[0, 1] = -100
    return ids, targets


def every(rows=CAUSAL):
    return pytest.mark.parametrize("row", list(rows))


def test_every_family_has_a_row():
    assert {family.model_type for family, _ in FAMILIES.values()} == set(models.FAMILIES)


@every(FIRST)
def test_gradients_of_names_from_an_iterator_or_of_a_single_name(row, batch, rng):
    model = random_model(row, rng)
    name = next(iter(model.parameters))
    expected = model.loss_and_grads(*batch)[1][name]
    for only in (iter([name]), [name], name):
        _, grads = model.loss_and_grads(*batch, only=only)
        assert list(grads) == [name]
        np.testing.assert_array_equal(grads[name], expected)


@every(FIRST)
def test_a_pair_is_the_short_form_of_a_batch(row, batch, rng):
    model = random_model(row, rng)
    assert model.loss(batch) == model.loss(*batch)
    assert model.loss_and_grads(batch)[0] == model.loss(*batch)
    assert minigpt.check_gradients(model, batch).passed


@every(FIRST)
def test_a_gradient_of_another_shape_than_the_logits_is_refused(row, batch, rng):
    model = random_model(row, rng)
    logits, cache = model.forward(batch[0])
    for wrong in (logits.swapaxes(0, 1), logits[:, :-1], logits.reshape(-1, VOCABULARY)):
        with pytest.raises(MinigptError, match=r"dlogits: shape is .* that of the logits, \(3, 8, 'V'\)"):
            model.backward(wrong, cache)
    grads = model.backward(logits.tolist(), cache)
    for name, expected in model.backward(logits, cache).items():
        np.testing.assert_array_equal(grads[name], expected)


@every(FIRST)
def test_memory_is_asked_of_parameters_and_not_of_a_layer_by_its_name(row, rng):
    model = random_model(row, rng)
    C = model.parameters["ln_f.weight"].size
    expected = model.activation_memory(10)
    assert expected == 8 * 10 * (22 * 2 * C + 2 * VOCABULARY)
    assert model.activation_memory(10, keep="inputs") == 8 * 10 * ((2 + 22) * C + 2 * VOCABULARY)
    assert model.astype(np.float32).activation_memory(30) == 3 * expected / 2
    del model.wte  # another family may call it otherwise
    assert model.activation_memory(10) == expected


@every(FIRST)
def test_numbers_that_are_finite_are_told_to_be(row, batch, rng):
    model, (ids, targets) = random_model(row, rng, dropout=0.2), batch
    assert model.first_not_finite(ids, targets, np.random.default_rng(1)) is None
    assert model.first_not_finite({"ids": ids, "targets": targets}, rng=np.random.default_rng(1)) is None


@every(FIRST)
def test_a_hundred_tokens_are_written_unless_told(row, rng):
    model = random_model(row, rng)
    assert model.generate([[1, 2]]).shape == (1, 102) and len(list(model.stream([[1, 2]]))) == 100


@every(FIRST)
def test_one_block_decodes_as_well(row, rng):
    family, config = CAUSAL[row]
    (layers,) = {"n_layer", "num_layers", "num_hidden_layers"} & vars(config).keys()
    model = family(replace(config, **{layers: 1}), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    for settings in ({"temperature": 0}, {"seed": 3}):
        cached, whole = (model.generate([[1, 2], [3, 4]], 12, **settings, use_cache=on) for on in (True, False))
        np.testing.assert_array_equal(cached, whole)


@every(FIRST)
def test_one_target_is_enough(row, batch, rng):
    model, (ids, targets) = random_model(row, rng), batch
    one = np.full_like(targets, -100)
    one[1, 3] = targets[1, 3]
    logits = model.logits(ids)[1, 3]
    assert model.loss(ids, one) == pytest.approx(np.log(np.exp(logits).sum()) - logits[one[1, 3]], rel=1e-12)


@every(FIRST)
def test_the_seed_is_zero_unless_given(row):
    family, config = CAUSAL[row]
    np.testing.assert_array_equal(family(config).store.vector, family(config, seed=0).store.vector)


def test_a_config_of_another_family_is_refused():
    """Its fields may fit: a RoBERTa of a BERTConfig would number positions beyond its table."""
    for kind in map(models.family, ("bert", "roberta", "gpt", "gpt_neo")):
        for config in (minigpt.BERTConfig(5), minigpt.RoBERTaConfig(5), {"vocab_size": 5}):
            if type(config) is not kind.config_class:
                with pytest.raises(MinigptError, match=rf"config is .*, a {kind.__name__} is made of a "):
                    kind(config)


@every(FIRST)
def test_a_seed_dtype_or_generator_that_is_none_is_refused(row, batch):
    family, config = CAUSAL[row]
    for seed in (-1, 1.5, "a", None, True):
        with pytest.raises(MinigptError, match=r"seed is .*, it must be a whole number of at least 0"):
            family(config, seed)
    for dtype in (int, "foo", bool):
        with pytest.raises(MinigptError, match=r"dtype is .*, it must be a floating one"):
            family(config, 0, dtype)
        with pytest.raises(MinigptError, match=r"dtype is .*, it must be a floating one"):
            family(config).astype(dtype)
    with pytest.raises(MinigptError, match="rng is 3, it must be a numpy Generator"):
        family(config).loss(*batch, rng=3)


@every()
@pytest.mark.parametrize("dropout_seed", [None, 3])
def test_gradients(dropout_seed, row, batch, rng):
    model = random_model(row, rng, dropout=0.2)
    report = minigpt.check_gradients(model, *batch, dropout_seed=dropout_seed)
    assert [r.name for r in report.rows] == list(model.parameters)
    assert report.max_error < 1e-13, report


@every()
def test_gradients_with_lean_attention(row, batch, rng, take_lean):
    take_lean(4, 2)
    report = minigpt.check_gradients(random_model(row, rng, dropout=0.2), *batch, dropout_seed=3)
    assert report.max_error < 1e-13, report


@every()
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_of_recomputed_blocks_have_the_same_bits(padded, row, batch, rng):
    model = random_model(row, rng, dropout=0.2)
    mask = np.arange(T) >= np.array([0, 2, 1])[:, None] if padded else None
    found = []
    for keep in ("activations", "inputs"):
        logits, cache = model.forward(batch[0], np.random.default_rng(3), mask, keep=keep)
        found.append(model.backward(np.cos(logits), cache))
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


@every()
def test_parts_of_a_batch_add_up_to_the_whole(row, batch, rng):
    model, (ids, targets) = random_model(row, rng), batch
    loss, grads = model.loss_and_grads(ids, targets)
    g, counts = model.store.zeros_like(), {"targets": int((targets >= 0).sum())}
    total = sum(model.add_gradients(g, ids[i : i + 1], targets[i : i + 1], counts=counts) for i in range(B))
    assert total == pytest.approx(loss, rel=1e-13)
    for name, value in grads.items():
        assert np.abs(value - g[name]).max() <= 1e-12 * np.abs(value).max(), name


@every()
def test_gradients_of_chosen_parameters_are_those_of_all(row, batch, rng):
    model = random_model(row, rng)
    _, grads = model.loss_and_grads(*batch)
    for name in grads:
        _, only = model.loss_and_grads(*batch, only=[name])
        assert list(only) == [name]
        assert np.abs(only[name] - grads[name]).max() <= 1e-13 * np.abs(grads[name]).max(), name


class Products(Observer):
    """Notes the layers that computed a dweight product."""

    def __init__(self):
        self.layers = []

    def leave(self, call, outputs):
        if call.name in ("linear_backward", "unembedding_backward") and outputs[1] is not None:
            self.layers.append(call.place.partition(":")[0])


@every()
def test_no_dweight_product_is_computed_for_parameters_that_are_not_chosen(row, batch, rng):
    model = random_model(row, rng)
    weights = [name for name in model.parameters if name.endswith("c_proj.weight") and ".1." in name]
    for only in (weights, [name for name in model.parameters if name.endswith("bias")], []):
        products = Products()
        with observing(products):
            loss, grads = model.loss_and_grads(*batch, only=only)
        assert loss == model.loss(*batch) and grads.keys() == set(only)
        assert set(products.layers) == {name.removesuffix(".weight") for name in only if name.endswith(".weight")}
    products = Products()
    with observing(products):
        model.loss_and_grads(*batch)
    assert len(products.layers) >= 9  # four a block, and the head
    with pytest.raises(MinigptError, match="only: there is no parameter 'wrong'"):
        model.loss_and_grads(*batch, only=["wrong"])


@every()
def test_wiring_has_no_side_effects(row, rng):
    model = random_model(row, rng)
    before = dict(vars(model))
    layers = model.wire(model.config)
    assert vars(model) == before
    assert not {id(layer) for layer in layers.values() if layer is not None} & {id(value) for value in before.values()}


@every()
def test_a_batch_of_named_arrays_is_ids_and_targets(row, batch, rng):
    """Also with a generator by place or by name, and with padding."""
    model, (ids, targets) = random_model(row, rng, dropout=0.2), batch
    arrays = {"ids": ids, "targets": targets}
    for named in (arrays, Batch(arrays)):
        assert model.loss(named, rng=np.random.default_rng(1)) == model.loss(ids, targets, np.random.default_rng(1))
        loss, grads = model.loss_and_grads(named, rng=np.random.default_rng(1))
        assert model.loss_and_grads(named, np.random.default_rng(1))[0] == loss
        again, same = model.loss_and_grads(ids, targets, np.random.default_rng(1))
        assert loss == again
        for name, value in same.items():
            np.testing.assert_array_equal(grads[name], value)
    mask = np.arange(T) >= np.array([0, 2, 1])[:, None]
    assert model.loss(arrays | {"attention_mask": mask}) != model.loss(arrays)
    for wrong, words in (({"ids": ids}, "targets is missing"), (arrays | {"labels": ids}, "'labels' is not read")):
        with pytest.raises(MinigptError, match=words):
            model.loss(wrong)


@every()
def test_float32_is_near_float64(row, batch, rng):
    model = random_model(row, rng, np.float32)
    loss, low = model.loss_and_grads(*batch)
    _, high = model.astype(np.float64).loss_and_grads(*batch)
    assert loss.dtype == np.float32 and {value.dtype for value in low.values()} == {np.dtype(np.float32)}
    largest = max(np.abs(value).max() for value in high.values())
    for name, value in high.items():
        assert np.abs(low[name] - value).max() < 1e-4 * max(np.abs(value).max(), 1e-3 * largest), name


@every()
def test_a_config_counts_its_parameters(row, rng):
    model = random_model(row, rng)
    assert model.config.num_parameters == model.num_parameters == sum(v.size for v in model.parameters.values())


@every(FIRST)
def test_a_billion_layers_are_counted_and_refused(row):
    family, config = CAUSAL[row]
    (layers,) = {"n_layer", "num_layers", "num_hidden_layers"} & vars(config).keys()
    with pytest.raises(MinigptError, match="of memory"):
        family(type(config)(**vars(config) | {layers: 10**9}))


@every()
def test_no_token_sees_a_later_one(row, batch, rng):
    model, ids = random_model(row, rng), batch[0]
    changed = ids.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCABULARY
    before, after = model.logits(ids), model.logits(changed)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=(0, 2)).all()


@every()
def test_padding_changes_nothing(row, batch, rng):
    model, ids = random_model(row, rng), batch[0]
    padded = np.concatenate([np.zeros((B, 1), int), ids], axis=1)
    mask, positions = np.ones((B, T + 1)), np.maximum(np.arange(T + 1) - 1, 0)
    mask[:, 0] = 0
    logits = model.logits(padded, mask, positions)[:, 1:]
    np.testing.assert_allclose(logits, model.logits(ids), rtol=1e-10, atol=1e-12)


@every()
def test_decoding_is_the_same_with_and_without_a_cache(row, rng):
    """Rows of unequal length, and on past the last position, where the context jumps."""
    model = random_model(row, rng)
    prompts = [rng.integers(0, VOCABULARY, n) for n in (2, 5, 4)]
    settings = {"max_new_tokens": 2 * POSITIONS, "temperature": 0.8, "top_k": 5}
    cached = model.generate(prompts, **settings)
    for with_cache, without in zip(cached, model.generate(prompts, **settings, use_cache=False)):
        np.testing.assert_array_equal(with_cache, without)


@every()
def test_greedy_decoding_is_the_argmax_of_logits(row, rng):
    model = random_model(row, rng)
    text = model.generate([[1, 2]], POSITIONS - 2, temperature=0)
    np.testing.assert_array_equal(text[0, 2:], model.logits(text[:, :-1])[0, 1:].argmax(-1))


@every()
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_model_is_loaded(dtype, row, tmp_path, rng):
    model = random_model(row, rng, dtype)
    model.save(tmp_path)
    again = minigpt.load(tmp_path)
    assert type(again) is type(model) and again.config == model.config and again.dtype == dtype
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


@every()
def test_a_model_that_transformers_has_is_written_and_read(row, tmp_path, rng):
    """All but the recipe's: files both ways, and the same logits."""
    model = random_model(row, rng)
    try:
        minigpt.to_huggingface(model, tmp_path)
    except MinigptError:
        assert type(model).model_type == "recipe_gpt" or type(model).model_type not in hub.FAMILIES
        return
    ids = rng.integers(0, VOCABULARY, (2, 5))
    again = minigpt.from_huggingface(tmp_path)
    assert type(again) is type(model) and hub.is_huggingface(tmp_path)
    np.testing.assert_allclose(again.logits(ids), model.logits(ids), rtol=1e-11, atol=1e-12)


@every(FIRST)
def test_counts_that_are_none_are_refused(row, batch, rng):
    model, (ids, targets) = random_model(row, rng), batch
    assert model.loss_terms(ids, targets) == {"targets": model.loss(ids, targets)}
    assert model.loss_terms(ids, targets, counts={"targets": 7})["targets"] == model.loss(
        ids, targets, counts={"targets": 7}
    )
    assert model.loss(ids, targets, counts={"targets": 1}) == pytest.approx(
        7 * model.loss(ids, targets, counts={"targets": 7})
    )
    with pytest.raises(MinigptError, match="counts: targets is missing"):
        model.loss(ids, targets, counts={"labels": 3})
    for wrong in (0, -1, 1.5):
        with pytest.raises(MinigptError, match=r"counts\['targets'\] is .*, it must be a whole number of at least 1"):
            model.loss(ids, targets, counts={"targets": wrong})
