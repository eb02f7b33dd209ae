"""The name table in what GPT-2's files do not need: separate q, k and v, (out, in) weights, tensors
that may be missing.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hub_folders import silent, small_gpt
from safetensors.numpy import save_file

from minigpt import GPT, MinigptError
from minigpt.hub import gpt2
from minigpt.hub.files import read_tensors
from minigpt.hub.names import Row, Table
from minigpt.hub.weights import fit, read_model

PARTS = ("q", "k", "v")
BLOCK = {  # of another spelling of GPT-2
    "ln_1": Row("h.{}.ln_1.weight", "body.layer.{}.norm.0.weight"),
    "c_attn": Row("h.{}.attn.c_attn.weight", tuple(f"body.layer.{{}}.self.{x}.weight" for x in PARTS), transposed=True),
    "c_attn_bias": Row("h.{}.attn.c_attn.bias", tuple(f"body.layer.{{}}.self.{x}.bias" for x in PARTS)),
    "c_fc": Row("h.{}.mlp.c_fc.weight", "body.layer.{}.ffn.0.weight", transposed=True),
}
REST = tuple(
    Row(row.ours, row.theirs.replace("transformer.", "body."), row.transposed, optional=row.ours == "lm_head.weight")
    for row in gpt2.TABLE.rows
    if row.ours not in {row.ours for row in BLOCK.values()}
)
FAMILY = SimpleNamespace(
    MODEL=GPT,
    TABLE=Table((*BLOCK.values(), *REST), "body.", {"lm_head.weight": "body.wte.weight"}, r"body\.mask|cls\..*"),
)


def their_tensors(model):
    """A model's tensors in that spelling, by hand."""
    found = {}
    for name, value in model.parameters.items():
        parts = name.split(".")
        layer = f"body.layer.{parts[1]}." if parts[0] == "h" else "body."
        if "ln_1.weight" in name:
            found[layer + "norm.0.weight"] = value
        elif "c_attn" in name:
            for part, piece in zip(PARTS, (value[..., :6], value[..., 6:12], value[..., 12:])):
                found[f"{layer}self.{part}.{parts[-1]}"] = piece.T
        elif "c_fc.weight" in name:
            found[layer + "ffn.0.weight"] = value.T
        else:
            found["lm_head.weight" if name == "lm_head.weight" else f"body.{name}"] = (
                value.T if "lm_head" in name else value
            )
    return found


def read(directory, config, tensors, seed=0, say=silent):
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, directory / "model.safetensors")
    fitted = fit(FAMILY, config, read_tensors(directory), directory, say)
    return read_model(FAMILY, fitted, directory, seed)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_parts_are_joined_and_turned_and_back(tie_embeddings, tmp_path, rng):
    model = small_gpt(rng, tie_embeddings=tie_embeddings)
    expected = their_tensors(model)
    found = {}
    for name, value in model.parameters.items():
        found |= FAMILY.TABLE.views(name, value)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
        assert np.shares_memory(found[name], model.store.vector)
    again = read(tmp_path, model.config, expected)
    np.testing.assert_array_equal(again.store.vector, model.store.vector)


def test_a_file_without_prefix_and_with_what_is_ignored(tmp_path, rng):
    model = small_gpt(rng)
    tensors = {name.removeprefix("body."): value for name, value in their_tensors(model).items()}
    again = read(tmp_path, model.config, tensors | {"mask": np.zeros(3), "cls.x.weight": np.zeros((2, 2), np.int64)})
    np.testing.assert_array_equal(again.store.vector, model.store.vector)
    with pytest.raises(MinigptError, match=r"tensor pooler\.weight does not belong"):
        read(tmp_path, model.config, tensors | {"pooler.weight": np.zeros(3)})


def test_what_a_file_may_lack_is_drawn_anew_named_and_said(tmp_path, rng):
    model, said = small_gpt(rng, tie_embeddings=False), []
    tensors = their_tensors(model)
    assert read(tmp_path, model.config, tensors).fresh == ()
    del tensors["lm_head.weight"]
    again = read(tmp_path, model.config, tensors, say=said.append)
    assert again.fresh == ("lm_head.weight",)
    assert len(said) == 1 and said[0].endswith("has no lm_head.weight: drawn anew (model.fresh)")
    fresh = again.parameters["lm_head.weight"]
    assert 0.01 < fresh.std() < 0.03
    same, other = (read(tmp_path, model.config, tensors, seed, said.append) for seed in (0, 1))
    np.testing.assert_array_equal(same.parameters["lm_head.weight"], fresh)
    assert not np.any(other.parameters["lm_head.weight"] == fresh)
    for name in model.parameters.keys() - {"lm_head.weight"}:
        np.testing.assert_array_equal(again.parameters[name], model.parameters[name])


def test_a_part_that_is_missing_is_named(tmp_path, rng):
    model = small_gpt(rng)
    tensors = their_tensors(model)
    del tensors["body.layer.1.self.k.bias"]
    with pytest.raises(MinigptError, match=r"tensor body\.layer\.1\.self\.k\.bias is missing"):
        read(tmp_path, model.config, tensors)


def test_a_parameter_without_a_row_is_an_error(rng):
    with pytest.raises(MinigptError, match=r"h\.0\.ln_3\.weight"):
        FAMILY.TABLE.views("h.0.ln_3.weight", np.zeros(6))


def test_every_parameter_of_a_family_has_one_row(rng):
    """And no row stands twice, on either side."""
    rows = gpt2.TABLE.rows
    theirs = [name for row in rows for name in ([row.theirs] if isinstance(row.theirs, str) else row.theirs)]
    assert len(set(theirs)) == len(theirs) and len({row.ours for row in rows}) == len(rows)
    names = small_gpt(rng, tie_embeddings=False).parameters
    assert {gpt2.TABLE.row(name)[0] for name in names} == set(rows)
