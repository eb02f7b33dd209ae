"""What the benchmarks share: taking turns, the machine's own rates,
and a record of how it was set up.

The speed of a shared machine wanders by a quarter from minute to minute; a ratio within a second
does not. So both sides take turns, A B A B ..., and the figure is the median of the turns' ratios.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_info

from minigpt.machine import THREAD_SETTINGS, available_cores
from minigpt.tables import padded

PAUSE = 0.3  # seconds between sides: threads of the other side's OpenMP or BLAS spin on for a while after their work
SETTINGS = (*THREAD_SETTINGS, "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")

HEAD = ("what", "figure", "target", "met")  # columns of a table of targets


class Ratio(NamedTuple):
    """The median of the turns' ratios, and the range of the middle 80% of them."""

    median: float
    low: float
    high: float
    turns: int

    def __str__(self):
        return f"{self.median:.2f} (median of {self.turns} turns; 80% between {self.low:.2f} and {self.high:.2f})"


def timed(function):
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def take_turns(sides, turns, calls=1, warm_up=3, between=None, pause=PAUSE):
    """Time functions in turn. sides: name -> function; calls: of each a turn;
    between: called before each turn -> name -> seconds a call, by turn.

    Each turn begins with a pause and a call that is not timed:
    caches, and threads that have gone to sleep, are the side's own again.
    """
    for side in sides.values():
        for _ in range(warm_up):
            side()
    seconds = {name: [] for name in sides}
    for _ in range(turns):
        if between is not None:
            between()
        for name, side in sides.items():
            time.sleep(pause)
            side()
            seconds[name].append(timed(lambda side=side: [side() for _ in range(calls)]) / calls)
    return seconds


def ratio(ours, theirs):
    """How many times as fast we are: theirs / ours, turn by turn -> Ratio."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, high = np.quantile(ratios, (0.1, 0.9))
    return Ratio(statistics.median(ratios), float(low), float(high), len(ratios))


class Target(NamedTuple):
    """A figure, and the limit that it is to keep; limit None: none was set."""

    what: str
    figure: float
    limit: float | None = None
    most: bool = False  # whether the limit is an upper one
    form: str = "{:.2f}"  # how a reader sees both

    @property
    def met(self):
        """Whether the limit is kept; None without one."""
        if self.limit is None:
            return None
        return self.figure <= self.limit if self.most else self.figure >= self.limit

    def cells(self):
        """What was measured, the figure, the target, and whether it is met: four strings."""
        if self.limit is None:
            return self.what, self.form.format(self.figure), "", ""
        limit = ("at most " if self.most else "at least ") + self.form.format(self.limit)
        return self.what, self.form.format(self.figure), limit, "yes" if self.met else "no"


def markdown(columns, rows):
    """A table of strings and numbers in Markdown,
    columns padded so that it reads well in a terminal too.
    """
    cells = padded((columns, *rows), left=range(len(columns)))
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (len(cell) + 2) for cell in cells[0]) + "|", *lines[1:]])


def show(targets=(), table=None):
    """Print a benchmark's table (columns, rows) and its targets."""
    if table is not None:
        print("\n" + markdown(*table))
    if targets:
        print("\n" + markdown(HEAD, [target.cells() for target in targets]))


def without_torch():
    """Say that PyTorch's side is left out, if PyTorch is not installed. -> whether it is not"""
    if importlib.util.find_spec("torch") is not None:
        return False
    print("PyTorch is not installed (extra `parity`): measuring this library alone")
    return True


def gemm_rate(n=2048, tries=3):
    """FLOP/s of a float32 product of two n-cubes on all cores, the best of a few."""
    a = np.ones((n, n), np.float32)
    return 2 * n**3 / min(timed(lambda: a @ a) for _ in range(tries))


def memory_bandwidth(size=1 << 28, tries=5):
    """Bytes/s that all cores together read from memory, the best of a few tries of four ways,
    so that it is no less than what decoding could use.

    A row that fits into no cache: its largest value, a stretch a thread; its product with itself,
    in BLAS; and as a matrix times a vector, from both sides, which two BLAS threads read fastest
    where nothing else runs.
    """
    from concurrent.futures import ThreadPoolExecutor

    values = np.ones(size // 4, np.float32)
    parts, matrix = np.array_split(values, available_cores()), values.reshape(-1, 1024)
    with ThreadPoolExecutor(len(parts)) as pool:
        ways = (
            lambda: list(pool.map(np.max, parts)),
            lambda: values @ values,
            lambda: matrix @ values[:1024],
            lambda: values[: len(matrix)] @ matrix,
        )
        return size / min(timed(way) for way in ways for _ in range(tries))


def model_flops(config, tokens):
    """FLOPs of a training step: 6 for each matmul parameter and token,
    12 layers C T for attention (PaLM, arXiv:2204.02311, appendix B).
    """
    C, T = config.n_embd, config.block_size
    matmul = config.n_layer * 12 * C * C + C * config.vocab_size
    return tokens * (6 * matmul + 12 * config.n_layer * C * T)


def machine():
    """What the figures were measured on: processor, cores, libraries,
    and settings of the environment that change a product's speed -> dict
    """
    versions = {}
    for package in ("numpy", "torch", "transformers"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    blas = sorted({f"{info['internal_api']} {info['version']} ({info.get('architecture', '?')})" for info in libraries})
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "cores": available_cores(),
        "versions": versions,
        "blas": blas,
        "environment": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def processor():
    """The processor's name, as far as the system says it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def whole(text, least=0):
    """A whole number of at least 0, for argparse."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value}: it must be at least {least}")
    return value


def count(text):
    """A whole number of at least 1, for argparse."""
    return whole(text, 1)


def new_file(text):
    """A file in a folder that is there, for argparse: asked before anything is measured."""
    folder = os.path.dirname(text) or "."
    if not os.path.isdir(folder) or os.path.isdir(text):
        raise argparse.ArgumentTypeError(
            f"{text}: {'it is a folder' if os.path.isdir(text) else f'there is no folder {folder}'}"
        )
    return text


def parser(description):
    """A parser with --json, which every benchmark has."""
    made = argparse.ArgumentParser(description=description.partition("\n\n")[0])
    made.add_argument(
        "--json", type=new_file, metavar="FILE", help="write the figures here as well (default: only print them)"
    )
    return made


def command(argv):
    """What a reader types to run this benchmark again:
    the process's arguments without --json and --data, whose files are the machine's own.
    """
    words, skip = [], False
    for word in argv[1:]:
        if not skip and word.partition("=")[0] not in ("--json", "--data"):
            words.append(word)
        skip = word in ("--json", "--data")
    return " ".join(["python -m", f"benchmarks.{os.path.basename(argv[0]).removesuffix('.py')}", *words])


def write_json(path, figures):
    """Write figures with the machine's description and the command that made them,
    where a path is given.
    """
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "command": command(sys.argv)} | figures, file, indent=1)
            file.write("\n")
