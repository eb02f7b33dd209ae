"""What BERT and RoBERTa have each for themselves."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from families import BERT_SIZES, POSITIONS, VOCABULARY, encoder_batch, random_model

from minigpt import BERT, BERTConfig, MinigptError, RoBERTa, RoBERTaConfig, cli
from minigpt.models.encoder import HEADS
from minigpt.models.roberta import positions_of

B, T, C = 3, 8, 6


@pytest.fixture
def ids(rng):
    return rng.integers(2, VOCABULARY, (B, T))


def test_bert_defaults():
    """Those of BERT base in Hugging Face's config, dropout aside."""
    c = BERTConfig(30522)
    assert (c.max_position_embeddings, c.hidden_size, c.num_hidden_layers, c.num_attention_heads) == (512, 768, 12, 12)
    assert (c.intermediate_size, c.type_vocab_size, c.layer_norm_eps, c.activation) == (None, 2, 1e-12, "gelu")
    assert (c.dropout, c.pad_token_id, c.tie_embeddings, c.head, c.num_labels) == (0.0, 0, True, "pretraining", 2)
    assert c.block_size == 512
    # 109,482,240 below the heads, as all count BERT base; then masked LM's and next sentence's
    heads = 768 * 768 + 768 + 2 * 768 + 30522 + 2 * 768 + 2
    assert c.num_parameters == 109_482_240 + heads
    shapes = BERT.parameter_shapes(BERTConfig(**BERT_SIZES | {"intermediate_size": None}))
    assert shapes["h.0.mlp.c_fc.weight"] == (C, 4 * C)


def test_roberta_defaults():
    c = RoBERTaConfig(50265)
    assert (c.max_position_embeddings, c.block_size, c.hidden_size, c.num_hidden_layers) == (514, 512, 768, 12)
    assert (c.type_vocab_size, c.layer_norm_eps, c.pad_token_id, c.head) == (1, 1e-5, 1, "masked_lm")
    # 124,055,040 below the head, without a pooler
    assert c.num_parameters == 124_055_040 + 768 * 768 + 768 + 2 * 768 + 50265


def test_one_text_may_be_one_token_long():
    config = RoBERTaConfig(**BERT_SIZES | {"max_position_embeddings": 3})
    assert config.block_size == 1 and RoBERTa(config).forward([[2]])[0].hidden.shape == (1, 1, C)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "pretraining"}, "head is 'pretraining', a RoBERTa has no next-sentence head"),
        (
            {"max_position_embeddings": 2},
            "max_position_embeddings is 2, it must be at least pad_token_id . 2, which is 3",
        ),
        ({"pad_token_id": 8}, "max_position_embeddings is 9, it must be at least pad_token_id . 2, which is 10"),
    ],
)
def test_roberta_config_says_what_is_wrong(changes, message):
    with pytest.raises(MinigptError, match=message):
        RoBERTaConfig(**BERT_SIZES | changes)


def test_parameters_of_every_head():
    """As DESIGN and the hub call them, in store order."""
    below = ["wte.weight", "wpe.weight", "token_types.weight", "ln_0.weight", "ln_0.bias"]
    parts = ["attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"]
    below += [f"h.{i}.{part}.{kind}" for i in range(2) for part in parts for kind in ("weight", "bias")]
    both = {name: [f"{name}.weight", f"{name}.bias"] for name in ("pooler", "next_sentence", "classifier", "spans")}
    masked = ["transform.weight", "transform.bias", "ln_t.weight", "ln_t.bias", "head.bias"]
    expected = {
        "pretraining": both["pooler"] + masked + both["next_sentence"],
        "masked_lm": masked,
        "sequence_classification": both["pooler"] + both["classifier"],
        "token_classification": both["classifier"],
        "question_answering": both["spans"],
        None: both["pooler"],
    }
    for head, names in expected.items():
        shapes = BERT.parameter_shapes(BERTConfig(**BERT_SIZES, head=head))
        assert list(shapes) == below + names
        if head != "pretraining":
            own = {
                "sequence_classification": [f"classifier.{p}.{k}" for p in ("dense", "out") for k in ("weight", "bias")]
            }
            assert list(RoBERTa.parameter_shapes(RoBERTaConfig(**BERT_SIZES, head=head))) == below + own.get(
                head, names
            )
    untied = BERT.parameter_shapes(BERTConfig(**BERT_SIZES, tie_embeddings=False))
    assert untied["head.weight"] == (C, VOCABULARY) and untied["head.bias"] == (VOCABULARY,)
    shapes = BERT.parameter_shapes(BERTConfig(**BERT_SIZES))
    assert (shapes["wte.weight"], shapes["wpe.weight"]) == ((VOCABULARY, C), (POSITIONS, C))
    assert (shapes["token_types.weight"], shapes["next_sentence.weight"]) == ((3, C), (C, 2))
    assert BERT.parameter_shapes(BERTConfig(**BERT_SIZES, head="question_answering"))["spans.weight"] == (C, 2)
    assert BERT.parameter_shapes(BERTConfig(**BERT_SIZES, head="token_classification"))["classifier.weight"] == (C, 4)


def test_token_types_are_zero_unless_given(ids, rng):
    model = random_model("bert", rng)
    zeros, ones = np.zeros_like(ids), np.ones_like(ids)
    default = model.forward(ids)[0].hidden
    np.testing.assert_array_equal(model.forward(ids, token_type_ids=zeros)[0].hidden, default)
    assert (model.forward(ids, token_type_ids=ones)[0].hidden != default).all()


def test_bert_sees_in_both_directions(ids, rng):
    model = random_model("bert", rng)
    _, cache = model.forward(ids)
    for block in cache.blocks:
        assert (block.attn.weights > 0).all()


def test_positions_of_roberta_begin_after_that_of_padding():
    ids = np.array([[1, 1, 5, 6, 1], [0, 2, 1, 3, 4], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(positions_of(ids, 1), [[1, 1, 2, 3, 1], [2, 3, 1, 4, 5], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(positions_of(ids, 0), [[1, 2, 3, 4, 5], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])


def test_roberta_without_padding_is_a_bert_of_later_positions(ids, rng):
    """But for the heads' activation, which is GELU in both here."""
    model = random_model("roberta", rng)
    sizes = BERT_SIZES | {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "head": "masked_lm"}
    bert = BERT(BERTConfig(**sizes), dtype=np.float64)
    for name, value in bert.parameters.items():
        value[...] = model.parameters[name][2:] if name == "wpe.weight" else model.parameters[name]
    np.testing.assert_array_equal(bert.forward(ids)[0].masked_lm, model.forward(ids)[0].masked_lm)


def test_roberta_masked_lm_head_has_gelu_and_berts_the_activation_of_the_config(ids, rng):
    for row, expected in (("roberta untied", "gelu"), ("bert untied", "relu")):
        assert random_model(row, rng).masked_lm.activation == expected


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("head", HEADS)
def test_dropout_stands_where_the_papers_have_it(family, head, ids, rng):
    """On embeddings, on attention weights, on both branches of each block; before a classifier."""
    if (family, head) == ("roberta", "pretraining"):
        return
    model = random_model(family, rng, head=head, dropout=0.4)

    shapes = []

    class Draws:
        def random(self, shape, dtype=None):
            shapes.append(shape)
            return rng.random(shape, dtype=dtype)

    model.forward(ids, rng=Draws())
    embedding, weights = (B, T, C), (B, 2, T, T)
    expected = [embedding, *[weights, embedding, embedding] * 2]
    if head == "sequence_classification":
        expected += [(B, C)] * (2 if family == "roberta" else 1)
    if head == "token_classification":
        expected.append(embedding)
    assert shapes == expected


@pytest.mark.parametrize("eps", [1e-12, 0.5])
def test_layer_norms_have_the_eps_of_the_config(eps, ids, rng):
    for row in ("bert", "roberta"):
        model = random_model(row, rng, layer_norm_eps=eps)
        norms = [model.ln_0, model.masked_lm.ln, *(norm for block in model.blocks for norm in (block.ln_1, block.ln_2))]
        assert [norm.eps for norm in norms] == [eps] * 6


@pytest.mark.parametrize("row", ["bert", "roberta", "gpt"])
def test_a_random_batch_suits_the_model(row, rng):
    model = random_model(row, rng)
    batch = model.random_batch(rng, 2, 5)
    assert batch["ids"].shape == (2, 5) and np.isfinite(model.loss(batch))
    assert model.random_batch(rng)["ids"].shape == (2, POSITIONS)
    if row != "gpt":
        np.testing.assert_array_equal(batch["attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    positions = {"block_size": 40} if row == "gpt" else {"max_position_embeddings": 40}
    assert random_model(row, rng, **positions).random_batch(rng)["ids"].shape == (2, 16)
    many = model.random_batch(rng, 300)
    assert set(many["ids"].flat) == set(many["targets"].flat) == set(range(VOCABULARY))
    if row == "bert":
        assert set(many["token_type_ids"].flat) == {0, 1, 2} and set(many["next_sentence"]) == {0, 1}


def test_commands_take_an_encoder_or_refuse_it_in_a_line(tmp_path, capsys, rng):
    from minigpt.tokenizers import CharTokenizer

    model = random_model("bert", rng)
    model.save(tmp_path, CharTokenizer(list("abcdefghijk")))
    assert cli.main(["gradcheck", "--model", str(tmp_path), "--method", "complex"]) == 0
    assert cli.main(["info", str(tmp_path)]) == 0
    assert "next_sentence.weight" in capsys.readouterr().out
    for command in (["generate", "--model", str(tmp_path)], ["eval", "--model", str(tmp_path)]):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert "a bert reads a text in both directions, it continues none" in error and error.count("\n") == 1


@pytest.mark.parametrize("config", [BERTConfig, RoBERTaConfig])
def test_configs_stay_as_they_are(config):
    with pytest.raises(FrozenInstanceError):
        config(**BERT_SIZES).head = None


def test_an_answer_in_a_text_of_one_token(rng):
    """There is nothing to choose: a loss of 0, whatever is ignored."""
    model = random_model("bert answers", rng)
    batch = {"ids": np.array([[3], [4]]), "starts": np.array([0, -100]), "ends": np.array([-100, 0])}
    assert model.loss_terms(batch) == {"starts": 0, "ends": 0}


def test_an_answers_loss_is_the_mean_of_its_ends(rng):
    model = random_model("bert answers", rng)
    batch = encoder_batch(model, rng)
    terms = model.loss_terms(batch)
    logits = model.forward(batch["ids"], batch["attention_mask"], batch["token_type_ids"])[0].starts[1:]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert terms["starts"] == pytest.approx(-np.log(p[[0, 1], batch["starts"][1:]]).mean() / 2, rel=1e-12)
