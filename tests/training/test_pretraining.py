"""The trainer with an encoder: objectives of hidden tokens, terms, samples, resuming."""

import math
import signal

import numpy as np
import pytest
from pieces import Pieces

from minigpt import BERT, BERTConfig
from minigpt.data import Documents
from minigpt.objectives import Batch, MaskedLM, NextSentence
from minigpt.training import Interrupted, TrainConfig, Trainer, Workers, evaluate, read_metrics
from minigpt.training.measures import described, measure, uniform_loss

TOKENIZER = Pieces([f"{'##' if i % 3 == 2 else ''}{i}" for i in range(30)])
TOKENIZER.decode = lambda ids: " ".join(TOKENIZER.pieces[i] for i in ids)
TOKENIZER.to_json = lambda: '{"type": "char", "characters": "ab"}'


def texts():
    rng = np.random.default_rng(0)
    return [
        "\n".join(" ".join(TOKENIZER.pieces[5 + i] for i in rng.integers(0, 30, 8)) for _ in range(30)) for _ in "abc"
    ]


def trainer(out, **settings):
    settings = {"steps": 8, "batch_size": 4, "shards": 2, "eval_interval": 3, "save_interval": 5} | settings
    documents = Documents.of(texts(), TOKENIZER, lines=True)
    objective = NextSentence(TOKENIZER, 19, mask_rate=0.3, short_length=11, short_share=0.5)
    config = BERTConfig(TOKENIZER.vocab_size, 19, 8, 2, 2, dropout=0.2)
    options = {"objective": objective, "tokenizer": TOKENIZER, "threads": 2, "say": lambda line: None, "bar": False}
    return Trainer(BERT(config), documents, documents, config=TrainConfig(**settings), out=out, **options)


def test_a_stopped_run_ends_with_the_same_bits(tmp_path):
    straight, stopped = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    straight.run()
    stopped.say = lambda line: signal.raise_signal(signal.SIGINT) if "step 3" in line else None
    with pytest.raises(Interrupted, match="after step 3 of 8"):
        stopped.run()
    resumed = trainer(tmp_path / "b")
    resumed.resume()
    resumed.run()
    np.testing.assert_array_equal(resumed.model.store.vector, straight.model.store.vector)
    a, b = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(tmp_path / run / "metrics.jsonl")]
        for run in "ab"
    )
    assert a == b


def test_a_step_in_which_nothing_is_hidden_has_the_other_terms_gradient(tmp_path):
    """Of unknown tokens alone none is hidden: the run goes on."""
    t = trainer(tmp_path)
    parts = [
        part._replace(batch=Batch({**part.batch, "targets": np.full_like(part.batch["targets"], -100)}))
        for part in t.parts()
    ]
    t.parts = lambda: parts
    loss = t.compute_gradients()
    gradients = dict(zip(t.model.parameters, t.gradients[0].values()))
    assert 0 < loss < 2 and not gradients["transform.weight"].any()
    assert gradients["next_sentence.weight"].any() and np.isfinite(t.gradients[0].vector).all()


def test_terms_of_the_loss_are_measured_and_said(tmp_path):
    said = []
    t = trainer(tmp_path)
    t.say = said.append
    loss = t.run()
    row = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert row["val_loss"] == loss == pytest.approx(row["masked_lm"] + row["next_sentence"])
    batches = list(t.objective.walk(t.val_tokens, 1))
    out = [t.model.forward(batch["ids"], token_type_ids=batch["token_type_ids"])[0] for batch in batches]
    nats, count, right = 0.0, 0, 0
    for batch, given in zip(batches, out):
        z = given.masked_lm[0].astype(np.float64)
        for place in np.flatnonzero(batch["targets"][0] >= 0):
            nats += np.log(np.exp(z[place]).sum()) - z[place, batch["targets"][0, place]]
            count += 1
        right += int(given.next_sentence[0].argmax() == batch["next_sentence"][0])
    assert row["masked_lm"] == pytest.approx(nats / count, rel=1e-5)
    assert row["next_sentence_accuracy"] == right / len(batches)
    assert f"(masked lm {row['masked_lm']:.4f}, next sentence " in said[-1]
    assert f"next sentence accuracy {right / len(batches):.4f})" in said[-1]
    assert "[MASK]" in next(line for line in said if "step 3" in line)


def test_a_sample_fills_the_hidden_tokens_and_leaves_the_others(tmp_path):
    t = trainer(tmp_path)
    shown, filled = (line.split() for line in t.sample(0).split("\n"))
    batch = next(iter(t.objective.walk(t.val_tokens, 1)))
    hidden = batch["targets"][0] >= 0
    logits = t.model.forward(batch["ids"], token_type_ids=batch["token_type_ids"])[0].masked_lm[0]
    assert shown == [TOKENIZER.pieces[i] for i in batch["ids"][0]]
    assert [word for word, at in zip(filled, hidden) if not at] == [word for word, at in zip(shown, hidden) if not at]
    expected = [TOKENIZER.pieces[i] for i in logits.argmax(axis=-1)[hidden]]
    assert [word for word, at in zip(filled, hidden) if at] == expected


def test_bits_per_byte_are_nats_per_byte_over_log_2(rng):
    objective, tokens = MaskedLM(TOKENIZER, 19), rng.integers(5, 35, 200)
    model = BERT(BERTConfig(TOKENIZER.vocab_size, 19, 8, 1, 2, head="masked_lm"))
    loss, found = measure(model, objective, tokens, rows=3, workers=Workers(1), text_bytes=531)
    assert loss == evaluate(model, objective.walk(tokens, 3), Workers(1)) == found["masked_lm"]
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2) * 200 / 531)
    assert described({"bits_per_byte": 2.5}) == ", 2.5000 bits per byte"
    assert described({}) == ""


def test_a_uniform_guess_knows_of_the_next_sentence():
    assert uniform_loss(MaskedLM(TOKENIZER, 9), 35) == math.log(35)
    assert uniform_loss(NextSentence(TOKENIZER, 9), 35) == pytest.approx(math.log(70))


def test_settings_of_the_objective_are_part_of_the_run(tmp_path):
    from minigpt import MinigptError

    trainer(tmp_path, steps=3).run()
    other = trainer(tmp_path, steps=6)
    other.objective = NextSentence(TOKENIZER, 19, mask_rate=0.3, short_length=11, short_share=0.25)
    with pytest.raises(MinigptError, match=r"short_share is 0\.25, the run in .* was started with 0\.5"):
        other.resume()
