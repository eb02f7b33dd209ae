"""Folders of BERT and RoBERTa, ours and theirs, against `transformers`: what it makes of a file, we
make of it.
"""

import json

import numpy as np
import pytest
from hub_folders import assert_equal_numbers, export, rewrite, silent, small_encoder, without
from safetensors.numpy import load_file

import minigpt
from minigpt import BERT, BERTConfig, RoBERTa, RoBERTaConfig
from minigpt.hub import bert, roberta

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FAMILIES = {"bert": (bert, BERT, BERTConfig), "roberta": (roberta, RoBERTa, RoBERTaConfig)}
HEADS = [(name, head) for name, (family, _, _) in FAMILIES.items() for head in family.HEADS]
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)
EVERY_HEAD = pytest.mark.parametrize(("name", "head"), HEADS)
OUTPUTS = {  # theirs -> ours; logits: of whichever head there is
    "prediction_logits": "masked_lm",
    "seq_relationship_logits": "next_sentence",
    "start_logits": "starts",
    "end_logits": "ends",
    "last_hidden_state": "hidden",
    "pooler_output": "pooled",
}


def small(name, rng, dtype=np.float64, **changes):
    _, family, config_class = FAMILIES[name]
    return small_encoder(family, config_class, rng, dtype, **changes)


def theirs_of(name, directory, head, dtype=torch.float64):
    """Their model, which must find all that it asks for, and nothing else."""
    model, info = getattr(transformers, FAMILIES[name][0].HEADS[head]).from_pretrained(
        directory, dtype=dtype, output_loading_info=True
    )
    return model.eval(), {key: set(value) for key, value in info.items() if value}


def assert_same(model, theirs, rng, limit=1e-10):
    """The same outputs, of padded texts with token types, where they are not padding."""
    c = model.config
    ids, types = rng.integers(0, 13, (4, 6)), rng.integers(0, c.type_vocab_size, (4, 6))
    mask = np.ones_like(ids)
    mask[1, 4:] = mask[2, :1] = 0
    ids[mask == 0] = c.pad_token_id
    with torch.no_grad():
        found = theirs(torch.tensor(ids), attention_mask=torch.tensor(mask), token_type_ids=torch.tensor(types))
    ours = model.forward(ids, mask, types)[0]
    for key, value in found.items():
        mine = getattr(ours, OUTPUTS.get(key, "masked_lm" if c.head == "masked_lm" else "logits"))
        expected = value.to(torch.float64).numpy()
        seen = mask == 1 if expected.shape[:2] == mask.shape else slice(None)
        np.testing.assert_allclose(
            mine[seen], expected[seen], rtol=0, atol=limit * np.abs(expected[seen]).max(), err_msg=key
        )


@EVERY_HEAD
@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transformers_reads_ours_and_we_read_theirs(name, head, tie_embeddings, dtype, tmp_path, rng):
    labels = 2 if head == "question_answering" else 4
    model = small(name, rng, dtype, head=head, tie_embeddings=tie_embeddings, num_labels=labels, activation="gelu_tanh")
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs, info = theirs_of(name, tmp_path / "ours", head, getattr(torch, np.dtype(dtype).name))
    assert info == {}  # neither missing nor unexpected nor mismatched
    assert_same(model, theirs, rng, 1e-4 if dtype == np.float32 else 1e-10)
    theirs.save_pretrained(tmp_path / "theirs")
    again = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    assert_equal_numbers(again, model)
    state = theirs.state_dict()
    for key, value in minigpt.to_huggingface_names(model, model.parameters).items():
        np.testing.assert_array_equal(state[key].numpy(), value)
    files = [set(load_file(tmp_path / side / "model.safetensors")) for side in ("ours", "theirs")]
    assert files[0] == files[1]


@EVERY_HEAD
def test_what_we_write_is_what_their_config_says(name, head, tmp_path, rng):
    """Every setting that we write is one of theirs and comes back as it was written; none lacks."""
    minigpt.to_huggingface(small(name, rng, head=head, num_labels=2 if head == "question_answering" else 3), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.save_pretrained(tmp_path / "theirs")
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert {key: theirs.get(key, values[key]) for key in values} == values
    assert theirs.keys() - values.keys() <= {"transformers_version", "initializer_range", "use_cache"}
    assert values.keys() - theirs.keys() <= {"bos_token_id", "eos_token_id"}


@pytest.mark.parametrize(("name", "head"), [("bert", "pretraining"), ("bert", "masked_lm"), ("roberta", "masked_lm")])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_gradients_have_their_names_and_layout(name, head, tie_embeddings, tmp_path, rng):
    model = small(name, rng, head=head, tie_embeddings=tie_embeddings)
    minigpt.to_huggingface(model, tmp_path)
    theirs, _ = theirs_of(name, tmp_path, head)
    ids, targets, follows = rng.integers(4, 13, (3, 6)), rng.integers(0, 13, (3, 6)), np.array([0, 1, 1])
    batch, more = {"ids": ids, "targets": targets}, {}
    if head == "pretraining":
        batch["next_sentence"], more["next_sentence_label"] = follows, torch.tensor(follows)
    theirs(torch.tensor(ids), labels=torch.tensor(targets), **more).loss.backward()
    _, grads = model.loss_and_grads(batch)
    named = minigpt.to_huggingface_names(model, grads)
    expected = {key: p.grad.numpy() for key, p in theirs.named_parameters() if p.grad is not None}
    assert named.keys() == expected.keys()  # the table of a tied head once
    largest = max(np.abs(value).max() for value in expected.values())
    for key, value in named.items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-10 * largest, err_msg=key)


@pytest.mark.parametrize(("name", "head", "asked"), [(n, h, a) for n, h in HEADS for m, a in HEADS if n == m])
def test_a_file_read_with_another_head_lacks_what_theirs_lacks(name, head, asked, tmp_path, rng):
    minigpt.to_huggingface(small(name, rng, head=head), tmp_path)
    _, info = theirs_of(name, tmp_path, asked)
    model = minigpt.from_huggingface(tmp_path, asked or "base", say=lambda message: None)
    fresh = minigpt.to_huggingface_names(model, {key: model.parameters[key] for key in model.fresh})
    assert fresh.keys() == info.get("missing_keys", set()) - {"cls.predictions.decoder.bias", "lm_head.decoder.bias"}


@EVERY_FAMILY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_and_shards_are_read(name, dtype, tmp_path, rng):
    minigpt.to_huggingface(small(name, rng, head="masked_lm"), tmp_path / "ours")
    theirs, _ = theirs_of(name, tmp_path / "ours", "masked_lm", dtype)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="1KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 1
    model = minigpt.from_huggingface(tmp_path / "theirs", say=silent)
    assert model.dtype == np.float32
    assert_same(model.astype(np.float64), theirs_of(name, tmp_path / "theirs", "masked_lm")[0], rng)


@EVERY_FAMILY
def test_files_of_the_bare_model_are_read(name, tmp_path, rng):
    model = small(name, rng, head=None)
    minigpt.to_huggingface(model, tmp_path / "ours")
    theirs_of(name, tmp_path / "ours", None)[0].save_pretrained(tmp_path / "theirs")
    assert "embeddings.word_embeddings.weight" in load_file(tmp_path / "theirs" / "model.safetensors")
    assert_equal_numbers(minigpt.from_huggingface(tmp_path / "theirs", say=silent), model)


def old_names(tensors):
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, before in names.items():
        tensors = {name.replace(new, before): value for name, value in tensors.items()}
    return tensors


@EVERY_FAMILY
@pytest.mark.parametrize("case", ["old", "decoder", "bias", "both", "no table", "no bias"])
def test_what_they_make_of_copies_and_old_names(name, case, tmp_path, rng):
    """Files that hold what the config ties twice, once under the other name, or differing."""
    model = small(name, rng, head="masked_lm")
    bias = "cls.predictions.bias" if name == "bert" else "lm_head.bias"
    decoder, table = bias.replace("bias", "decoder."), f"{name}.embeddings.word_embeddings.weight"
    weight, second = rng.standard_normal((13, 6)), rng.standard_normal(13)

    def change(tensors):
        added = {"decoder": {"weight": weight}, "bias": {"bias": second}, "both": {"weight": weight, "bias": second}}
        added |= {"no table": {"weight": tensors[table].copy()}, "no bias": {"bias": tensors[bias].copy()}}
        tensors = tensors | {decoder + part: value for part, value in added.get(case, {}).items()}
        dropped = {"no table": table, "no bias": bias}.get(case)
        return old_names({key: value for key, value in tensors.items() if key != dropped})

    export(model, tmp_path, change)
    said = []
    ours, (theirs, _) = minigpt.from_huggingface(tmp_path, say=said.append), theirs_of(name, tmp_path, "masked_lm")
    assert_same(ours, theirs, rng)
    assert len(said) == {"decoder": 1, "bias": 1, "both": 2}.get(case, 0)


@EVERY_FAMILY
def test_labels_are_counted_as_theirs_are(name, tmp_path, rng):
    minigpt.to_huggingface(small(name, rng, head="token_classification", num_labels=3), tmp_path)
    for changes in ({}, {"num_labels": 5}, {"num_labels": 5, "id2label": None}):
        rewrite(tmp_path, **changes)
        config = transformers.AutoConfig.from_pretrained(tmp_path)
        try:
            ours = minigpt.from_huggingface(tmp_path, say=lambda message: None).config.num_labels
        except minigpt.MinigptError as error:
            assert "classifier.weight (3, 6), not (5, 6)" in str(error)
            ours = 5
        assert ours == config.num_labels


@EVERY_FAMILY
def test_a_file_without_a_bias_of_the_head_is_read_as_theirs(name, tmp_path, rng):
    """A bias of the masked-LM head that is nowhere is zero on both sides."""
    model = small(name, rng, head="masked_lm")
    export(model, tmp_path, without("predictions.bias", "lm_head.bias"))
    again = minigpt.from_huggingface(tmp_path, say=lambda message: None)
    assert again.fresh == ("head.bias",)
    assert_same(again, theirs_of(name, tmp_path, "masked_lm")[0], rng)
