"""Is my loss normal? A run's losses beside a band: what runs of the same settings on the same text
reached with other seeds.

Bands are data of this package, bands/*.json, made by `python -m benchmarks.make_bands`. A band
holds where settings and text are the band's: all of the model's config, all of TrainConfig but
VARIED_FIELDS, and the SHA-256 of the text.

How wide. Of n runs the least and the largest say little of the next one: of 5 runs, a 6th falls
outside their range one time in three. A band is therefore a prediction interval for one more run,
mean +- t sqrt(1 + 1/n) sd with Student's t of n - 1 degrees of freedom, in which the losses of one
step lie in 98 of 100 runs if they are normally distributed (any textbook; e.g. Montgomery, Applied
Statistics, section 8-6). For 5 runs that is 4.1 sd, for 3 it is 8.0: so few say little of their
spread. The variance is averaged with that of the neighbouring steps, since one of a few runs is
tiny by luck now and then; no sd counts as less than SMALLEST_SD; and no run of the band lies
outside it.
"""

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import parse_json, read_text, write_atomically
from minigpt.models import load
from minigpt.training.run_files import read_metrics, read_state
from minigpt.training.trainer import REPORT_INTERVAL

FOLDER = Path(__file__).with_name("bands")
FORMAT_VERSION = 1
# of TrainConfig: what runs of one band may differ in
VARIED_FIELDS = ("seed", "eval_interval", "save_interval", "shards", "recompute")
FEWEST = 3  # runs: with 2, t is 32
# degrees of freedom -> t's 99th percentile
T99 = {2: 6.965, 3: 4.541, 4: 3.747, 5: 3.365, 6: 3.143, 7: 2.998, 8: 2.896, 9: 2.821, 10: 2.764}
SMALLEST_SD = 0.001  # nats; a few runs that happen to agree better than this don't promise that the next one will
WINDOW = 0.04  # of a run's steps, over which its training loss is averaged: one batch is far noisier than the model


@dataclass(frozen=True)
class Interval:
    """A loss at some steps: over the runs its mean, least and largest value, and from low to high
    what is normal. Arrays of one length.
    """

    steps: np.ndarray
    mean: np.ndarray
    least: np.ndarray
    largest: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Band:
    """What is normal for one recipe on one text, or on several that make no difference."""

    preset: str  # its name
    model: dict  # fields of the model's config
    training: dict  # fields of TrainConfig, without VARIED_FIELDS
    texts: list  # SHA-256 of each text that runs were made on
    runs: list  # dicts of seed, text (SHA-256) and val_loss at the end
    window: int  # steps over which train is averaged
    train: Interval  # training loss, see smooth
    val: Interval  # validation loss

    @property
    def seeds(self):
        """How many different seeds."""
        return len({run["seed"] for run in self.runs})

    def judge(self, step, val_loss):
        """Whether a validation loss is normal, in words; None at a step that the band does not
        hold.
        """
        at = np.flatnonzero(self.val.steps == step)
        if not len(at):
            return None
        low, high = float(self.val.low[at[0]]), float(self.val.high[at[0]])
        if low <= val_loss <= high:
            return f"normal, the band of {self.seeds} seeds is {low:.4f} to {high:.4f}"
        where = "lower" if val_loss < low else "higher"
        return f"outside the band of {self.seeds} seeds ({low:.4f} to {high:.4f} at step {step}): {where}"

    def smooth(self, rows):
        """Training loss of the rows of metrics.jsonl, averaged as in this band -> (N,) array, one
        for each row.
        """
        return smoothed(rows, self.window)

    def why_not(self, model_config, config, data_sha256):
        """Why this band says nothing about a run with these configs on this text; None where it
        applies.
        """
        if data_sha256 not in self.texts:
            own = " or ".join(text[:12] + "..." for text in self.texts)
            return f"the text is another (SHA-256 {str(data_sha256)[:12]}..., the band's {own})"
        given = settings(model_config, config)
        for kind, values, own in zip((type(model_config), type(config)), given, (self.model, self.training)):
            known = defaults(kind) | own  # a field that is newer than the band had its default's effect
            for field in known:
                if field not in values:
                    return f"{field} is no setting any more, the band's is {shortened(known[field])}"
                if values[field] != known[field]:
                    return f"{field} is {values[field]!r}, the band's {shortened(known[field])}"
        return None


def settings(model_config, config):
    """The fields of both configs that decide whether a band applies, as JSON would hold them ->
    (dict, dict)
    """
    training = {field: value for field, value in dataclasses.asdict(config).items() if field not in VARIED_FIELDS}
    return tuple(json.loads(json.dumps(values)) for values in (dataclasses.asdict(model_config), training))


def defaults(config_class):
    """The defaults of a config's fields, where they have one, without VARIED_FIELDS,
    as JSON would hold them.
    """
    values = {
        f.name: f.default
        for f in dataclasses.fields(config_class)
        if f.default is not dataclasses.MISSING and f.name not in VARIED_FIELDS
    }
    return json.loads(json.dumps(values))


def smoothed(rows, window):
    """Training loss averaged over the last `window` steps, or as many as there are: rows of
    metrics.jsonl, each a mean since the row before it.

    The same for any interval between rows, up to the part of a row that the window cuts off. ->
    (N,) array. MinigptError for rows that are not in the order of their steps.
    """
    steps = np.array([0] + [row["step"] for row in rows], float)
    if (np.diff(steps) <= 0).any():
        after = rows[int(np.argmax(np.diff(steps) <= 0))]["step"]
        raise MinigptError(f"metrics: step {after} is not above the step of the row before it")
    total = np.concatenate([[0.0], np.cumsum(np.diff(steps) * [row["train_loss"] for row in rows])])
    start = np.maximum(steps[1:] - window, 0)
    return (total[1:] - np.interp(start, steps, total)) / (steps[1:] - start)


def interval(steps, losses, neighbours=1):
    """losses (runs, steps); neighbours: on either side, that the variance is averaged with -> the
    Interval's fields as lists.
    """
    losses = np.asarray(losses)
    n = len(losses)
    t = T99[min(n - 1, max(T99))]
    mean, least, largest = losses.mean(axis=0), losses.min(axis=0), losses.max(axis=0)
    variance = losses.var(axis=0, ddof=1)
    variance = [variance[max(0, i - neighbours) : i + neighbours + 1].mean() for i in range(len(variance))]
    margin = t * math.sqrt(1 + 1 / n) * np.maximum(np.sqrt(variance), SMALLEST_SD)
    columns = {
        "mean": mean,
        "least": least,
        "largest": largest,
        "low": np.minimum(mean - margin, least),
        "high": np.maximum(mean + margin, largest),
    }
    return {"steps": [int(step) for step in steps]} | {
        name: [round(float(value), 5) for value in column] for name, column in columns.items()
    }


def read_run(folder):
    """-> state, rows, model's config and training of a finished run,
    the last without VARIED_FIELDS. MinigptError where it is not finished.
    """
    state, rows = read_state(folder / "last"), read_metrics(folder / "metrics.jsonl")
    steps = state.config.steps
    if not rows or "val_loss" not in rows[-1] or not rows[-1]["step"] == state.step == steps:
        raise MinigptError(f"{folder}: after step {state.step} of {steps}, a band is made of finished runs")
    training = {name: value for name, value in dataclasses.asdict(state.config).items() if name not in VARIED_FIELDS}
    return state, rows, dataclasses.asdict(load(folder / "last").config), training


def check_alike(folder, common, other_folder, other):
    """MinigptError where settings of one run, or the steps it reports, are not those of another."""
    for name in other | common:
        if other.get(name) != common.get(name):
            if name.startswith("steps "):
                raise MinigptError(f"{folder}: {name} are not those of {other_folder}")
            raise MinigptError(f"{folder}: {name} is {common.get(name)!r}, {other.get(name)!r} in {other_folder}")


def make_band(preset, folders):
    """The band of finished runs, one folder each, as a dict for JSON.

    MinigptError for fewer than FEWEST runs, a run that is not finished, or runs that differ in more
    than text and VARIED_FIELDS, or in their steps reported.
    """
    folders = [Path(folder) for folder in folders]
    if len(folders) < FEWEST:
        raise MinigptError(f"a band of {len(folders)} runs, at least {FEWEST} are needed")
    runs, train, val, first = [], [], [], None
    for folder in folders:
        state, rows, model, training = read_run(folder)
        reported = [row["step"] for row in rows]
        evaluated = [row["step"] for row in rows if "val_loss" in row]
        common = {f"model {name}": value for name, value in model.items()} | training
        common |= {"steps reported": reported, "steps evaluated": evaluated}
        first = first or common
        check_alike(folder, common, folders[0], first)
        text, val_loss = state.data_sha256, round(rows[-1]["val_loss"], 5)
        runs.append({"seed": state.config.seed, "text": text, "val_loss": val_loss})
        window = max(1, round(WINDOW * state.config.steps))
        train.append(smoothed(rows, window))
        val.append([row["val_loss"] for row in rows if "val_loss" in row])
    if len({(run["seed"], run["text"]) for run in runs}) < len(runs):
        seeds = ", ".join(str(run["seed"]) for run in runs)
        raise MinigptError(f"the seeds are {seeds}: each may be there once for a text")
    return {
        "format_version": FORMAT_VERSION,
        "preset": preset,
        "model": model,
        "training": training,
        "texts": sorted({run["text"] for run in runs}),
        "runs": runs,
        "window": window,
        "train": interval(reported, train, max(1, window // REPORT_INTERVAL)),
        "val": interval(evaluated, val),
    }


def write_band(path, values):
    """Write a band as JSON, a line for each of its entries, so that a change of it can be read."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_band(path):
    """The Band in a file. MinigptError where it can't be read, is damaged or of a newer format."""
    values = parse_json(read_text(path), f"band {path}")
    version = values.whole("format_version", at_least=1)
    if version > FORMAT_VERSION:
        raise MinigptError(f"band {path}: the format is newer than {FORMAT_VERSION}, this program's")
    runs = [
        {"seed": run.whole("seed"), "text": run.text("text", default=None), "val_loss": run.number("val_loss")}
        for run in values.sections("runs")
    ]
    return Band(
        preset=values.text("preset"),
        model=dict(values.section("model").items()),
        training=dict(values.section("training").items()),
        texts=values.texts("texts"),
        runs=runs,
        window=values.whole("window", at_least=1),
        train=read_interval(values.section("train")),
        val=read_interval(values.section("val")),
    )


def read_interval(values):
    """The Interval of a band, from Values. MinigptError for columns that are not of one length."""
    names = [field.name for field in dataclasses.fields(Interval)]
    columns = {name: np.array(values.numbers(name), float) for name in names}
    if len({column.shape for column in columns.values()}) > 1:
        raise MinigptError(f"{values.where}: the columns are not of one length")
    return Interval(**columns)


def kept_bands(folder=None):
    """The bands of a folder, those of this package unless given -> list of Band, by file name."""
    folder = FOLDER if folder is None else Path(folder)
    return (
        [read_band(folder / name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
        if folder.is_dir()
        else []
    )


def find_band(model_config, config, data_sha256, preset=None, folder=None):
    """The kept band that applies to a run -> Band or None, and why there is none, where preset
    names one -> a line or None.
    """
    bands = kept_bands(folder)
    why = {band.preset: band.why_not(model_config, config, data_sha256) for band in bands}
    for band in bands:
        if why[band.preset] is None:
            return band, None
    return None, f"no band to compare with: {why[preset]}" if preset in why else None
