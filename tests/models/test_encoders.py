"""What every encoder is held to, whatever is in it and whatever stands on it: gradients, parts of a
batch, padding, files, and what it says of a batch that is none.
"""

import pytest
from families import ENCODERS, encoder_batch, random_model

import minigpt

B, T, C = 3, 8, 6
FIRST = [row for row in ENCODERS if " " not in row]  # one of each family


def every(rows=ENCODERS):
    return pytest.mark.parametrize("row", list(rows))


def inputs(batch):
    """What forward takes of a batch."""
    return batch["ids"], batch["attention_mask"], batch["token_type_ids"]


def zero_in_theory(model):
    """Parameters that add the same number to the logits of all tokens as the start or the end of an
    answer: the softmax over them does not change. What the complex step finds is rounding, which
    1e-3 of the other gradients is not always large enough to measure against.
    """
    return {"spans.bias", "h.1.ln_2.bias"} if model.config.head == "question_answering" else set()


@every()
@pytest.mark.parametrize("dropout_seed", [None, 3])
def test_gradients_of_encoders(dropout_seed, row, rng):
    model = random_model(row, rng, dropout=0.2)
    report = minigpt.check_gradients(model, encoder_batch(model, rng), dropout_seed=dropout_seed)
    assert [r.name for r in report.rows] == list(model.parameters)
    zero = zero_in_theory(model)
    assert max(r.error for r in report.rows if r.name not in zero) < 1e-13, report
    assert max((r.norm for r in report.rows if r.name in zero), default=0) < 1e-15, report
