"""What a run writes beside its checkpoints, what a folder holds of an earlier run, and what a
resumed run must have in common with it.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

from minigpt import checkpoint
from minigpt.checks import LARGEST_SIZE, shortened
from minigpt.errors import MinigptError
from minigpt.files import REQUIRED, Missing, parse_json, read_bytes, read_json, write_atomically
from minigpt.training.config import TrainConfig

LARGEST_LOSS = 1e38  # of float32; what is far larger can't be drawn either
LAST, BEST, METRICS, LOSS_CURVE = "last", "best", "metrics.jsonl", "loss.png"  # a run's files in its folder
PROFILE_CHART, PROFILE_FIGURES = "profile.png", "profile.json"
CHANGEABLE_SETTINGS = ("steps", "eval_interval", "save_interval", "recompute")  # what a resumed run may set anew


# metrics.jsonl


def add_metrics(path, row):
    """Add a row, a dict, to a metrics file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(path, say=None):
    """The rows of a metrics file -> list of dicts, empty where there is no file.

    Blank lines are passed over, and so is a last line that was cut off by a crash. For a damaged
    line, `say` is told, and it is left out; without `say` it is a MinigptError that names file and
    line.
    """
    try:
        lines = read_bytes(path).split(b"\n")
    except Missing:
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        row = parse_row(line)
        if row is not None:
            rows.append(row)
        elif line.strip() and number < len(lines):  # the last one has no end of line
            message = f"{path}: line {number} is damaged, it is no row of a run's metrics"
            if say is None:
                raise MinigptError(message)
            say(f"{message}; it is left out")
    return rows


def keep_metrics(path, step, say=print):
    """Drop the rows after a step, to which a run goes back: they will be written again.
    MinigptError for a file that is no run's.
    """
    if path.exists() and not is_metrics_file(path):
        raise MinigptError(f"{path} was not written by a run, and this one would write there; move it away")
    kept, last = [], 0
    for row in read_metrics(path, say):
        if last < row["step"] <= step:
            kept.append(row)
            last = row["step"]
        elif row["step"] <= last:
            say(f"{path}: step {row['step']} stands after step {last}; its row is left out")
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


def parse_row(line):
    """A line of a metrics file as a dict, None where it isn't one: step is a whole number, losses
    and seconds are numbers.
    """
    try:
        row = parse_json(line, "row")
        row.whole("step", at_least=1, at_most=LARGEST_SIZE)
        for key in ("train_loss", "seconds", "val_loss"):
            row.number(key, at_least=0, at_most=LARGEST_LOSS, default=REQUIRED if key == "train_loss" else 0)
    except MinigptError:
        return None
    return dict(row.items())


# An earlier run in the folder


def set_aside(folder, say=print):
    """Move what an earlier run wrote into a folder of its own beside this one, so that a new run
    overwrites nothing, and say so.

    What a run did not write stays. MinigptError where a new run would overwrite or mix with such a
    file, and where files can't be moved.
    """
    folder = Path(folder)
    earlier = run_files(folder)
    if not earlier:
        return
    place, number, moved = folder.resolve(), 1, []
    try:
        while True:
            aside = place.parent / f"{place.name or 'run'}.{number}"
            try:
                aside.mkdir()
                break
            except FileExistsError:
                number += 1
        for name in earlier:
            os.rename(place / name, aside / name)
            moved.append(name)
    except OSError as error:
        for name in moved:
            os.rename(aside / name, place / name)
        if aside.is_dir() and not os.listdir(aside):
            aside.rmdir()
        raise MinigptError(
            f"the earlier run in {folder} can't be moved to {aside}: {error.strerror or error}; choose another folder"
        ) from None
    shown = aside if folder.is_absolute() else os.path.relpath(aside)
    say(f"{folder} held an earlier run, which is in {shown} now (--resume would have gone on with it)")


def run_files(folder):
    """Names of the files and folders that an earlier run wrote into a folder. MinigptError for one
    of the same name that no run of ours wrote.
    """
    found = [name for name in (LAST, BEST, METRICS) if os.path.lexists(folder / name)]
    foreign = [name for name in found if not is_ours(folder / name)]
    foreign = foreign or [f"{name}/{stray}" for name in found for stray in strays(folder / name)]
    if os.path.lexists(folder / LOSS_CURVE):
        (found if found else foreign).append(LOSS_CURVE)  # a picture is as good as what lies beside it
    for name in foreign:
        what = f"{folder / name} was not written by a run"
        raise MinigptError(f"{what}, and a run would write there; choose another folder")
    return found


def is_ours(path):
    """Whether a run wrote the checkpoint folder or metrics file at a path."""
    return is_metrics_file(path) if path.name == METRICS else is_checkpoint_folder(path)


def is_checkpoint_folder(path):
    """Whether a folder holds a checkpoint of ours, or nothing but the files of a first save that
    was cut short.
    """
    if not path.is_dir():
        return False
    if checkpoint.current_save(path)[0]:
        return True
    return set(os.listdir(path)) == {leftover.name for leftover, _ in checkpoint.leftovers(path)}


def strays(path):
    """Names in a checkpoint folder that no save writes: a user's own, not ours to move."""
    if path.name == METRICS:
        return []
    ours = {checkpoint.CONFIG, *checkpoint.FILES, *(leftover.name for leftover, _ in checkpoint.leftovers(path))}
    return sorted(set(os.listdir(path)) - ours)


def is_metrics_file(path):
    """Whether a file begins with a row of a run, or a part of it; an empty one may be a run's that
    was resumed at its start.
    """
    try:
        data = read_bytes(path).lstrip()
    except MinigptError:
        return False
    first, *others = data.split(b"\n", 1)
    if not first or parse_row(first) is not None:
        return True
    return not others and b'{"step": '.startswith(first[:9])


def check_profile_files(folder):
    """MinigptError where a profile would replace a file that is not one of an earlier profile."""
    chart, figures = folder / PROFILE_CHART, folder / PROFILE_FIGURES
    try:
        ours = {"step_seconds", "rows"} <= set(read_json(figures))
    except MinigptError:
        ours = False
    for path in [] if ours else [path for path in (figures, chart) if os.path.lexists(path)]:
        raise MinigptError(f"{path} was not written by a profile, and this one would replace it; choose another folder")


# Going on with a run


def check_same_run(saved, given, directory):
    """MinigptError naming the first setting that is not the one that a run was started with.

    saved, given: name -> value, of the run in a directory and of the one that is to go on with it.
    """
    for name, value in saved.items():
        if name not in CHANGEABLE_SETTINGS and value != given.get(name):
            advice = "resume it with that, or start in another folder"
            raise MinigptError(
                f"{name} is {given.get(name)}, the run in {directory} was started with {value}; {advice}"
            )


class RunState(NamedTuple):
    """What a run saves beside its model and its optimizer's arrays."""

    step: int  # updates that are done
    seconds: float  # of training
    best: float  # validation loss, infinite before the first one
    losses: list  # of the steps since the last row of metrics
    config: TrainConfig
    data_sha256: str | None  # of the text
    settings: dict  # of its objective and tokenizer


def read_state(directory):
    """The RunState in a checkpoint folder; a setting that is newer than the run has its default.

    MinigptError where there is none, and where it is damaged.
    """
    values = checkpoint.load_state_values(directory)
    if values is None:
        raise MinigptError(f"{directory}: a model without a trainer's state, it can't be resumed")
    config, known = values.section("config"), {field.name for field in dataclasses.fields(TrainConfig)}
    for name in config:
        if name not in known:
            unknown = f"a setting {shortened(name)}, which this version of minigpt does not know"
            raise MinigptError(f"{directory}: the run has {unknown}")
    settings = values.section("settings", default=None)
    best = values.number("best", at_least=0, at_most=LARGEST_LOSS, default=None)
    return RunState(
        step=values.whole("step", at_least=0, at_most=LARGEST_SIZE),
        seconds=values.number("seconds", at_least=0, at_most=LARGEST_LOSS),
        best=math.inf if best is None else best,
        losses=values.numbers("losses", at_least=0, at_most=LARGEST_LOSS),
        config=config.config(TrainConfig),
        data_sha256=values.text("data_sha256", default=None),
        settings={} if settings is None else dict(settings.items()),
    )
