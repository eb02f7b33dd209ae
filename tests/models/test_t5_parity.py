"""T5 against `transformers` in float64: logits, loss, the gradient of every parameter."""

import numpy as np
import pytest
from lifted_casts import lift_casts

pytestmark = pytest.mark.parity
LIMIT = 1e-10


@pytest.fixture
def oracle(monkeypatch):
    """The module that needs PyTorch and transformers, whose casts to float32 are lifted."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import t5_oracle

    lift_casts(monkeypatch, t5_oracle.modeling_t5, *t5_oracle.CASTS)
    return t5_oracle


def assert_close(ours, theirs):
    """Largest error over the larger of this array's largest value and 1e-3 of the largest one."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(value).max() for value in theirs.values())
    for name, value in theirs.items():
        scale = max(np.abs(value).max(), 1e-3 * largest)
        assert np.abs(ours[name] - value).max() < LIMIT * scale, name


def compare(oracle, rng, monkeypatch, *, dropout=0.0, **settings):
    """Logits, loss and gradients of one pair of models on one batch."""
    theirs, ours = oracle.make_pair(rng, dropout=dropout, **settings)
    batch = oracle.random_batch(rng)
    pattern, own = (oracle.Pattern(), oracle.Pattern()) if dropout else (None, None)
    if dropout:
        monkeypatch.setattr(oracle.torch.nn.functional, "dropout", pattern.their_dropout)
    out = oracle.their_loss(theirs, batch)
    masks = batch["attention_mask"], batch["decoder_attention_mask"]
    logits, _ = ours.forward(batch["ids"], batch["decoder_input_ids"], *masks, own)
    seen = np.cumsum(batch["decoder_attention_mask"], axis=1) > 0  # of others they make a uniform mean of all keys
    assert_close({"logits": logits[seen]}, {"logits": out.logits.detach().numpy()[seen]})
    if dropout:
        assert own.draws == pattern.draws == 4 + 4 * oracle.LAYERS + 6 * oracle.DECODER_LAYERS
        own = oracle.Pattern()
    out.loss.backward()
    loss, grads = ours.loss_and_grads(batch, own)
    assert loss == pytest.approx(out.loss.item(), rel=1e-12)
    assert_close(grads, oracle.their_gradients(theirs))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("version", ["1.0", "1.1", "tied, not scaled", "untied, scaled"])
def test_t5_equals_transformers(version, dropout, oracle, rng, monkeypatch):
    compare(oracle, rng, monkeypatch, dropout=dropout, **oracle.VERSIONS[version])
