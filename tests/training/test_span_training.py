"""The trainer with a model of two stacks: spans, prefixes, samples, resuming."""

import signal

import numpy as np
import pytest
from pieces import SentinelPieces

from minigpt import T5, MinigptError, T5Config
from minigpt.objectives import PrefixLM, SpanCorruption
from minigpt.training import Interrupted, TrainConfig, Trainer, Workers, evaluate, read_metrics
from minigpt.training.measures import measure

TOKENIZER = SentinelPieces([str(i) for i in range(30)])
TOKENIZER.decode = lambda ids: " ".join(TOKENIZER.pieces[i] for i in ids)
TOKENIZER.to_json = lambda: '{"type": "char", "characters": "ab"}'
SIZES = {"d_model": 8, "d_kv": 3, "d_ff": 10, "num_layers": 2, "num_heads": 2, "relative_attention_num_buckets": 8}
SIZES |= {"relative_attention_max_distance": 6}
KINDS = {"spans": lambda: SpanCorruption(TOKENIZER, 19, mask_rate=0.3, varied=True),
         "prefix": lambda: PrefixLM(TOKENIZER, 19)}  # fmt: skip


def tokens(length=400):
    found = np.random.default_rng(0).integers(3, 33, length).astype(np.uint16)
    found[::13] = TOKENIZER.unk_id
    return found


def trainer(out, kind="spans", **settings):
    settings = {"steps": 8, "batch_size": 4, "shards": 2, "eval_interval": 3, "save_interval": 5} | settings
    model = T5(T5Config(TOKENIZER.vocab_size, **SIZES, dropout=0.2))
    options = {"objective": KINDS[kind](), "tokenizer": TOKENIZER, "threads": 2, "say": lambda line: None, "bar": False}
    return Trainer(model, tokens(), tokens(200), config=TrainConfig(**settings), out=out, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_of_two_stacks_ends_with_the_same_bits(tmp_path, kind):
    straight, stopped = trainer(tmp_path / "a", kind), trainer(tmp_path / "b", kind)
    straight.run()
    stopped.say = lambda line: signal.raise_signal(signal.SIGINT) if "step 3" in line else None
    with pytest.raises(Interrupted, match="after step 3 of 8"):
        stopped.run()
    resumed = trainer(tmp_path / "b", kind)
    resumed.resume()
    resumed.run()
    np.testing.assert_array_equal(resumed.model.store.vector, straight.model.store.vector)
    a, b = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(tmp_path / run / "metrics.jsonl")]
        for run in "ab"
    )
    assert a == b


def test_threads_and_recomputation_change_no_bit_of_two_stacks(tmp_path):
    vectors = []
    for name, threads, recompute in (("a", 2, False), ("b", 1, False), ("c", 2, True)):
        t = trainer(tmp_path / name, steps=2, recompute=recompute)
        t.threads, t.workers = threads, Workers(threads)
        t.run()
        vectors.append(t.model.store.vector)
    for other in vectors[1:]:
        np.testing.assert_array_equal(other, vectors[0])


def test_text_and_sentinels_are_measured_apart(tmp_path):
    said = []
    t = trainer(tmp_path)
    t.say = said.append
    loss = t.run()
    row = read_metrics(tmp_path / "metrics.jsonl")[-1]
    nats, counts = dict.fromkeys(("span_text", "sentinels"), 0.0), dict.fromkeys(("span_text", "sentinels"), 0)
    for batch in t.objective.walk(t.val_tokens, 3):
        z = t.model.logits(*(batch[name] for name in (
            "ids", "decoder_input_ids", "attention_mask", "decoder_attention_mask"
        ))).astype(np.float64)  # fmt: skip
        for r, place in zip(*np.nonzero(batch["targets"] >= 0)):
            token = batch["targets"][r, place]
            kind = "sentinels" if token == TOKENIZER.eos_id or token in TOKENIZER.sentinel_ids else "span_text"
            nats[kind] += np.log(np.exp(z[r, place]).sum()) - z[r, place, token]
            counts[kind] += 1
    for kind in nats:
        assert row[kind] == pytest.approx(nats[kind] / counts[kind], rel=1e-5)
    assert row["val_loss"] == loss == pytest.approx(sum(nats.values()) / sum(counts.values()), rel=1e-5)
    assert loss == pytest.approx(evaluate(t.model, t.objective.walk(t.val_tokens, 3), Workers(1)), rel=1e-6)
    assert f"(span text {row['span_text']:.4f}, sentinels {row['sentinels']:.4f})" in said[-1]
    measured = measure(t.model, PrefixLM(TOKENIZER, 19), t.val_tokens, rows=3, workers=Workers(1))
    assert measured[1] == {} and measured[0] > 0


def test_a_sample_shows_spans_filled_and_prefixes_continued(tmp_path):
    t = trainer(tmp_path)
    shown, filled = (line.split() for line in t.sample(0).split("\n"))
    batch = next(iter(t.objective.walk(t.val_tokens, 1)))
    assert shown == [TOKENIZER.pieces[i] for i in batch["ids"][0, :-1]]
    sentinels = [i for i, word in enumerate(shown) if word.startswith("<extra_id_")]
    assert sentinels and not any(word.startswith("<extra_id_") for word in filled)
    before, after = shown[: sentinels[0]], shown[sentinels[-1] + 1 :]
    assert filled[: len(before)] == before and filled[len(filled) - len(after) :] == after
    t = trainer(tmp_path, "prefix")
    shown, written = (line.split() for line in t.sample(0).split("\n"))
    batch = next(iter(t.objective.walk(t.val_tokens, 1)))
    assert shown == [TOKENIZER.pieces[i] for i in batch["ids"][0, :-1]]
    new = t.model.generate(batch["ids"], batch["targets"].shape[1], temperature=0)[0]
    assert written == [TOKENIZER.pieces[i] for i in new if i not in (TOKENIZER.pad_id, TOKENIZER.eos_id)]


def test_settings_of_spans_are_part_of_the_run(tmp_path):
    trainer(tmp_path, steps=3).run()
    other = trainer(tmp_path, steps=6)
    other.objective = SpanCorruption(TOKENIZER, 19, mask_rate=0.3)
    with pytest.raises(MinigptError, match=r"varied is False, the run in .* was started with True"):
        other.resume()


def test_what_a_run_of_two_stacks_is_said_to_take_is_less_than_it_keeps():
    def arrays(x):
        """id -> bytes of the buffers in a cache"""
        if isinstance(x, np.ndarray):
            while isinstance(x.base, np.ndarray):
                x = x.base
            return {id(x): x.nbytes}
        parts = [arrays(part) for part in x] if isinstance(x, tuple | list) else []
        return {key: size for part in parts for key, size in part.items()}

    for sizes in (SIZES, SIZES | {"d_ff": 90, "num_decoder_layers": 3}, SIZES | {"feed_forward_proj": "gated-gelu"}):
        model = T5(T5Config(TOKENIZER.vocab_size, **sizes))
        batch = SpanCorruption(TOKENIZER, 19).draw(tokens(), 3, np.random.default_rng(0))
        count = batch["ids"].size + batch["targets"].size
        for keep in ("activations", "inputs"):
            _, cache = model.forward(batch["ids"], batch["decoder_input_ids"], keep=keep)
            blocks = {k: n for stack in cache[:2] for k, n in arrays(stack.blocks).items()}
            blocks.pop(id(model.store.vector), None)
            if keep == "activations":
                assert 0.3 * sum(blocks.values()) < model.activation_memory(count) < sum(blocks.values())
        assert model.activation_memory(count, keep="inputs") < model.activation_memory(count)
        assert model.astype(np.float64).activation_memory(5) == 2 * model.activation_memory(5)


@pytest.mark.parametrize("name", ["decoder_start_token_id", "eos_token_id"])
def test_a_model_that_begins_or_ends_otherwise_is_refused(tmp_path, name):
    """Its loss would fall, and what it writes would begin with what it has never seen, or not
    end.
    """
    model = T5(T5Config(TOKENIZER.vocab_size, **SIZES, **{name: 5}))
    config = TrainConfig(steps=2, batch_size=2)
    with pytest.raises(MinigptError, match=f"{name} is 5, the tokenizer's targets (begin|end) with its .* token"):
        Trainer(model, tokens(), tokens(), config=config, out=tmp_path / "run", objective=KINDS["spans"]())
    assert not (tmp_path / "run").exists()
