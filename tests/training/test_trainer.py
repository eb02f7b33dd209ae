import json
import math
import os
import signal
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

import minigpt
from minigpt import GPT, CharTokenizer, GPTConfig, MinigptError, checkpoint, machine
from minigpt.data import consecutive_batches, draw_batch
from minigpt.machine import THREAD_SETTINGS, keep_freed_memory, thread_settings, usable_threads
from minigpt.objectives import Batch, NextToken
from minigpt.training import Diverged, Interrupted, TrainConfig, Trainer, Workers, evaluate, read_metrics
from minigpt.training.step import Part, generator, training_memory
from minigpt.training.threads import candidates, measure_threads

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 12
TOKENIZER = CharTokenizer.from_text(TEXT)
TOKENS = TOKENIZER.encode(TEXT)


def trainer(out, threads=None, dropout=0.2, dtype=np.float32, tokens=TOKENS, **settings):
    settings = {
        "steps": 12,
        "batch_size": 5,
        "shards": 2,
        "eval_interval": 5,
        "save_interval": 4,
        "warmup": 2,
    } | settings
    model = GPT(GPTConfig(TOKENIZER.vocab_size, 8, 2, 2, 8, dropout=dropout), settings.get("seed", 0), dtype)
    threads = min(2, settings["shards"]) if threads is None else threads  # a number spares the measurement
    config = TrainConfig(**settings)
    options = {"tokenizer": TOKENIZER, "data_sha256": "abc", "threads": threads, "say": lambda line: None, "bar": False}
    return Trainer(model, tokens[:600], tokens[600:], config=config, out=out, **options)


def test_training_lowers_the_loss(tmp_path):
    t = trainer(tmp_path, dropout=0.0, steps=60, lr=1e-2)
    before = t.evaluate()
    assert t.run() < before - 0.5


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resumed_run_ends_with_the_same_bits(tmp_path, optimizer, accumulate):
    straight = trainer(tmp_path / "a", optimizer=optimizer, accumulate=accumulate)
    straight.run()
    stopped = trainer(tmp_path / "b", optimizer=optimizer, accumulate=accumulate)
    stopped.say = lambda line: signal.raise_signal(signal.SIGINT) if "step 5" in line else None
    with pytest.raises(Interrupted, match=r"after step 5 of 12.*--resume"):
        stopped.run()
    resumed = trainer(tmp_path / "b", optimizer=optimizer, accumulate=accumulate, threads=1)
    resumed.resume()
    assert resumed.step == 5
    resumed.run()
    np.testing.assert_array_equal(resumed.model.store.vector, straight.model.store.vector)
    for name, value in straight.optimizer.state.items():
        np.testing.assert_array_equal(resumed.optimizer.state[name], value)
    assert resumed.val_loss == straight.val_loss
    a, b = (read_metrics(tmp_path / run / "metrics.jsonl") for run in "ab")
    assert [(r["step"], r["train_loss"], r.get("val_loss")) for r in a] == [
        (r["step"], r["train_loss"], r.get("val_loss")) for r in b
    ]


def test_recomputing_changes_no_bit_and_may_be_chosen_anew(tmp_path):
    straight, stopped = trainer(tmp_path / "a"), trainer(tmp_path / "b", steps=5, schedule="constant")
    straight.run()
    recomputed = trainer(tmp_path / "c", recompute=True)
    recomputed.run()
    np.testing.assert_array_equal(recomputed.model.store.vector, straight.model.store.vector)
    stopped.run()
    resumed = trainer(tmp_path / "b", steps=9, schedule="constant", recompute=True)
    resumed.resume()
    resumed.run()
    whole = trainer(tmp_path / "d", steps=9, schedule="constant")
    whole.run()
    np.testing.assert_array_equal(resumed.model.store.vector, whole.model.store.vector)


def test_recomputing_reaches_the_model(tmp_path, monkeypatch):
    seen = []
    for recompute in (False, True):
        t = trainer(tmp_path, recompute=recompute, shards=1)
        monkeypatch.setattr(
            t.model, "add_backward", lambda g, dlogits, cache: seen.append({type(c).__name__ for c in cache.blocks})
        )
        t.compute_gradients()
    assert seen == [{"PreNormCache"}, {"RecomputedCache"}]


def test_evaluation_and_diagnosis_take_no_more_memory_than_a_recomputed_step(tmp_path):
    model = GPT(GPTConfig(TOKENIZER.vocab_size, 64, 12, 2, 16))
    config = TrainConfig(steps=1, batch_size=4, recompute=True)
    t = Trainer(
        model,
        np.tile(TOKENS, 5),
        np.tile(TOKENS, 5),
        config=config,
        out=tmp_path,
        threads=1,
        say=lambda line: None,
        bar=False,
    )

    def peak(function):
        tracemalloc.start()
        function()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    step, evaluation, diagnosis = map(peak, (t.train_step, t.evaluate, lambda: t.diagnose(math.nan)))
    assert evaluation < 1.1 * step and diagnosis < 1.5 * step  # with all activations: five times


def test_run_does_not_depend_on_threads(tmp_path):
    one, two = trainer(tmp_path / "1", threads=1), trainer(tmp_path / "2", threads=2)
    one.run()
    two.run()
    np.testing.assert_array_equal(one.model.store.vector, two.model.store.vector)


@pytest.fixture
def four_cores(monkeypatch):
    """A machine of four cores, whose environment says nothing of threads."""
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    for name in THREAD_SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("seconds", "chosen"), [({2: 1.0, 1: 0.95}, 2), ({2: 1.0, 1: 0.8}, 1)])
def test_more_threads_are_preferred_where_measurements_are_close(tmp_path, monkeypatch, seconds, chosen):
    """Three threads for four shards: as many rounds as two, which are tried in their place."""
    monkeypatch.setattr("minigpt.training.trainer.usable_threads", lambda: 3)
    monkeypatch.setattr(
        "minigpt.training.trainer.measure_threads",
        lambda work, counts, **settings: {count: seconds[count] for count in counts},
    )
    t = trainer(tmp_path, "auto", steps=60, shards=4)
    t.choose_threads()
    assert t.workers.threads == chosen


@pytest.mark.parametrize("fastest", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 3))])
def test_measuring_threads_changes_no_bit_of_the_run(tmp_path, monkeypatch, four_cores, fastest):
    def first_steps(out, threads):
        t, said = trainer(out, threads, steps=60, shards=3, accumulate=2), []
        t.say = said.append
        t.run()
        return t, said

    measured = []

    def measure(work, counts, rounds):
        measured.append((counts, rounds, measure_threads(work, counts, 0.01)))
        return {count: 2.0 - (count == fastest) for count in counts}

    monkeypatch.setattr("minigpt.training.trainer.measure_threads", measure)
    (plain, _), (auto, said) = first_steps(tmp_path / "plain", 1), first_steps(tmp_path / "auto", "auto")
    assert len(measured) == 1
    assert measured[0][:2] == ([3, 2, 1], 60 // 50)
    assert set(measured[0][2]) <= {1, 2, 3}
    assert all(0 < seconds < math.inf for seconds in measured[0][2].values())
    assert auto.workers.threads == auto.threads == fastest
    times = ", ".join(f"{1000 if count == fastest else 2000:.3g} ms on {count}" for count in (1, 2, 3))
    assert said[0].replace("e+03", "000") == f"threads: {fastest}; gradients of a step: {times}".replace("e+03", "000")
    np.testing.assert_array_equal(plain.model.store.vector, auto.model.store.vector)
    for name, value in plain.optimizer.state.items():
        np.testing.assert_array_equal(auto.optimizer.state[name], value)
    assert plain.val_loss == auto.val_loss


def test_resumed_run_may_measure_anew(tmp_path, four_cores):
    for threads, steps in ((1, 20), ("auto", 75)):
        t = trainer(tmp_path / "b", threads, steps=steps, schedule="constant")
        if steps > 20:
            t.resume()
            said = []
            t.say = said.append
        t.run()
    assert any("; gradients of a step: " in line for line in said)
    straight = trainer(tmp_path / "c", 2, steps=75, schedule="constant")
    straight.run()
    np.testing.assert_array_equal(t.model.store.vector, straight.model.store.vector)


@pytest.mark.parametrize(
    ("threads", "steps", "shards"),
    [(2, 60, 2), ("auto", 49, 2), ("auto", 60, 1)],
    ids=["a number", "a short run", "one shard"],
)
def test_threads_are_not_measured_where_there_is_nothing_to_gain(
    tmp_path, monkeypatch, four_cores, threads, steps, shards
):
    monkeypatch.setattr("minigpt.training.trainer.measure_threads", None)
    t, said = trainer(tmp_path, threads, steps=steps, shards=shards), []
    t.say = said.append
    t.run()
    assert said[0] == f"threads: {shards}"


@pytest.mark.parametrize(
    ("most", "shards", "counts"),
    [
        (1, 1, [1]),
        (2, 2, [2, 1]),
        (8, 8, [8, 4, 2, 1]),
        (2, 3, [2, 1]),
        (5, 5, [5, 3, 2, 1]),
        (6, 12, [6, 3, 2, 1]),
        (64, 5, [5, 3, 2, 1]),
    ],
)
def test_candidates_need_fewer_rounds_than_any_smaller_number(most, shards, counts):
    assert candidates(most, shards) == counts


def test_measurement_leaves_out_numbers_that_must_be_slower(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    calls = []

    def work(workers):
        calls.append(workers.threads)
        clock[0] += 3.0 if len(calls) == 1 else {4: 1.0, 2: 1.2, 1: 5.0}[workers.threads]  # the first warms up

    assert measure_threads(work, [4, 2, 1]) == pytest.approx({4: 1.0, 2: 1.2, 1: 5.0})
    assert calls == [4, 2, 1, 4, 2, 1]  # long steps: two each
    calls.clear()

    def steep(workers):
        calls.append(workers.threads)
        clock[0] += 0.1 / workers.threads

    # 1 can't be better
    assert measure_threads(steep, [4, 2, 1], seconds=1.0, rounds=3) == pytest.approx({4: 0.025, 2: 0.05})
    assert calls == [4, 2] * 4


def test_environment_limits_threads(tmp_path, monkeypatch, four_cores):
    assert (usable_threads(), thread_settings()) == (4, {})
    for value in ("", "0", "-2", "many", "²"):
        monkeypatch.setenv("MKL_NUM_THREADS", value)
        assert (usable_threads(), thread_settings()) == (4, {})
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert (usable_threads(), Workers().threads) == (3, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,8")
    assert (usable_threads(), thread_settings()) == (2, {"OMP_NUM_THREADS": 2, "OPENBLAS_NUM_THREADS": 3})
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "16")
    assert usable_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for threads, line in (
        ("auto", "threads: 1 (environment: OMP_NUM_THREADS=1, OPENBLAS_NUM_THREADS=16)"),
        (2, "threads: 2, above what the environment allows: OMP_NUM_THREADS=1, OPENBLAS_NUM_THREADS=16"),
    ):
        t, said = trainer(tmp_path / str(threads), threads, steps=1), []
        t.say = said.append
        t.run()
        assert said[0] == line
        assert t.workers.threads == (1 if threads == "auto" else 2)


def test_gradient_does_not_depend_on_how_the_batch_is_cut(tmp_path):
    gradients = []
    for shards, ignored in ((1, False), (3, False), (1, True), (3, True)):
        t = trainer(tmp_path, dropout=0.0, shards=shards, dtype=np.float64, accumulate=2)
        if ignored:  # some shards then have no target that counts at all
            parts = [
                Part(m, i, Batch({"ids": b["ids"], "targets": np.where(np.arange(8) < 2 * i, b["targets"], -100)}))
                for m, i, b in trainer(tmp_path, shards=3, accumulate=2).parts()
            ]
            if shards == 1:
                whole = {name: np.concatenate([p.batch[name] for p in parts]) for name in ("ids", "targets")}
                parts = [Part(0, 0, Batch(whole))]
            t.parts = lambda parts=parts: parts
        loss = t.compute_gradients()
        gradients.append((loss, t.gradients[0].vector.copy()))
    for a, b in (gradients[:2], gradients[2:]):
        assert a[0] == pytest.approx(b[0], rel=1e-12)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-9, atol=1e-13)


def test_dropout_and_batches_differ_by_place(tmp_path):
    t = trainer(tmp_path, accumulate=2)
    draws = {float(generator(t.config, 0, micro, stream).random()) for micro in range(3) for stream in range(4)}
    assert len(draws | {float(generator(t.config, 1, 0, 0).random())}) == 13


def test_validation_loss_is_the_mean_over_all_windows(tmp_path, rng):
    t = trainer(tmp_path, dtype=np.float64)
    tokens = t.val_tokens[:100]
    losses = [float(t.model.loss(tokens[i : i + 8][None], tokens[i + 1 : i + 9][None])) for i in range(0, 96, 8)]
    for batch_size in (1, 5, 100):
        assert evaluate(t.model, NextToken(8).walk(tokens, batch_size), Workers(2)) == pytest.approx(
            np.mean(losses), rel=1e-12
        )


def test_windows_are_shifted_by_one_and_stay_inside(rng):
    tokens = np.arange(30)
    for _ in range(50):
        ids, targets = draw_batch(tokens, 3, 7, rng)
        np.testing.assert_array_equal(ids + 1, targets)
        assert ids.shape == (3, 7)
    ids = np.concatenate([ids for ids, _ in consecutive_batches(tokens, 2, 7)])
    np.testing.assert_array_equal(ids.ravel(), np.arange(28))
    starts = {int(draw_batch(np.arange(9), 1, 7, rng)[0][0, 0]) for _ in range(50)}
    assert starts == {0, 1}


def test_metrics_and_files_of_a_run(tmp_path):
    t = trainer(tmp_path, steps=20)
    final = t.run()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert rows[-1]["val_loss"] == final
    assert all(row["data_sha256"] == "abc" and row["seconds"] > 0 for row in rows)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    best = min(rows, key=lambda row: row["val_loss"])
    model = minigpt.load(tmp_path / "best")
    assert evaluate(model, NextToken(8).walk(t.val_tokens, 5), Workers(1)) == pytest.approx(best["val_loss"])
    assert checkpoint.load_tokenizer(tmp_path / "last").characters == TOKENIZER.characters


def test_loss_that_is_not_finite_stops_the_run_and_names_step_and_layer(tmp_path):
    t = trainer(tmp_path)
    step = t.optimizer.step

    def poison(p, g, factor, run):
        step(p, g, factor, run)
        if t.step == 6:
            p["h.1.mlp.c_fc.weight"][2, 3] = np.nan

    t.optimizer.step = poison
    with pytest.raises(
        Diverged, match=r"step 8: the loss is nan; first in parameter h\.1\.mlp\.c_fc\.weight.*last holds the last good"
    ):
        t.run()
    assert checkpoint.load_state(tmp_path / "last")[0]["step"] == 4
    assert np.isfinite(minigpt.load(tmp_path / "last").store.vector).all()


def test_update_that_blows_up_before_a_save_leaves_the_good_checkpoint(tmp_path):
    t = trainer(tmp_path)
    step = t.optimizer.step

    def poison(p, g, factor, run):
        step(p, g, factor, run)
        if t.step == 7:
            p["h.0.ln_1.weight"][0] = np.inf

    t.optimizer.step = poison
    with pytest.raises(Diverged, match=r"step 8: parameter h\.0\.ln_1\.weight is not finite"):
        t.run()
    assert checkpoint.load_state(tmp_path / "last")[0]["step"] == 4


def test_activation_that_overflows_is_named(tmp_path):
    t = trainer(tmp_path)
    t.model.parameters["h.1.attn.c_attn.weight"][...] = 1e30
    with pytest.raises(Diverged, match=r"step 1: the loss is nan; first in h\.1\.attn: attention_forward\. "):
        t.train_step()


@pytest.mark.parametrize(
    ("name", "place"),
    [("h.0.mlp.c_fc.weight", r"h\.0\.mlp\.c_fc: linear_forward"), ("ln_f.weight", "ln_f: layernorm_forward")],
)
def test_first_place_of_an_overflow_is_named(tmp_path, name, place):
    t = trainer(tmp_path, dropout=0.0)
    t.model.parameters[name][...] = 3e38
    with pytest.raises(Diverged, match=rf"step 1: the loss is nan; first in {place}"):
        t.train_step()


def test_gradient_that_is_not_finite_is_named(tmp_path):
    t = trainer(tmp_path)
    add_gradients = t.model.add_gradients

    def poisoned(g, *args, **more):
        loss = add_gradients(g, *args, **more)
        g["h.0.ln_2.bias"][1] = np.inf
        return loss

    t.model.add_gradients = poisoned
    before = t.model.store.vector.copy()
    with pytest.raises(Diverged, match=r"step 1: a gradient is not finite; first in gradient of h\.0\.ln_2\.bias"):
        t.train_step()
    np.testing.assert_array_equal(before, t.model.store.vector)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 2e-3}, "lr is 0.002, the run in .* was started with 0.001"),
        ({"batch_size": 6}, "batch_size is 6, .* started with 5"),
        ({"shards": 3}, "shards is 3"),
        ({"seed": 1}, "seed is 1"),
        ({"dropout": 0.0}, "dropout is 0.0, .* started with 0.2"),
        ({"optimizer": "adamw"}, "trainer.safetensors|optimizer is adamw"),
    ],
)
def test_resuming_with_another_setting_names_it(tmp_path, change, message):
    trainer(tmp_path).save("last")
    with pytest.raises(MinigptError, match=message):
        trainer(tmp_path, **change).resume()


def test_resuming_with_another_text_is_refused(tmp_path):
    trainer(tmp_path).save("last")
    t = trainer(tmp_path)
    t.data_sha256 = "other"
    with pytest.raises(MinigptError, match="SHA-256 is other"):
        t.resume()


def test_resuming_with_more_steps_goes_on_and_says_so(tmp_path):
    trainer(tmp_path, steps=4).run()
    t, said = trainer(tmp_path, steps=8), []
    t.say = said.append
    t.resume()
    assert t.step == 4
    assert "steps: 8 in place of 4" in said[0]
    t.run()
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == 8


def test_second_ctrl_c_interrupts_at_once(tmp_path):
    t = trainer(tmp_path)
    t.optimizer.step = lambda *args: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt) as caught:
        t.run()
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    t = trainer(tmp_path, steps=2)
    result = []
    thread = threading.Thread(target=lambda: result.append(t.run()))
    thread.start()
    thread.join()
    assert math.isfinite(result[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda out: trainer(out, threads=3), "threads is 3, there are only 2 shards"),
        (lambda out: trainer(out, threads=0), "threads is 0, it must be at least 1"),
        (lambda out: trainer(out, threads=1.5), "threads is 1.5, it must be auto or a whole number of at least 1"),
        (lambda out: trainer(out, threads=True), "threads is True, it must be auto or"),
        (lambda out: trainer(out, threads="all"), "threads is 'all', it must be auto or"),
        (lambda out: trainer(out, shards=6), "shards is 6, there are only 5 rows"),
        (lambda out: trainer(out, steps=0), "steps is 0"),
        (lambda out: trainer(out, lr=math.nan), "lr is nan"),
        (lambda out: trainer(out, optimizer="adam"), "optimizer is 'adam', it must be one of muon, adamw, sgd"),
        (lambda out: trainer(out, tokens=TOKENS[:608]), "validation text: 8 tokens, at least block_size . 1 = 9"),
        (lambda out: trainer(out, tokens=TOKENS + 9), "training text: token id .*, the model's vocab_size is"),
        (
            lambda out: trainer(out, batch_size=10**12, shards=1),
            "training this model on batches of 1000000000000 would take",
        ),
    ],
)
def test_bad_settings_are_named(tmp_path, make, message):
    with pytest.raises(MinigptError, match=message):
        make(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("shards", "recompute"), [(1, False), (2, False), (8, False), (1, True)])
def test_memory_asked_for_is_a_lower_bound(tmp_path, shards, recompute):
    """Of what a step really takes, on one thread, where that is the same at each run.
    An evaluation takes no more.
    """
    text = np.random.default_rng(0).integers(0, 11, 600)
    model = GPT(GPTConfig(11, 32, 6 if recompute else 2, 2, 32), seed=0)
    config = TrainConfig(steps=1, batch_size=8, shards=shards, optimizer="sgd", recompute=recompute)
    t = Trainer(model, text, text, config=config, out=tmp_path, threads=1, bar=False)
    peaks = []
    for work in (t.train_step, t.evaluate):
        work()
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    held = model.dtype.itemsize * model.num_parameters * (2 + shards)  # before the measurement
    assert 0.4 * (held + peaks[0]) <= training_memory(model, t.config, model.config.block_size, 1) <= held + peaks[0]
    assert peaks[1] <= peaks[0]


def test_resume_refuses_settings_that_this_version_does_not_know_or_misses(tmp_path):
    trainer(tmp_path, 1, steps=2).run()
    path = tmp_path / "last" / "trainer.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    config = next(value for value in (saved, *saved.values()) if isinstance(value, dict) and "config" in value)[
        "config"
    ]
    config["swirl"] = 1
    path.write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(MinigptError, match="a setting 'swirl', which this version of minigpt does not know"):
        trainer(tmp_path, 1, steps=2).resume()
    del config["swirl"], config["steps"]
    path.write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(MinigptError, match="TrainConfig: steps is missing"):
        trainer(tmp_path, 1, steps=2).resume()
    config["steps"] = 2
    del config["clip"]  # as of a run that is older than the setting
    path.write_text(json.dumps(saved), encoding="utf-8")
    trainer(tmp_path, 1, steps=2).resume()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has mallopt")
def test_older_glibc_refuses_a_large_threshold(monkeypatch):
    calls = {}

    class Library:
        def __init__(self, name):
            pass

        @staticmethod
        def mallopt(option, value):
            if option == -3 and value > 1 << 25:
                return 0
            calls[option] = value
            return 1

    monkeypatch.setattr(machine.ctypes, "CDLL", Library)
    assert keep_freed_memory()
    assert calls == {-3: 1 << 25, -1: (1 << 31) - 1, -8: 1}


def test_validation_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    t = trainer(tmp_path)
    t.evaluate = lambda: math.inf
    with pytest.raises(Diverged, match=r"step 5: the validation loss is inf; .*last holds the last good checkpoint"):
        t.run()
    assert checkpoint.load_state(tmp_path / "last")[0]["step"] == 4


def test_sample_that_can_not_be_drawn_stops_no_run(tmp_path, monkeypatch):
    t, said = trainer(tmp_path), []
    t.say = said.append

    def overflow(*args, **kwargs):
        raise MinigptError("logits: nan")

    t.model.generate = overflow
    assert math.isfinite(t.run())
    assert any("(no sample: logits: nan)" in line for line in said)
