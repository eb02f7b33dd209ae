"""BERT and RoBERTa against `transformers` in float64: every output, the loss, every gradient."""

import numpy as np
import pytest

from minigpt import EncoderOutput

pytestmark = pytest.mark.parity
HEADS = ["masked_lm", "sequence_classification", "token_classification", "question_answering", None]
PAIRS = [("bert", "pretraining"), *((family, head) for family in ("bert", "roberta") for head in HEADS)]
LIMIT = 1e-10


@pytest.fixture
def oracle():
    """The module that needs PyTorch and transformers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import encoder_oracle

    return encoder_oracle


def assert_close(ours, theirs):
    """Largest error over the larger of this array's largest value and 1e-3 of the largest one."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(value).max() for value in theirs.values())
    for name, value in theirs.items():
        scale = max(np.abs(value).max(), 1e-3 * largest)
        assert np.abs(ours[name] - value).max() < LIMIT * scale, name


def compare(oracle, family, head, rng, monkeypatch, *, dropout=0.0, **settings):
    """Outputs, loss and gradients of one pair of models on one batch."""
    torch = oracle.torch
    theirs, ours = oracle.make_pair(family, head, rng, dropout=dropout, **settings)
    batch = oracle.random_batch(family, head, rng)
    pattern, own = (oracle.Pattern(), oracle.Pattern()) if dropout else (None, None)
    if dropout:
        monkeypatch.setattr(torch.nn.functional, "dropout", pattern.their_dropout)
    out, expected = oracle.their_outputs(theirs, batch)
    found, cache = ours.forward(batch["ids"], batch["attention_mask"], batch["token_type_ids"], own)
    for name, value in expected.items():
        assert_close({name: getattr(found, name)}, {name: value.detach().numpy()})
    if dropout:
        assert own.draws == pattern.draws == 1 + 3 * oracle.LAYERS + dropouts_of_head(family, head)
    if head is None:
        douts = {name: rng.standard_normal(value.shape) for name, value in expected.items()}
        sum((expected[name] * torch.tensor(dout)).sum() for name, dout in douts.items()).backward()
        grads = ours.backward(EncoderOutput(**douts), cache)
    else:
        out.loss.backward()
        loss, grads = ours.loss_and_grads(batch, oracle.Pattern() if dropout else None)
        assert loss == pytest.approx(out.loss.item(), rel=1e-12)
    assert_close(grads, oracle.their_gradients(theirs))


def dropouts_of_head(family, head):
    """How often a head drops: RoBERTa's classifier of a text before and after its first matrix."""
    if head == "sequence_classification":
        return 2 if family == "roberta" else 1
    return 1 if head == "token_classification" else 0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("family", "head"), PAIRS)
def test_encoder_equals_transformers(family, head, dropout, oracle, rng, monkeypatch):
    compare(oracle, family, head, rng, monkeypatch, dropout=dropout)


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_encoder_of_other_activations_and_untied_equals_transformers(family, activation, oracle, rng, monkeypatch):
    compare(oracle, family, "masked_lm", rng, monkeypatch, activation=activation, tie=False)
