"""The benchmarks' arithmetic and their report, without a measurement: none of these tests depends
on the speed of a machine.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import (
    bench_beams,
    bench_bert,
    bench_generate,
    bench_import,
    bench_load,
    bench_memory,
    bench_ops,
    bench_scale,
    bench_step,
    bench_t5,
    bench_time_to_loss,
    bench_tokenizers,
    bench_unigram,
    recipe,
)
from benchmarks.common import Target, command, markdown, model_flops, ratio, take_turns, write_json
from minigpt import GPT, T5, GPTConfig, RecipeGPT, RecipeGPTConfig
from minigpt.errors import MinigptError

ROOT = Path(__file__).parents[1]

STEP = {
    "machine": {"processor": "Abacus", "cores": 2, "versions": {"numpy": "9.9"}, "blas": ["beads (wood)"],
                "environment": {"OMP_NUM_THREADS": "2"}},
    "command": "python -m benchmarks.bench_step --size small",
    "size": "small", "layers": 4, "heads": 4, "channels": 128, "vocab_size": 65, "block_size": 64,
    "batch_size": 12, "optimizer": "adamw", "threads": 2,
    "gemm_gflops": 100.0, "model_gflop": 4.0,
    "ms": {"minigpt": 50.0, "eager": 75.0, "compiled": 60.0},
    "least_ms": {"minigpt": 49.0, "eager": 74.0, "compiled": 59.0},
    "gemm_share": {"minigpt": 0.8, "eager": 0.53, "compiled": 0.67},
    "speedup": {
        "eager": {"median": 1.5, "low": 1.4, "high": 1.6, "turns": 5},
        "compiled": {"median": 1.12, "low": 1.1, "high": 1.3, "turns": 5},
    },
    "faster": "compiled",
}  # fmt: skip


def rows(*measured):
    """Validation losses of a run, from (step, seconds, loss)."""
    return [{"step": step, "seconds": seconds, "val_loss": loss} for step, seconds, loss in measured]


LOSS = {
    "text": "f" * 64, "turns": 1, "options": {"quick": ["--preset", "quick"], "best": ["--preset", "best"]},
    "runs": {
        "nanogpt": [{"seconds": 150.0, "val_loss": 1.9, "rows": [{"step": 250, "seconds": 80.0, "val_loss": 2.3}],
                     "process": 152.0}],
        "quick": [{"seconds": 30.0, "val_loss": 1.8, "rows": rows((9, 15, 2), (18, 30, 1.8)), "process": 31.0}],
        "best": [{"seconds": 590.0, "val_loss": 1.51, "rows": rows((9, 140, 1.6), (18, 590, 1.51)), "process": 600.0}],
    },
}  # fmt: skip
MEMORY = {
    "steps": 4,
    "turns": 1,
    "sizes": {"middle": {"minigpt": {"imported": 4e7, "peak": 1.2e9}, "pytorch": {"imported": 2e8, "peak": 1.5e9}}},
}
SCALE = {
    "turns": 3, "threads": 2, "memory": {"GPT-2 124M": 5 * 2**30},
    "sweeps": {"C": {"values": [64, 128, 256], "seconds": [0.01, 0.04, 0.16], "model_gflop": [1.0, 4.0, 16.0],
                     "gemm_gflops": 100.0, "slope": 2.0}},
}  # fmt: skip


def test_model_flops_count_each_matmul_of_a_step():
    config = GPTConfig(vocab_size=11, block_size=5, n_layer=3, n_head=2, n_embd=8)
    C, T, V, tokens = 8, 5, 11, 10  # two rows
    forward = 0
    for inputs, outputs in 3 * [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] + [(C, V)]:
        forward += 2 * tokens * inputs * outputs
    forward += 3 * 2 * (2 * tokens * T * C)  # q k^T and weights v of each layer, over all heads
    assert model_flops(config, tokens) == 3 * forward  # backward has two products for each of forward's


def test_ratio_is_the_median_of_the_turns_ratios():
    ours, theirs = [1.0, 2.0, 4.0], [2.0, 2.0, 12.0]  # ratios 2, 1, 3; that of the medians would be 1
    assert ratio(ours, theirs) == pytest.approx((2.0, 1.2, 2.8, 3))


def test_ratio_leaves_out_a_tenth_at_each_end():
    found = ratio([1.0] * 11, [100.0, *map(float, range(1, 10)), 0.01])
    assert (found.low, found.high, found.turns) == (1.0, 9.0, 11)


def test_take_turns_alternates():
    order = []
    sides = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = take_turns(sides, turns=2, calls=2, warm_up=1, between=lambda: order.append("-"), pause=0)
    assert "".join(order) == "ab" + 2 * "-aaabbb"
    assert [len(values) for values in seconds.values()] == [2, 2]


@pytest.mark.parametrize(
    ("figure", "limit", "most", "met"),
    [
        (2, 1.5, False, True),
        (1, 1.5, False, False),
        (2, 1.5, True, False),
        (1.5, 1.5, False, True),
        (1.5, 1.5, True, True),
        (1, None, False, None),
    ],
)
def test_target_is_met(figure, limit, most, met):
    assert Target("x", figure, limit, most).met is met


def test_target_cells_are_readable():
    assert Target("share", 0.814, 0.6, form="{:.0%}").cells() == ("share", "81%", "at least 60%", "yes")
    assert Target("time", 0.2, 1 / 6, most=True, form="{:.3f}").cells() == ("time", "0.200", "at most 0.167", "no")


def test_markdown_pads_columns():
    assert markdown(("a", "bb"), [("ccc", 1)]) == "| a   | bb |\n|-----|----|\n| ccc | 1  |"


def test_command_leaves_out_files():
    for files in (["--json", "f"], ["--json=f", "--data=g"]):
        typed = ["/x/bench_step.py", "--size", "small", *files, "--turns", "2"]
        assert command(typed) == "python -m benchmarks.bench_step --size small --turns 2"


def test_write_json_says_on_which_machine(tmp_path):
    write_json(tmp_path / "f.json", {"turns": 3})
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert found["turns"] == 3
    assert {"processor", "cores", "versions", "blas", "environment"} <= set(found["machine"])


def test_step_is_compared_with_the_faster_of_both():
    speed, share = bench_step.targets(STEP)
    assert speed.figure == 1.12 and not speed.met and "compiled" in speed.what
    assert share.figure == 0.8 and share.met


def test_step_sizes_are_models():
    for size in bench_step.SIZES:
        assert bench_step.sized(size)[1] >= 2
    # GPT-2's, with positions up to 256
    assert bench_step.sized("gpt2")[0].num_parameters == 124_439_808 - (1024 - 256) * 768


def test_our_step_trains(monkeypatch):
    monkeypatch.setattr(bench_step, "keep_freed_memory", lambda: None)
    loss, norm, _ = bench_step.numpy_step(GPTConfig(11, 5, 1, 2, 8), batch_size=2)()
    assert loss == pytest.approx(math.log(11), rel=0.1) and norm > 0


def test_our_step_draws_another_batch_each_time(monkeypatch):
    drawn = []
    monkeypatch.setattr(bench_step, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(GPT, "add_gradients", lambda self, g, batch, **more: drawn.append(batch["ids"].tolist()) or 1.0)
    step = bench_step.numpy_step(GPTConfig(11, 5, 1, 2, 8), batch_size=2, threads=1)
    step()
    step()
    assert len(drawn) == 2 and drawn[0] != drawn[1]


@pytest.mark.parametrize(("side", "recompute"), [("minigpt", False), ("recomputed", True)])
def test_memory_of_our_sides(side, recompute, monkeypatch):
    seen = []
    monkeypatch.setattr(bench_step, "numpy_step", lambda *args, **settings: seen.append(settings) or (lambda: None))
    settings = {
        "vocab_size": 11,
        "block_size": 5,
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 8,
        "batch_size": 2,
        "threads": 1,
    }
    assert bench_memory.child(side, settings, 1)["peak"] > 0
    assert seen == [{"recompute": recompute}]


def test_scale_is_of_one_step(monkeypatch):
    """However many a turn has."""
    monkeypatch.setattr(bench_scale, "numpy_step", lambda *args: lambda: None)
    monkeypatch.setattr(bench_scale, "timed", lambda step: bench_scale.TURN / 10)
    monkeypatch.setattr(
        bench_scale,
        "take_turns",
        lambda sides, turns, between, **rest: between() or {name: [5.0] * turns for name in sides},
    )
    monkeypatch.setattr(bench_scale, "gemm_rate", lambda: 1e9)
    assert bench_scale.measure_sweep("layers", 3)["seconds"] == [0.5] * 5


def test_runs_held_to_avx2_are_and_say_so(tmp_path, monkeypatch):
    held = []

    def run(command, env):
        held.append(env.get("OPENBLAS_CORETYPE"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(program.subprocess, "run", run)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    for name in ("step-small", "step-small-avx2"):
        assert program.run(name, tmp_path)
    assert held == [None, "Haswell"]
    plain, avx2 = (
        [target.what for target in program.targets_of(name, STEP)] for name in ("step-small", "step-small-avx2")
    )
    assert avx2 == [f"{what}, AVX2" for what in plain]


@pytest.mark.parity
def test_torch_gpt_of_nanogpt_has_the_same_loss_on_the_whole_split():
    torch = pytest.importorskip("torch")
    from benchmarks import nanogpt

    tokens = np.random.default_rng(0).integers(0, 7, 64).astype(np.uint16)
    config = GPTConfig(7, 5, 1, 2, 8, bias=False)
    torch.manual_seed(0)
    model = nanogpt.TorchGPT(config)
    total = []
    for start in range(0, 60, 5):  # 12 windows and 3 tokens that are left out
        ids, targets = (torch.from_numpy(tokens[start + i : start + i + 5].astype(np.int64))[None] for i in (0, 1))
        total.append(nanogpt.mean_loss(model, ids, targets).item())
    assert nanogpt.whole_loss(model, tokens, 5, batch_size=5) == pytest.approx(np.mean(total), rel=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_pytorchs_side_is_the_same_model(activation, bias, rng):
    """The same logits on the same weights."""
    torch = pytest.importorskip("torch")
    from benchmarks.torch_gpt import TorchGPT

    model = GPT(GPTConfig(11, 7, 2, 2, 8, activation=activation, bias=bias))
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    names = {"attn.c_attn": "c_attn", "attn.c_proj": "attn_proj", "mlp.c_fc": "c_fc", "mlp.c_proj": "mlp_proj"}
    weights = {}
    for name, value in model.parameters.items():
        for ours, theirs in names.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        linear = name.startswith("h.") and value.ndim == 2
        weights[name] = torch.from_numpy(np.ascontiguousarray(value.T if linear else value))
    theirs = TorchGPT(model.config)
    theirs.load_state_dict(weights)
    ids = rng.integers(0, 11, (3, 5))
    np.testing.assert_allclose(theirs(torch.from_numpy(ids)).detach().numpy(), model.logits(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parity
def test_nanogpt_rate():
    pytest.importorskip("torch")
    from benchmarks.nanogpt import RECIPE, rate

    assert rate(0, RECIPE) == pytest.approx(1e-3 / 101)
    assert rate(100, RECIPE) == pytest.approx(1e-3)
    assert rate(1050, RECIPE) == pytest.approx(5.5e-4)
    assert rate(2000, RECIPE) == pytest.approx(1e-4)


def test_ops_are_what_they_say():
    names = set()
    for case in bench_ops.cases(quick=True):
        names.add(case.op)
        functions = bench_ops.sides(case)
        functions["forward"]["minigpt"]()
        functions["backward"]["minigpt"]()
    assert {"linear", "gelu_tanh", "gelu", "relu", "silu", "layernorm", "rmsnorm", "softmax", "attention, plain",
            "attention, lean", "embedding", "cross-entropy"} == names  # fmt: skip


@pytest.mark.parity
def test_both_sides_of_ops_compute_the_same():
    torch = pytest.importorskip("torch")
    for case in bench_ops.cases(quick=True):
        functions = bench_ops.sides(case, torch)
        ours, theirs = functions["forward"]["minigpt"]()[0], functions["forward"]["pytorch"]().detach().numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3, err_msg=case.name)
        gradients = functions["backward"]["minigpt"]()
        gradients = [g for g in (gradients if isinstance(gradients, tuple) else (gradients,)) if g is not None]
        for mine, other in zip(gradients, functions["backward"]["pytorch"](), strict=True):
            np.testing.assert_allclose(mine, other.numpy(), rtol=1e-3, atol=1e-3, err_msg=case.name)


def test_time_to_a_loss_and_loss_within_a_time():
    rows = [{"seconds": 10, "val_loss": 2.0}, {"seconds": 20, "val_loss": 1.5}, {"seconds": 30, "val_loss": 1.6}]
    assert bench_time_to_loss.time_to(rows, 1.9) == 20
    assert bench_time_to_loss.time_to(rows, 1.4) is None
    assert bench_time_to_loss.loss_within(rows, 40) == 1.5
    assert bench_time_to_loss.loss_within(rows, 9) is None


def test_time_to_loss_targets():
    share, within, best = bench_time_to_loss.targets(LOSS)
    assert share.figure == pytest.approx(30 / 150) and not share.met
    assert best.figure == 1.51 and not best.met
    assert within.figure == 1.6 and "best" in within.what and not within.met


def test_a_loss_never_reached_is_told():
    runs = {
        "nanogpt": LOSS["runs"]["nanogpt"],
        "quick": [{"seconds": 200.0, "val_loss": 1.95, "rows": rows((18, 200, 1.95)), "process": 201.0}],
    }
    figures = {"text": "f" * 64, "turns": 1, "options": {}, "runs": runs}
    share, within = bench_time_to_loss.targets(figures)
    assert (share.figure, share.met, within.figure, within.met) == (math.inf, False, math.inf, False)
    assert bench_time_to_loss.table(figures)[1][1][-3:] == ("never", "never", "never")
    assert program.overview({"time-to-loss": figures}) is not None


@pytest.mark.parametrize(
    "module",
    [
        *(
            bench_beams,
            bench_generate,
            bench_import,
            bench_memory,
            bench_ops,
            bench_scale,
            bench_step,
            bench_time_to_loss,
        ),
        *(bench_tokenizers, bench_unigram, recipe),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(module, tmp_path, capsys):
    with pytest.raises(SystemExit):
        module.main(["--json", str(tmp_path / "none" / "f.json")])
    assert "there is no folder" in capsys.readouterr().err


def test_presets_that_are_missing_are_left_out(capsys, monkeypatch):
    monkeypatch.setattr(bench_time_to_loss, "PRESETS", {"default": ({}, {})})

    class Args:
        presets, best, short, steps = ["quick", "default"], True, False, 300

    found = bench_time_to_loss.plan(Args)
    assert found == {"default": ["--preset", "default", "--steps", "300"]}
    assert "leaving out quick" in capsys.readouterr().out


DECODING = {
    "size": "gpt2", "turns": 3, "bytes_of_weights": 5e8,
    "tokens_by_quarter": 40, "microseconds_by_quarter": [9.0, 10.0], "bytes_by_quarter": [7, 8],
    "rows": {
        "batch 1": {
            "tokens": 40, "rates": [4e10, 4e10, 5e10],
            "seconds": {"minigpt": [1.0, 0.5, 0.8], "recipe": [1.1, 0.6, 0.8], "transformers": [2.0, 2.0, 2.0]},
        },
        "batch 1, sampled": {
            "tokens": 40, "rates": [4e10] * 3, "seconds": {"minigpt": [1.0, 0.9, 1.1], "transformers": [2.0] * 3},
        },
        "batch 8": {"tokens": 160, "rates": [4e10] * 3, "seconds": {"minigpt": [1.0] * 3, "transformers": [2.1] * 3}},
        "prefill of 9": {
            "tokens": 1, "rates": [4e10] * 3, "seconds": {"minigpt": [0.2] * 3, "transformers": [0.1] * 3},
        },
    },
}  # fmt: skip


def test_decoding_targets():
    """Bytes a second are compared with their own turn's rate: 40 of 80, 80 of 80, 50 of 100."""
    found = {target.what.removeprefix("decoding, gpt2"): target for target in bench_generate.targets(DECODING)}
    assert {what: (pytest.approx(target.figure), target.met) for what, target in found.items()} == {
        ", batch 1: as fast as transformers": (2.5, None),
        ", batch 1, sampled: as fast as transformers": (2.0, None),
        ", batch 8: as fast as transformers": (2.1, True),
        ", prefill of 9: as fast as transformers": (0.5, False),
        ": bytes a second, of the best GEMV rate": (0.5, False),
        ": a token of the recipe's model, of GPT-2's": (1.1, True),
    }
    small = {target.what: target for target in bench_generate.targets(DECODING | {"size": "small"})}
    assert small["decoding, small, batch 1: us a token"].figure == pytest.approx(20_000)
    assert small["decoding, small, batch 1, sampled: us a token"].limit == 195


def test_decoding_table():
    columns, (decoding, _, _, prefill) = bench_generate.table(DECODING)
    assert decoding[:3] == ("batch 1", "50.0 tokens/s, 20,000 us", "50.0 tokens/s, 20,000 us")
    assert prefill[1:3] == ("200.0 ms", "") and len(columns) == len(decoding) == len(prefill)
    assert "50% are reached" in bench_generate.describe(DECODING)


def test_decoding_in_a_process_of_its_own():
    side = bench_generate.Side("recipe", "small")
    assert 0 < side.seconds(np.array([[1, 2], [3, 4]]), 3, bench_generate.SAMPLED) < 60
    side.end()
    side = bench_generate.Side("minigpt", "none")
    with pytest.raises(MinigptError, match="the process of minigpt ended with code 1"):
        side.seconds(np.array([[1]]), 1, bench_generate.GREEDY)
    side.end()
    assert bench_generate.gemv_rate(1 << 20, 1) > 0


def test_beams_in_processes_of_their_own(monkeypatch, capsys):
    monkeypatch.setattr(bench_beams.common, "without_torch", lambda: True)
    monkeypatch.setattr(bench_beams.common, "PAUSE", 0)
    monkeypatch.setattr(bench_beams, "NEW", 3)
    assert bench_beams.main(["--size", "tiny", "--turns", "2"]) == 0
    assert "| 4 beams, 8 texts | " in capsys.readouterr().out
    seconds = {"minigpt": [1.0, 1.1, 0.9], "transformers": [2.5, 2.2, 1.8]}
    rows = {what: {"tokens": 64, "seconds": seconds} for what in bench_beams.KINDS}
    figures = {"size": "small", "turns": 3, "rows": rows}
    found = bench_beams.targets(figures)
    assert [(target.figure, target.met) for target in found] == [(2.0, True), (2.0, True), (2.0, None)]
    columns, cells = bench_beams.table(figures)
    assert len(columns) == len(cells[0]) and cells[0][:3] == ("4 beams", "64 tokens/s", "29 tokens/s")
    assert "3 turns" in bench_beams.describe(figures)


def test_tokenizer_targets():
    seconds = {"encode": [0.2, 0.25, 0.3], "random words": [1.0], "long word": [0.5, 2.0, 0.4]}
    figures = {"turns": 3, "bytes": {"encode": 1_250_000, "random words": 200_000}, "seconds": seconds, "load": [0.4]}
    rate, random, long_word = bench_tokenizers.targets(figures)
    assert (rate.figure, rate.met, random.figure, random.met) == (5.0, True, 0.2, False)
    assert long_word.figure == 0.5 and long_word.met
    seconds |= {"encode, tokenizers": [0.4, 0.75, 0.3], "train 1000": [1.6]}
    assert bench_tokenizers.targets(figures)[1].figure == 2
    assert not bench_tokenizers.targets(figures)[-1].met
    assert ("encode", "250", "200", "5.00") in bench_tokenizers.table(figures)[1]
    figures["bytes"] |= {"WordPiece": 10**6, "Unigram": 10**6}
    seconds |= {"Unigram": [0.4], "Unigram, sentencepiece": [0.1], "WordPiece": [0.1], "Unigram, long word": [0.5]}
    found = {target.what: (target.figure, target.met) for target in bench_tokenizers.targets(figures)}
    assert found["Unigram, encoding with a cold cache, MB/s"] == (2.5, True)
    assert found["Unigram, encoding, times the speed of sentencepiece"] == (0.25, None)
    assert found["WordPiece, encoding with a cold cache, MB/s"] == (10, None)
    assert found["Unigram, a word of 100,000 characters, seconds"] == (0.5, True)
    assert len(set(bench_tokenizers.random_words(500).split())) == 500


def test_unigram_targets():
    found = {"minigpt": {"pieces": 9, "tokens": 103}, "sentencepiece": {"pieces": 9, "tokens": 100}}
    seconds = {"minigpt": [2.0, 9.0, 3.0], "sentencepiece": [4.0, 5.0, 6.0]}
    figures = {"turns": 3, "bytes": 10**6, "seconds": {"1000": seconds, "7": seconds}}
    figures["found"] = {"1000": found, "7": found}
    time, tokens, *_ = bench_unigram.targets(figures)
    assert (time.figure, time.met, tokens.figure, tokens.met) == (3, True, 1.03, False)
    assert bench_unigram.targets(figures)[2].met is None
    assert bench_unigram.table(figures)[1][1] == ("1,000", "sentencepiece", "5.00", "4.00", "100")
    assert bench_unigram.tokens([("a", -1.0), ("b", -1.0), ("ab", -1.5)], {"aab": 2, "ac": 3}) == 2 * 2 + 3 * 2


def test_import_target():
    (target,) = bench_import.targets({"turns": 3, "seconds": {"numpy": [0.1, 0.1, 0.2], "minigpt": [0.12, 0.14, 0.32]}})
    assert target.figure == pytest.approx(1.4) and target.met


def test_load_targets_are_the_first_reading_and_its_memory():
    def turn(first):
        return {"first": first, "again": 0.1, "first and used": first + 1}

    found = {
        "parameters": 10**8,
        "seconds": {"minigpt": [turn(0.2), turn(0.4)], "transformers": [turn(0.3), turn(0.3)]},
        "memory": {"minigpt": {"peak": 6e8}, "transformers": {"peak": 1e6}},
    }
    first, *others, memory = bench_load.targets({"turns": 2, "sizes": {"bert": found}})
    assert first.figure == pytest.approx(1.125) and first.met
    assert [target.met for target in others] == [None, None]
    assert memory.figure == pytest.approx(1.5) and not memory.met
    (_, ours, *cells), _ = bench_load.table({"sizes": {"bert": found}})[1]
    assert (ours, cells) == ("minigpt", ["300", "100", "1,300", "600"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is anonymous")
@pytest.mark.parametrize("size", ["gpt2-tiny", "bert-tiny", "t5-tiny"])
def test_load_reads_a_folder_that_it_makes(size, tmp_path):
    numbers = bench_load.make_folder(size, tmp_path)
    found = bench_load.child("minigpt", size, tmp_path, "time", numbers)
    assert 0 < found["first"] < found["first and used"] and found["again"] > 0
    assert bench_load.child("minigpt", size, tmp_path, "memory", numbers)["model"] in ("GPT", "BERT", "T5")


def test_recipe_table_is_sorted_and_relative_to_the_base():
    curves = {"base": [[2.0, 1.8], [2.2, 1.9]], "RMSNorm": [[1.9, 1.7], [2.1, 1.8]]}
    figures = {
        "steps": 5,
        "seeds": [0, 1],
        "every": 2,
        "losses": {"base": [1.5, 1.7], "RMSNorm": [1.4, 1.6]},
        "curves": curves,
    }
    _, ((first, mean, difference, _), (second, *_)) = recipe.table(figures)
    assert (first, mean, difference, second) == ("RMSNorm", "1.5000", "-0.1000", "base")
    panel = recipe.draw(figures).axes[0]
    assert panel.get_title(loc="left") == "RMSNorm: -0.100"
    np.testing.assert_allclose(panel.lines[2].get_ydata(), -0.1)  # the mean of two seeds


@pytest.mark.parity
@pytest.mark.parametrize("name", recipe.VARIANTS)
def test_recipe_variant_trains(name, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 60, encoding="utf-8")
    loss, curve = recipe.train(
        str(tmp_path / "text.txt"), {"channels": 8, "time": 16, "steps": 10} | recipe.VARIANTS[name], 0
    )
    assert 0 < loss < 4 and len(curve) == 1


@pytest.mark.parity
def test_recipe_base_is_our_default(rng):
    """The same loss as this library's GPT of preset `default`, on its weights."""
    torch = pytest.importorskip("torch")
    from types import SimpleNamespace

    from minigpt.optim.muon import newton_schulz
    from minigpt.training import PRESETS

    torch.manual_seed(0)
    theirs = recipe.make_model(SimpleNamespace(**recipe.BASE), 11)
    model, training = PRESETS["default"]
    base = recipe.BASE
    same = {
        "batch": "batch_size",
        "lr": "lr",
        "muon_lr": "muon_lr",
        "warmup": "warmup",
        "polynomials": "newton_schulz_steps",
    }
    assert {name: base[name] for name in same} == {name: training[field] for name, field in same.items()}
    assert base["time"] == model["block_size"]
    assert all(base[name] == model[name] for name in ("positions", "qk_norm", "smear"))
    assert (training["schedule"], training["final_lr"]) == ("linear", 0.0)
    x = rng.standard_normal((6, 4))
    coefficients = recipe.polynomials(base["polynomials"])
    orthogonal = recipe.orthogonalise(torch.from_numpy(x), coefficients).numpy()
    np.testing.assert_allclose(orthogonal, newton_schulz(x, base["polynomials"]), rtol=0, atol=1e-6)
    theirs.smear.data.normal_()  # nothing is smeared at first
    ours = RecipeGPT(RecipeGPTConfig(11, **model))
    weights = {name: value.detach().numpy() for name, value in theirs.named_parameters()}
    p = ours.parameters
    p["wte.weight"][...], p["smear.weight"][...] = weights["wte"], weights["smear"]
    for i in range(model["n_layer"]):
        p[f"h.{i}.attn.c_attn.weight"][...] = np.concatenate([weights[f"h.{i}.{name}"] for name in "qkv"], axis=1)
        for name, part in {"attn.c_proj": "proj", "mlp.c_fc": "fc", "mlp.c_proj": "out"}.items():
            p[f"h.{i}.{name}.weight"][...] = weights[f"h.{i}.{part}"]
    ids = rng.integers(0, 11, (2, 20))
    with torch.no_grad():
        np.testing.assert_allclose(ours.logits(ids), theirs(torch.from_numpy(ids)).numpy(), rtol=0, atol=1e-5)


def test_limited_threads_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert program.main(["--only", "import", "--folder", str(tmp_path)]) == 2
    assert "OMP_NUM_THREADS=1 in the environment" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_slope_is_of_the_upper_end():
    values = [1, 2, 4, 8, 16]
    assert bench_scale.slope(values, [1, 1, 1 * 4.0, 1 * 16.0, 64.0]) == pytest.approx(2)
    assert bench_scale.slope([3], [1.0]) is None


def test_peak_memory_is_of_this_process():
    assert 1e7 < bench_memory.peak_memory() < 1e12


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path


def write(folder, **found):
    for name, figures in found.items():
        (folder / "results" / f"{name.replace('_', '-')}.json").write_text(json.dumps(figures), encoding="utf-8")


def test_report_from_figures(folder):
    write(folder, step_small=STEP, time_to_loss=LOSS, memory=MEMORY, scale=SCALE)
    assert program.main(["--report-only", "--folder", str(folder)]) == 0
    text = (folder / "RESULTS.md").read_text(encoding="utf-8")
    for part in ("Abacus, 2 cores", "beads (wood)", "OMP_NUM_THREADS=2", "100 GFLOP/s", "numpy 9.9",
                 "`python -m benchmarks.bench_step --size small`", "at least 1.15",
                 "1.50 (80% of 5 turns: 1.40 to 1.60)", "at most 0.167", "1,200", "C^2.00"):  # fmt: skip
        assert part in text, part
    assert (
        text.index("## Machine")
        < text.index("## Targets")
        < text.index("## A training step, small")
        < text.index("## Scale")
    )
    for picture in ("results.png", "results/time-to-loss.png", "results/scale.png"):
        assert f"]({picture})" in text
        assert (folder / picture).stat().st_size < 200_000
    program.main(["--report-only", "--folder", str(folder)])
    assert (folder / "RESULTS.md").read_text(encoding="utf-8") == text


def test_report_without_pytorch(folder):
    alone = {key: {"minigpt": STEP[key]["minigpt"]} for key in ("ms", "least_ms", "gemm_share")} | {"speedup": {}}
    step = {key: value for key, value in STEP.items() if key != "faster"} | alone
    loss = LOSS | {"runs": {"quick": LOSS["runs"]["quick"]}}
    memory = MEMORY | {"sizes": {"middle": {"minigpt": MEMORY["sizes"]["middle"]["minigpt"]}}}
    write(folder, step_small=step, time_to_loss=loss, memory=memory)
    assert program.main(["--report-only", "--folder", str(folder)]) == 0
    assert "at least 60%" in (folder / "RESULTS.md").read_text(encoding="utf-8")


def test_report_of_a_benchmark_without_a_table_lists_its_numbers(monkeypatch):
    monkeypatch.setattr(program, "module_of", lambda name: None)
    assert "| tokens_per_second | 3200   |" in program.report(
        {"generate-small": {"tokens_per_second": 3200.0, "rows": []}}
    )


def test_report_without_figures_is_an_error(tmp_path, capsys):
    assert program.main(["--report-only", "--folder", str(tmp_path)]) == 2
    assert "no figures" in capsys.readouterr().err


def test_report_names_a_damaged_file(folder):
    (folder / "results" / "ops.json").write_text("{", encoding="utf-8")
    with pytest.raises(MinigptError, match=r"ops\.json"):
        program.write_report(folder)


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (program.main, ["--only", "poetry"]),
        (program.main, ["--quick"]),
        (program.main, ["--report-only", "--only", "ops"]),
        (bench_step.main, ["--size", "huge"]),
        (bench_step.main, ["--turns", "0"]),
        (bench_ops.main, ["--turns", "many"]),
        (bench_memory.main, ["--size", "huge"]),
        (bench_load.main, ["--size", "huge"]),
        (bench_scale.main, ["--sweep", "V"]),
        (bench_time_to_loss.main, ["--turns", "-1"]),
    ],
)
def test_arguments_out_of_range_are_an_error(main, argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["step", "ops", "memory", "load", "scale", "time_to_loss"])
def test_help_is_printed(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.bench_{name}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--json FILE" in done.stdout


def test_bert_targets_are_of_the_faster_side_and_of_the_kernels():
    seconds = {"minigpt": [1.0, 2.0], "eager": [1.5, 3.0], "compiled": [1.4, 2.8]}
    row = {"seconds": seconds, "rates": [1e9, 1e9], "gflop": 0.5}
    figures = {"part": "train", "size": "middle", "avx2": True, "gemm_gflops": 1.0, "rows": {bench_bert.MASKED: row}}
    (target,) = bench_bert.targets(figures)
    assert "compiled" in target.what and target.figure == pytest.approx(1.4) and target.limit == 1.0 and target.met
    assert bench_bert.targets(figures | {"avx2": False})[0].limit == 1.3
    _, cells = bench_bert.table(figures)
    assert [cell[1] for cell in cells] == ["minigpt", "eager", "compiled"] and "38% of the GEMM rate" in cells[0]
    del seconds["eager"], seconds["compiled"]
    assert bench_bert.targets(figures) == []
    assert "0.5 GFLOP" in bench_bert.describe(figures)


def test_embed_targets_have_limits():
    row = {"seconds": {"minigpt": [1.0], "transformers": [3.0]}, "rates": [1.0], "texts": 2, "tokens": 9, "longest": 5}
    rows = dict.fromkeys(bench_bert.LIMITS, row)
    figures = {"part": "embed", "size": "middle", "avx2": False, "gemm_gflops": 1.0, "rows": rows}
    assert [target.limit for target in bench_bert.targets(figures)] == [1.0, 1.0, 2.0, 1.0]
    assert all(target.met for target in bench_bert.targets(figures))
    assert bench_bert.table(figures)[1][0][4] == "2 texts/s"


def test_bert_batches_have_equally_many_targets_and_hide_them():
    config, rng = bench_bert.SIZES["middle"][0], np.random.default_rng(0)
    ids, targets = bench_bert.draw_batch(config, 16, 128, bench_bert.MASKED, rng)
    assert (targets != -100).sum() == 304 == (ids == bench_bert.MASK).sum()
    assert (ids[targets == -100] > bench_bert.MASK).all() and (targets[ids == bench_bert.MASK] > bench_bert.MASK).all()
    ids, targets = bench_bert.draw_batch(config, 2, 7, bench_bert.ALL, rng)
    assert (ids == targets).all() and ids.shape == (2, 7)
    flops = bench_bert.model_flops(config, 16, 128, 304)
    matrices = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert flops == 6 * (2048 * matrices + 304 * (384 * 384 + 384 * 8192)) + 2048 * 12 * 6 * 384 * 128


def test_sides_of_bert_make_steps_and_vectors():
    rows = bench_bert.rows_of("tiny", bench_bert.SIZES["tiny"][0])
    vectors = bench_bert.our_embed("tiny", bench_bert.embed_model("tiny"))
    assert vectors.keys() == bench_bert.LIMITS.keys()
    assert vectors["mixed lengths"]().shape == (len(rows["mixed lengths"]), 24)
    loss, *_ = bench_bert.our_step("tiny", bench_bert.MASKED)()
    assert 4 < loss < 5


def test_t5_targets_are_of_the_faster_side_and_of_the_kernels():
    seconds = {"minigpt": [1.0, 2.0], "eager": [1.5, 3.0], "compiled": [1.4, 2.8]}
    rows = {version: {"seconds": seconds, "rates": [1e9, 1e9], "gflop": 0.5} for version in bench_t5.VERSIONS}
    figures = {"size": "middle", "avx2": True, "gemm_gflops": 1.0, "rows": rows}
    for target in bench_t5.targets(figures):
        assert "compiled" in target.what and target.figure == pytest.approx(1.4) and target.limit == 1.0 and target.met
    assert [target.limit for target in bench_t5.targets(figures | {"avx2": False})] == [1.3, 1.3]
    assert len(bench_t5.table(figures)[1]) == 6 and "0.5 GFLOP of v1.1" in bench_t5.describe(figures)


def test_t5_steps_and_flops():
    config = bench_t5.config_of("tiny", "v1.1")
    batch = bench_t5.draw_batch(config, 4, 10, 7, np.random.default_rng(0))
    assert (batch["decoder_input_ids"][:, 1:] == batch["targets"][:, :-1]).all()
    assert (batch["decoder_input_ids"][:, 0] == config.decoder_start_token_id).all()
    loss, *_ = bench_t5.our_step("tiny", "v1.1")()
    assert np.isfinite(loss)
    matrices = {name: p.size for name, p in T5(config).parameters.items() if p.ndim == 2 and "bias" not in name}
    of_source = sum(n for name, n in matrices.items() if name.startswith("encoder") or "cross.c_attn" in name)
    of_target = sum(matrices.values()) - of_source - matrices["wte.weight"]
    attention = 12 * 16 * 2 * (10 * 10 + 7 * (7 + 10))
    assert bench_t5.model_flops(config, 4, 10, 7) == 4 * (6 * (10 * of_source + 7 * of_target) + attention)


@pytest.mark.parity
@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_t5_of_pytorch_is_the_same_model(version):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_t5 import TorchT5

    config = bench_t5.config_of("tiny", version)
    ours, theirs = T5(config, dtype=np.float64), TorchT5(config).double()
    ours.store.vector[:] = 0.5 * np.random.default_rng(1).standard_normal(ours.num_parameters)

    def put(parameter, *names):
        value = np.concatenate([ours.parameters[name] for name in names], axis=-1)
        parameter.data = torch.from_numpy((value if "bias" in names[0] or "wte" in names[0] else value.T).copy())

    put(theirs.table.weight, "wte.weight")
    put(theirs.head.weight, "lm_head.weight") if version == "v1.1" else setattr(
        theirs.head, "weight", theirs.table.weight
    )
    for name, stack in (("encoder", theirs.encoder), ("decoder", theirs.decoder)):
        put(stack.table.weight, f"{name}.bias.weight")
        put(stack.norm.weight, f"{name}.ln_f.weight")
        for i, (layer, norms) in enumerate(zip(stack.layers, stack.norms)):
            h = f"{name}.h.{i}"
            for norm, kind in zip(norms, ("ln_1", "ln_cross", "ln_2") if stack.crossing else ("ln_1", "ln_2")):
                put(norm.weight, f"{h}.{kind}.weight")
            put(layer[0].first.weight, f"{h}.attn.c_attn.weight")
            put(layer[0].out.weight, f"{h}.attn.c_proj.weight")
            if stack.crossing:
                put(layer[1].first.weight, f"{h}.cross.q_attn.weight")
                put(layer[1].of_memory.weight, f"{h}.cross.c_attn.weight")
                put(layer[1].out.weight, f"{h}.cross.c_proj.weight")
            gate = [f"{h}.mlp.c_gate.weight"] if version == "v1.1" else []
            put(layer[-1].first.weight, *gate, f"{h}.mlp.c_fc.weight")
            put(layer[-1].out.weight, f"{h}.mlp.c_proj.weight")
    batch = bench_t5.draw_batch(config, 3, 10, 7, np.random.default_rng(0))
    names = ("ids", "decoder_input_ids")
    with torch.no_grad():
        logits = theirs(*(torch.from_numpy(batch[name]) for name in names)).numpy()
    wanted = ours.logits(*(batch[name] for name in names))
    assert np.abs(logits - wanted).max() < 1e-10 * np.abs(wanted).max()
