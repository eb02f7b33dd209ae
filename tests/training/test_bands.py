import configparser
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import make_bands
from minigpt import GPT, CharTokenizer, GPTConfig, MinigptError, cli, plots
from minigpt.models.recipe_gpt import gpt_or_recipe
from minigpt.training import PRESETS, TrainConfig, Trainer, bands
from minigpt.training.bands import find_band, interval, kept_bands, make_band, read_band, smoothed, write_band

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 12
TOKENIZER = CharTokenizer.from_text(TEXT)
TOKENS = TOKENIZER.encode(TEXT)
MODEL = GPTConfig(TOKENIZER.vocab_size, 8, 1, 2, 8)
SETTINGS = {"steps": 12, "batch_size": 4, "eval_interval": 5, "save_interval": 100, "shards": 2}
ROOT = Path(__file__).parents[2]


def run(out, seed, text="abc", steps_done=None, band=None, say=lambda line: None, model=MODEL, **changes):
    """A tiny run, finished unless steps_done says otherwise -> its folder."""
    config = TrainConfig(**SETTINGS | {"seed": seed} | changes)
    t = Trainer(
        GPT(model, seed),
        TOKENS[:600],
        TOKENS[600:],
        config=config,
        out=out,
        tokenizer=TOKENIZER,
        data_sha256=text,
        threads=1,
        say=say,
        bar=False,
        band=band,
    )
    if steps_done is None:
        t.run()
    else:
        t.save("last")
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three finished runs that differ in their seeds."""
    return [run(tmp_path_factory.mktemp("runs") / str(seed), seed) for seed in (1, 2, 3)]


@pytest.fixture
def band(folders, tmp_path):
    """The band of these runs, written and read."""
    write_band(tmp_path / "kept" / "tiny.json", make_band("tiny", folders))
    return read_band(tmp_path / "kept" / "tiny.json")


def test_smoothed_loss_is_the_mean_over_the_window(rng):
    losses = rng.random(40)
    rows = [
        {"step": step, "train_loss": losses[last:step].mean()}
        for last, step in ((0, 10), (10, 15), (15, 20), (20, 30), (30, 40))
    ]
    want = [losses[:10].mean(), losses[:15].mean(), losses[:20].mean(), losses[10:30].mean(), losses[20:40].mean()]
    np.testing.assert_allclose(smoothed(rows, 20), want, rtol=1e-12)
    fine = [{"step": step, "train_loss": losses[step - 1]} for step in range(1, 41)]
    np.testing.assert_allclose(smoothed(fine, 20)[[9, 14, 19, 29, 39]], want, rtol=1e-12)
    assert smoothed([], 20).shape == (0,)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 8, 9, 10, 11, 16])
def test_98_of_100_further_runs_are_within_the_band(rng, n):
    points, further = 20000, 0.3 * rng.standard_normal(20000) + 2
    made = interval(range(points), 0.3 * rng.standard_normal((n, points)) + 2, neighbours=0)
    inside = np.mean((made["low"] <= further) & (further <= made["high"]))
    # above 11 runs, and where the runs' own range is the wider one, it errs on the wide side
    assert 0.976 < inside < (0.984 if n < 12 else 0.987)


def test_band_holds_its_runs_and_is_never_narrower_than_the_floor():
    made = interval([5, 10], [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_allclose(made["high"], [1.00804, 2.00804], atol=1e-5)  # 6.965 sqrt(4/3) 0.001
    losses = [[1.0], [1.0], [1.0], [1.0], [1.0], [9.0]]
    made = interval([5], losses)
    assert made["low"][0] <= made["least"][0] == 1.0
    assert made["high"][0] >= made["largest"][0] == 9.0
    # variances 0, 1, 0 and their means 1/2, 1/3, 1/2
    spread = interval([1, 2, 3], [[1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 3.0, 1.0]])
    width = np.subtract(spread["high"], spread["mean"]) / (6.965 * np.sqrt(4 / 3))
    np.testing.assert_allclose(width**2, [1 / 2, 1 / 3, 1 / 2], rtol=1e-3)


def test_band_says_what_its_runs_were(folders, band):
    assert (band.preset, band.texts, [r["seed"] for r in band.runs], band.seeds) == ("tiny", ["abc"], [1, 2, 3], 3)
    assert (band.model, band.training["steps"]) == (dataclasses.asdict(MODEL), 12)
    assert set(bands.VARIED_FIELDS).isdisjoint(band.training)
    rows = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    assert band.val.steps.tolist() == [5, 10, 12]
    assert band.train.steps.tolist() == [row["step"] for row in rows]
    assert band.runs[0]["val_loss"] == pytest.approx(rows[-1]["val_loss"], abs=1e-5)
    for part in (band.train, band.val):
        assert (np.diff([part.low, part.least, part.mean, part.largest, part.high], axis=0) >= 0).all()


def test_judgement_of_a_loss(band):
    low, high = band.val.low[2], band.val.high[2]
    assert band.judge(12, (low + high) / 2) == f"normal, the band of 3 seeds is {low:.4f} to {high:.4f}"
    assert band.judge(12, high + 0.01) == f"outside the band of 3 seeds ({low:.4f} to {high:.4f} at step 12): higher"
    assert band.judge(12, low - 0.01).endswith(": lower")
    assert band.judge(12, float("nan")).startswith("outside")
    assert band.judge(11, high) is None


@pytest.mark.parametrize(
    ("model", "config", "text", "why"),
    [
        ({}, {}, "abc", None),
        ({}, {"seed": 9, "eval_interval": 3, "save_interval": 2, "shards": 4, "recompute": True}, "abc", None),
        ({}, {}, "abd", "the text is another (SHA-256 abd..., the band's abc...)"),
        ({"n_layer": 2}, {}, "abc", "n_layer is 2, the band's 1"),
        ({}, {"lr": 0.1}, "abc", "lr is 0.1, the band's 0.001"),
        ({}, {"steps": 13}, "abc", "steps is 13, the band's 12"),
    ],
)
def test_band_applies_to_its_settings_and_text_alone(band, tmp_path, model, config, text, why):
    model, config = dataclasses.replace(MODEL, **model), TrainConfig(**SETTINGS | config)
    assert band.why_not(model, config, text) == why
    found, line = find_band(model, config, text, "tiny", tmp_path / "kept")
    assert (found is None) == (why is not None)
    assert line == (why and f"no band to compare with: {why}")
    assert find_band(model, config, text, None, tmp_path / "kept")[1] is None
    assert find_band(model, config, text, "other", tmp_path / "kept")[1] is None
    assert find_band(model, config, text, "tiny", tmp_path / "nothing") == (None, None)


def test_field_newer_than_the_band_counts_as_its_default(band):
    older = dataclasses.replace(band, training={key: value for key, value in band.training.items() if key != "clip"})
    assert older.why_not(MODEL, TrainConfig(**SETTINGS), "abc") is None
    assert older.why_not(MODEL, TrainConfig(**SETTINGS, clip=2.0), "abc") == "clip is 2.0, the band's 1.0"
    gone = dataclasses.replace(band, training=band.training | {"swirl": 3})
    assert gone.why_not(MODEL, TrainConfig(**SETTINGS), "abc") == "swirl is no setting any more, the band's is 3"


def test_run_says_at_each_evaluation_whether_it_is_normal_and_draws_the_band(band, tmp_path, monkeypatch):
    said, drawn, curve = [], [], plots.loss_curve
    monkeypatch.setattr(plots, "loss_curve", lambda rows, **more: drawn.append(more["band"]) or curve(rows, **more))
    run(tmp_path / "run", 2, band=band, say=said.append)
    assert [line.splitlines()[0].split("; ")[1][:6] for line in said if line.startswith("step")] == ["normal"] * 3
    assert drawn == [band]
    shifted = dataclasses.replace(band, val=dataclasses.replace(band.val, low=band.val.low - 3, high=band.val.high - 3))
    said.clear()
    run(tmp_path / "other", 2, band=shifted, say=said.append)
    assert sum("; outside the band of 3 seeds" in line and "higher" in line for line in said) == 3


def test_band_of_runs_that_do_not_belong_together_is_refused(folders, tmp_path):
    for folder, message in (
        (run(tmp_path / "a", 4, lr=0.1), "lr is 0.1, 0.001 in "),
        (run(tmp_path / "b", 4, eval_interval=6), "steps reported are not those of "),
        (run(tmp_path / "c", 4, model=dataclasses.replace(MODEL, n_layer=2)), "model n_layer is 2, 1 in "),
        (run(tmp_path / "d", 4, steps_done=0), "after step 0 of 12, a band is made of finished runs"),
        (run(tmp_path / "e", 3), "the seeds are 1, 2, 3, 3: each may be there once for a text"),
    ):
        with pytest.raises(MinigptError, match=re.escape(message)):
            make_band("tiny", [*folders, folder])
    with pytest.raises(MinigptError, match="a band of 2 runs, at least 3 are needed"):
        make_band("tiny", folders[:2])
    assert make_band("tiny", [*folders, run(tmp_path / "f", 3, "another text", save_interval=2, shards=1)])[
        "texts"
    ] == ["abc", "another text"]


def test_damaged_band_is_named(band, tmp_path):
    path = tmp_path / "kept" / "tiny.json"
    whole = json.loads(path.read_text())
    for damage, message in (
        ("{", "is not valid JSON"),
        (json.dumps([whole]), "must be a JSON object"),
        (json.dumps(whole | {"format_version": 99}), "the format is newer than 1"),
        (json.dumps({key: value for key, value in whole.items() if key != "window"}), "window is missing"),
        (
            json.dumps(whole | {"val": whole["val"] | {"low": [1.0]}}),
            "val: the columns are not of one length",
        ),
        (json.dumps(whole | {"train": whole["train"] | {"mean": "x"}}), "train: mean is 'x', it must be a list"),
        (
            json.dumps(whole | {"train": whole["train"] | {"mean": [None]}}),
            r"train: mean\[0\] is None, it must be a number",
        ),
        (json.dumps(whole | {"runs": [{"seed": []}]}), r"runs\[0\]: seed is \[\], it must be a whole number"),
        (json.dumps(whole | {"window": 0}), "window is 0, it must be a whole number of at least 1"),
    ):
        path.write_text(damage)
        with pytest.raises(MinigptError, match=rf"^band {re.escape(str(path))}.* {message}"):
            read_band(path)
    with pytest.raises(MinigptError, match=r"none\.json is missing"):
        read_band(tmp_path / "none.json")


def test_kept_bands_are_those_of_the_presets():
    for kept in kept_bands():
        model, training = PRESETS[kept.preset]
        _, config = gpt_or_recipe(model | {"vocab_size": kept.model["vocab_size"]})
        for text in kept.texts:
            assert kept.why_not(config, TrainConfig(**training), text) is None, f"{kept.preset}: make its band anew"
        assert kept.val.steps[-1] == training["steps"]
        assert 0 not in [r["seed"] for r in kept.runs]
    assert {kept.preset for kept in kept_bands()} == set(PRESETS)


def test_kept_bands_are_in_a_wheel():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.package_data"]["minigpt.training"] == "bands/*.json"
    assert bands.FOLDER == ROOT / "minigpt" / "training" / "bands"


TINY = {
    "steps": 6,
    "n-layer": 1,
    "n-head": 2,
    "n-embd": 8,
    "block-size": 8,
    "batch-size": 4,
    "eval-interval": 3,
    "save-interval": 100,
    "shards": 2,
}
TINY = [part for option, value in TINY.items() for part in (f"--{option}", str(value))]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--seeds", "2"], "a band of 2 runs, at least 3"),
        (["--seed", "7"], "--seed: a band sets"),
        (["--preset=best"], "--preset=best: a band sets"),
    ],
)
def test_band_that_could_not_be_made_is_refused_before_a_run(monkeypatch, capsys, options, error):
    monkeypatch.setattr("minigpt.cli.main", None)
    assert make_bands.main(["default", *options]) == 2
    assert error in capsys.readouterr().err


def test_band_is_made_by_the_command_and_found_by_a_run(tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    argv = [
        sys.executable,
        "-m",
        "benchmarks.make_bands",
        "default",
        "--data",
        str(text),
        "--seeds",
        "3",
        "--out",
        str(tmp_path / "default.json"),
    ]
    made = subprocess.run(
        [*argv, "--keep", str(tmp_path / "runs"), *TINY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(r"\nstep +6: validation loss \d\.\d{4}, .* normal: ", made.stdout)
    again = [
        *argv[:4],
        "--out",
        str(tmp_path / "from.json"),
        "--from",
        *map(str, sorted((tmp_path / "runs").iterdir())),
    ]
    subprocess.run(again, cwd=ROOT, capture_output=True, check=True)
    assert (tmp_path / "from.json").read_text() == (tmp_path / "default.json").read_text()
    (tmp_path / "from.json").unlink()
    monkeypatch.setattr(bands, "FOLDER", tmp_path)

    def train(*options):
        assert cli.main(["train", "--data", str(text), "--out", str(tmp_path / "run"), *TINY, *options]) == 0
        return capsys.readouterr().out

    printed = train()
    assert re.fullmatch(r"the loss is (normal, |outside )the band of 3 seeds .*", printed.splitlines()[-2])
    assert re.fullmatch(r"validation loss \d\.\d{4}", printed.splitlines()[-1])
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "no band to compare with: lr is 0.5, the band's 0.005" in train("--lr", "0.5", "--preset", "default")
    printed = train("--lr", "0.5")
    assert "no band" not in printed and "the loss is" not in printed


def test_rows_out_of_order_cannot_be_averaged():
    rows = [{"step": step, "train_loss": 1.0} for step in (10, 20, 20)]
    with pytest.raises(MinigptError, match="step 20 is not above the step of the row before it"):
        bands.smoothed(rows, 4)
