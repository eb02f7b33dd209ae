"""The profile: it changes no bit, sees every op, counts products right, and leaves everything as it
was. Times themselves are not tested."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minigpt import GPT, GPTConfig, cli, ops, optim, plots
from minigpt.errors import MinigptError
from minigpt.layers import MLP, Linear, Parameter, Store
from minigpt.ops.attention import attention_forward, position_penalty
from minigpt.ops.reductions import averaging
from minigpt.profile import OpTime, Profile, profile_steps, steps
from minigpt.profile.clock import THREAD, TimedArray, timed_ops
from minigpt.profile.table import KINDS, PARTS_BETWEEN_OPS
from minigpt.training import TrainConfig, Trainer

V, T, C, H, LAYERS, B, F = 11, 6, 8, 2, 3, 5, 32  # vocabulary, time, channels, heads, blocks, batch, hidden


@pytest.fixture
def trainer(tmp_path, rng):
    """Makes small trainers: a GPT on random tokens."""
    tokens, made = rng.integers(0, V, 200), []

    def make(threads=1, bias=False, dropout=0.0, activation="gelu_tanh", block_size=T, **settings):
        model = GPT(GPTConfig(V, block_size, LAYERS, H, C, dropout=dropout, bias=bias, activation=activation), seed=0)
        config = TrainConfig(**{"steps": 50, "batch_size": B, "shards": threads, "clip": 0.1} | settings)
        made.append(Trainer(model, tokens, tokens, config=config, out=tmp_path / "run", threads=threads, bar=False))
        return made[-1]

    yield make
    for one in made:
        one.workers.close()


def figures(waiting=1e-3):
    """A profile of round figures."""
    rows = [
        OpTime("linear_backward", 4, 6e-3, 1e-3, 0, 1e-3, 3e8),
        OpTime("layers", 9, 0, 1e-3, 0, 0, 0),
        OpTime("draw_batch", 1, 0, 0, 0, 1e-9, 0),
    ]
    return Profile(rows, 20, 2, waiting, 6e-3, 5e-3, 1e11)


def test_profiled_steps_end_in_the_bits_of_plain_steps(trainer):
    for settings in (
        {"threads": 2, "dropout": 0.2},
        {"optimizer": "adamw", "weight_decay": 0.1, "accumulate": 2, "bias": True},
        {"optimizer": "sgd", "shards": 2, "activation": "gelu"},
    ):
        plain = trainer(**settings)
        profiled = steps.copied(plain, TimedArray)
        assert type(profiled.model.store.vector) is type(profiled.gradients[0]["wte.weight"]) is TimedArray
        assert not np.shares_memory(profiled.model.store.vector, plain.model.store.vector)
        steps.run_plain(plain, 3)
        steps.run_timed(profiled, 3)
        assert (plain.model.store.vector == profiled.model.store.vector).all()
        for name, value in plain.optimizer.state.items():
            assert (profiled.optimizer.state[name] == value).all()


def test_profile_leaves_the_trainer_as_it_was(trainer):
    one = trainer(threads=2)
    steps.run_plain(one, 2)
    state = {name: value.copy() for name, value in one.optimizer.state.items()}
    before = one.model.store.vector.copy(), state, one.workers, one.step
    profile_steps(one, 2)
    assert (one.model.store.vector == before[0]).all()
    assert all((value == before[1][name]).all() for name, value in one.optimizer.state.items())
    assert (one.workers, one.step) == before[2:]
    assert type(one.model.store.vector) is np.ndarray


def test_every_op_of_a_step_has_its_row(trainer):
    report = profile_steps(trainer(threads=2, bias=True, dropout=0.1), 3)
    calls = {row.op: row.calls for row in report.rows}
    assert {op: count for op, count in calls.items() if op not in PARTS_BETWEEN_OPS and op != "newton_schulz"} == {
        **{f"{op}_{way}": 2 * n for way in ("forward", "backward") for op, n in {
            "linear": 4 * LAYERS, "layernorm": 2 * LAYERS + 1, "attention": LAYERS,
            "gelu_tanh": LAYERS, "embedding": 2, "learned_positions": 1,
            "dropout": 2 * LAYERS + 1, "unembedding": 1, "cross_entropy": 1,
        }.items()},
        "Muon.step": 1, "AdamW.step": 1, "clip_by_norm": 1, "draw_batch": 1,
    }  # fmt: skip
    assert calls["newton_schulz"] >= 3  # shapes (C, C), (C, F) and (F, C), perhaps in halves
    assert {"layers", "models", "training"} <= set(calls)


def test_every_kind_of_work_is_seen_where_it_is(trainer):
    """An op whose arrays fell out of the subclass would show nothing but "other"."""
    rows = {row.op: row for row in profile_steps(trainer(threads=2, bias=True), 2).rows}
    for op, kinds in {
        "linear_forward": "matmul elementwise",
        "linear_backward": "matmul reductions",
        "attention_forward": "matmul elementwise reductions",
        "attention_backward": "matmul elementwise reductions",
        "layernorm_backward": "elementwise reductions",
        "newton_schulz": "matmul elementwise reductions",
        "cross_entropy_forward": "elementwise reductions",
        "AdamW.step": "elementwise",
        "Muon.step": "elementwise",
        "layers": "elementwise",
        "training": "elementwise",
    }.items():
        assert all(getattr(rows[op], kind) > 0 for kind in kinds.split()), op


def test_flops_are_those_counted_by_hand(trainer):
    rows = {row.op: row for row in profile_steps(trainer(threads=2, accumulate=2, bias=True), 2).rows}
    tokens, weights = 2 * B * T, LAYERS * (C * 3 * C + C * C + 2 * C * F)
    assert rows["linear_forward"].flops == 2 * tokens * weights
    assert rows["linear_backward"].flops == 4 * tokens * weights
    assert rows["unembedding_backward"].flops == 4 * tokens * V * C
    assert rows["attention_backward"].flops == 2 * rows["attention_forward"].flops > 0
    assert not any(row.flops for op, row in rows.items() if op.startswith(("layernorm", "dropout", "AdamW", "gelu")))


def test_rows_and_waiting_make_up_the_whole(trainer):
    report = profile_steps(trainer(threads=2), 3)
    assert report.threads == 2 and report.steps == 3
    assert sum(report.share(kind) for kind in KINDS) + report.waiting / report.seconds == pytest.approx(1)
    assert [row.seconds for row in report.rows] == sorted((row.seconds for row in report.rows), reverse=True)
    alone = profile_steps(trainer(shards=2), 3)
    assert alone.threads == 1 and alone.waiting < 0.5 * alone.seconds


def names_of_the_library():
    """Everything that a profile changes for a while, by place."""
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "minigpt"}
    found = {(name, key): id(value) for name, module in modules.items() for key, value in vars(module).items()}
    for owner in (Linear, MLP, GPT, optim.AdamW, optim.Muon):
        found |= {(owner, attribute): id(value) for attribute, value in vars(owner).items()}
    return found


def test_everything_is_put_back_after_an_exception(trainer, monkeypatch):
    before = names_of_the_library()
    with timed_ops():
        assert names_of_the_library() != before
    assert names_of_the_library() == before
    one = trainer(threads=2)
    one.model.store.vector[:] = np.nan
    with pytest.raises(MinigptError, match="the loss is nan"):
        steps.run_timed(one, 1)
    assert names_of_the_library() == before
    assert type(one.workers).__name__ == "Workers"
    assert THREAD.clock is None


def test_what_ops_keep_is_nothing_of_the_profile(rng):
    q, k, v = rng.standard_normal((3, 1, 2, 4, 3))
    for cache in (averaging, position_penalty):
        cache.cache_clear()
    with timed_ops():
        ops.attention_forward(q, k, v, ops.Mask(causal=True))
        ops.layernorm_forward(q, q[0, 0, 0])
    assert type(ops.layernorm_forward(q, q[0, 0, 0])[0]) is np.ndarray
    assert type(averaging(3, q.dtype)) is type(position_penalty(0, 4, 4, True, None, q.dtype)) is np.ndarray


def test_threads_without_a_clock_compute_as_always(rng):
    q, k, v = rng.standard_normal((3, 1, 2, 4, 3))
    expected, _ = attention_forward(q, k, v)
    with timed_ops():
        y, _ = ops.attention_forward(q, k, v)
    np.testing.assert_array_equal(y, expected)


def test_timed_arrays_behave_as_arrays_do(rng):
    a = rng.standard_normal((3, 4))
    t = a.view(TimedArray)
    assert type(t @ t.T) is type(t + 1) is type(np.stack([t, t])) is type(t.sum(axis=0)) is TimedArray
    assert type(t.sum()) is np.float64
    out = np.empty_like(a)
    assert np.multiply(t, 2, out=out) is out
    quotient, remainder = np.divmod(t, 2)
    np.testing.assert_array_equal(quotient, a // 2)
    np.testing.assert_array_equal(remainder, a % 2)
    exps = [np.exp(x, out=np.zeros_like(a), where=x > 0) for x in (t, a)]
    np.testing.assert_array_equal(*exps)
    t += 1
    assert type(t) is TimedArray
    store = Store([Parameter("w", (3, 4), "hidden")], a.ravel().view(TimedArray))
    assert type(store["w"]) is TimedArray


@pytest.mark.parametrize("steps", [0, -1, True, 1.5])
def test_profile_of_no_steps_is_a_mistake(trainer, steps):
    with pytest.raises(MinigptError, match="whole number of at least 1"):
        profile_steps(trainer(), steps)


def test_table_says_what_its_figures_are():
    text = str(figures())
    lines = [line.split() for line in text.splitlines()]
    assert ["linear_backward", "4", "8.00", "80.0%", "6.00", "1.00", "1.00", "50.0", "50%"] in lines
    assert ["layers", "1.00", "10.0%", "1.00"] in lines and ["waiting", "1.00", "10.0%"] in lines
    assert "matrix products 60%, element-wise 20%, reductions 0%, other 10%, waiting 10%" in text
    assert "a step takes 5.0 ms, with the profile 6.0 ms (+20%)" in text
    values = json.loads(figures().to_json())
    assert values["shares"]["matmul"] == pytest.approx(0.6)
    assert values["rows"][0]["op"] == "linear_backward" and values["rows"][0]["flops"] == 3e8


def test_chart_draws_a_bar_an_op():
    ax = plots.profile_chart(figures())
    assert ax.get_title(loc="left") == "Matrix products take 60% of a training step"
    assert ax.get_xlabel() == "milliseconds a step, 2 threads added up"
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert sorted(labels[:-1]) == ["layers", "linear_backward", "waiting"]
    assert labels[0] == "linear_backward" and labels[-1] == "1 others"
    ends = np.max([[bar.get_x() + bar.get_width() for bar in container] for container in ax.containers], axis=0)
    np.testing.assert_allclose(ends, [8, 1, 1, 1e-6])
    assert [text.get_text() for text in ax.texts] == ["80.0%", "10.0%", "10.0%", "0.0%"]
    assert len(plots.png(ax.figure)) > 1000
    assert "waiting" not in [text.get_text() for text in plots.profile_chart(figures(waiting=0)).get_yticklabels()]


def test_command_prints_the_table_and_writes_chart_and_figures(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Out, damned spot! out, I say!\n" * 30, encoding="utf-8")
    out = tmp_path / "run"
    sizes = ["--n-layer=1", "--n-head=2", "--n-embd=8", "--block-size=8", "--batch-size=4", "--shards=2", "--threads=1"]
    train = ["train", "--data", str(tmp_path / "text.txt"), "--out", str(out), *sizes]
    assert cli.main([*train, "--profile", "2"]) == 0
    assert "matrix products" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["profile.json", "profile.png"]
    assert json.loads((out / "profile.json").read_text(encoding="utf-8"))["steps"] == 2
    for more, words in (
        (["--profile", "0"], "at least 1 step"),
        (["--profile", "--resume"], "does not go with --resume"),
    ):
        assert cli.main([*train, *more]) == 2
        assert words in capsys.readouterr().err


def test_profile_is_not_imported_by_minigpt():
    code = "import sys, minigpt.training; assert 'minigpt.profile' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
