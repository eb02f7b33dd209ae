"""What `import minigpt` takes, against `import numpy`: fresh processes in turn, timed from inside.
Run it with `python -m benchmarks.bench_import`.
"""

import os
import statistics
import subprocess
import sys

from benchmarks.common import Target, count, parser, ratio, show, write_json
from minigpt.cli import guard

MODULES = ("numpy", "minigpt")
LIMIT = 1.5  # times what numpy takes, which is part of it
CODE = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def seconds_to_import(module):
    """Seconds that an import takes in a fresh process, which keeps what it compiles, as Python does
    unless told otherwise.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", CODE.format(module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def measure(turns):
    """Import the modules in turn, after once each so that their files are in memory -> figures"""
    for module in MODULES:
        seconds_to_import(module)
    seconds = {module: [] for module in MODULES}
    for _ in range(turns):
        for module in MODULES:
            seconds[module].append(seconds_to_import(module))
    return {"turns": turns, "seconds": seconds}


def targets(figures):
    """The figure that a limit was set for -> list of Target"""
    seconds = figures["seconds"]
    return [
        Target("import minigpt, of import numpy", ratio(seconds["numpy"], seconds["minigpt"]).median, LIMIT, most=True)
    ]


def table(figures):
    """A row a module -> columns, rows"""
    return ("import", "ms, median", "least"), [
        (module, f"{1e3 * statistics.median(values):.0f}", f"{1e3 * min(values):.0f}")
        for module, values in figures["seconds"].items()
    ]


def describe(figures):
    """What was measured, in a sentence."""
    return f"Seconds of an import in a fresh process, {figures['turns']} turns."


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = parser(__doc__)
    made.add_argument("--turns", type=count, default=21, metavar="N", help="processes a side (default: 21)")
    args = made.parse_args(argv)
    figures = measure(args.turns)
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, None))
