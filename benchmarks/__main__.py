"""Run all benchmarks, each as a process of its own,
and write benchmarks/RESULTS.md with charts from their figures.

    python -m benchmarks                             everything, an hour and a half
    python -m benchmarks --only step-small memory    some of them; the others' figures stay
    python -m benchmarks --quick --folder /tmp/b     a smoke run, whose figures mean nothing
    python -m benchmarks --report-only               RESULTS.md anew from benchmarks/results/

A benchmark is a module with `main(argv)`, which writes JSON, and for the report
`describe(figures)`, `table(figures)`, `targets(figures)` and `draw(figures)`, as far as it has
them. No figure of RESULTS.md is written by hand.

Where OpenBLAS has AVX-512 kernels for the processor, steps and times to a loss are measured once
more with it held to AVX2: matrix products as most laptops make them. Element-wise loops, and all of
PyTorch, stay as they are.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from threadpoolctl import threadpool_info

from benchmarks.common import HEAD, markdown
from minigpt.errors import MinigptError
from minigpt.machine import describe_settings, thread_settings

FOLDER = Path(__file__).parent
AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")  # OpenBLAS's names of kernels


class Run(NamedTuple):
    """One benchmark, as a line of the report."""

    title: str
    module: str
    options: list
    smoke: list  # options of a smoke run
    avx2: bool = False  # OpenBLAS held to AVX2

    @property
    def environment(self):
        """What the process has in its environment."""
        return os.environ | ({"OPENBLAS_CORETYPE": "Haswell"} if self.avx2 else {})


RUNS = {
    "step-small": Run("A training step, small", "bench_step", ["--size", "small"], ["--turns", "2", "--no-compile"]),
    "step-middle": Run("A training step, middle", "bench_step", ["--size", "middle"], ["--turns", "1", "--no-compile"]),
    "step-gpt2": Run("A training step, GPT-2 124M", "bench_step", ["--size", "gpt2"], ["--turns", "1", "--no-compile"]),
    "time-to-loss": Run(
        "Time to a loss, tiny Shakespeare", "bench_time_to_loss", ["--turns", "3"], ["--steps", "20", "--turns", "1"]
    ),
    "time-to-best": Run("Ten minutes", "bench_time_to_loss", ["--best", "--no-short", "--presets"], ["--steps", "20"]),
    "generate-small": Run("Decoding, small", "bench_generate", ["--size", "small"], ["--turns", "1"]),
    "generate-gpt2": Run("Decoding, GPT-2 124M", "bench_generate", ["--size", "gpt2"], ["--turns", "1"]),
    "beams-t5": Run("Beam search, T5", "bench_beams", ["--size", "small"], ["--size", "tiny", "--turns", "1"]),
    "beams-t5-small": Run(
        "Beam search, T5 of t5-small's shape", "bench_beams", ["--size", "t5-small"], ["--size", "tiny", "--turns", "1"]
    ),
    "beams-gpt": Run("Beam search, GPT", "bench_beams", ["--size", "gpt"], ["--size", "tiny", "--turns", "1"]),
    "memory": Run("Memory", "bench_memory", [], ["--size", "small", "--turns", "1", "--steps", "1"]),
    "import": Run("Import", "bench_import", [], ["--turns", "2"]),
    "load": Run(
        "Reading 124M parameters", "bench_load", [], ["--turns", "1", "--size", "gpt2-tiny", "bert-tiny", "t5-tiny"]
    ),
    "tokenizers": Run("Tokenizers", "bench_tokenizers", [], ["--turns", "1", "--quick"]),
    "unigram": Run("Training of Unigram", "bench_unigram", [], ["--turns", "1", "--sizes", "1000"]),
    "recipe": Run("One change to the recipe", "recipe", [], ["--steps", "3", "--seeds", "0"]),
    "recipe-long": Run(
        "One change to the recipe, long runs",
        "recipe",
        ["--long", "--seeds", "1"],
        ["--steps", "3", "--only", "base", "no smear"],
    ),
    "bert": Run("A training step of BERT", "bench_bert", ["--part", "train"], ["--size", "tiny", "--turns", "1"]),
    "embed": Run("Sentences as vectors", "bench_bert", ["--part", "embed"], ["--size", "tiny", "--turns", "1"]),
    "t5": Run("A training step of T5", "bench_t5", [], ["--size", "tiny", "--turns", "1"]),
    "ops": Run("Op by op", "bench_ops", [], ["--quick", "--turns", "2"]),
    "scale": Run("Scale", "bench_scale", [], ["--turns", "1", "--largest", "256", "--no-memory"]),
}
RUNS |= {
    f"{name}-avx2": RUNS[name]._replace(title=f"{RUNS[name].title}, OpenBLAS held to AVX2", avx2=True)
    for name in ("step-small", "step-middle", "step-gpt2", "bert", "t5", "time-to-loss")
}
WITH_DATA = ("bench_time_to_loss", "recipe")


def module_of(name):
    """The module of a benchmark, None where there is none."""
    try:
        return importlib.import_module(f"benchmarks.{RUNS[name].module}")
    except ModuleNotFoundError as error:
        if error.name != f"benchmarks.{RUNS[name].module}":
            raise
        return None


def has_avx512():
    """Whether this process's OpenBLAS runs AVX-512 kernels,
    so that runs held to AVX2 say something new.
    """
    return any(library.get("architecture") in AVX512 for library in threadpool_info())


def targets_of(name, figures):
    """The targets of a benchmark's figures; those of a run held to AVX2 say so -> list of Target"""
    module = module_of(name)
    found = module.targets(figures) if hasattr(module, "targets") else []
    return [target._replace(what=f"{target.what}, AVX2") for target in found] if RUNS[name].avx2 else found


def run(name, results, quick=False, data=None):
    """Run one benchmark into results/NAME.json -> whether it succeeded"""
    chosen = RUNS[name]
    command = [sys.executable, "-m", f"benchmarks.{chosen.module}", *chosen.options, *(chosen.smoke if quick else ())]
    command += ["--json", str(results / f"{name}.json")]
    if data is not None and chosen.module in WITH_DATA:
        command += ["--data", data]
    print(f"\n== {name}: {' '.join(command[1:])}", flush=True)
    code = subprocess.run(command, env=chosen.environment).returncode
    if code:
        print(f"{name} failed with exit code {code}", file=sys.stderr)
    return code == 0


def read_results(results):
    """All figures in the folder -> name -> figures, in the order of RUNS.
    MinigptError for a file that is no JSON.
    """
    found = {}
    for name in RUNS:
        path = results / f"{name}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise MinigptError(f"{path}: {error}") from None
    return found


def report(found, charts=None):
    """RESULTS.md as text. found: name -> figures; charts: name -> file name of its picture."""
    parts = [
        "# Results",
        "",
        "Made by `python -m benchmarks` from the figures in `benchmarks/results/`; `--report-only` makes it anew.",
        "",
    ]
    parts += machine_section(found)
    rows, sections = [], []
    for name, figures in found.items():
        title, module, targets = RUNS[name].title, module_of(name), targets_of(name, figures)
        rows += [target.cells() for target in targets]
        sections += ["", f"## {title}", "", f"`{figures['command']}`" if "command" in figures else "", ""]
        if hasattr(module, "describe"):
            sections += [module.describe(figures), ""]
        if targets:
            sections += [markdown(HEAD, [target.cells() for target in targets]), ""]
        columns, cells = module.table(figures) if hasattr(module, "table") else plain_table(figures)
        if cells:
            sections += [markdown(columns, cells), ""]
        if charts and name in charts:
            sections += [f"![{title}]({charts[name]})", ""]
    if rows:
        parts += ["", "## Targets", "", markdown(HEAD, rows), ""]
    lines = "\n".join(parts + sections).split("\n")
    kept = [line for line, before in zip(lines, ["", *lines]) if line or before]  # no two empty lines in a row
    return "\n".join(kept).strip() + "\n"


def machine_section(found):
    """What the figures were measured on, a column for each different machine or setting."""
    groups = {}
    for name, figures in found.items():
        groups.setdefault(json.dumps(figures.get("machine", {}), sort_keys=True), []).append(name)
    parts = ["## Machine", ""]
    for text, names in groups.items():
        machine = json.loads(text)
        settings = machine.get("environment", {})
        # that of the ops is of one thread
        rates = [found[name]["gemm_gflops"] for name in names if "gemm_gflops" in found[name] and name != "ops"]
        rows = [
            ("processor", f"{machine.get('processor', '?')}, {machine.get('cores', '?')} cores"),
            ("system", machine.get("system", "?")),
            ("versions", ", ".join(f"{package} {version}" for package, version in machine.get("versions", {}).items())),
            ("BLAS and its kernels", ", ".join(machine.get("blas", []))),
            ("environment", ", ".join(f"{key}={value}" for key, value in settings.items()) or "nothing set"),
        ]
        if rates:
            low, high = f"{min(rates):.0f}", f"{max(rates):.0f}"
            spread = low if low == high else f"{low} to {high}"
            rows.append(("GEMM, 2048-cube, float32, all cores", f"{spread} GFLOP/s, measured in each run"))
        if len(groups) > 1:
            parts += [f"{', '.join(names)}:", ""]
        parts += [markdown(("what", "is"), rows), ""]
    return parts


def plain_table(figures):
    """The numbers and words of a benchmark that has no table of its own -> columns, rows"""
    rows = []
    for key, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        rows.append((key, f"{value:.4g}" if isinstance(value, float) else value))
    return ("what", "figure"), rows


def draw(found, folder):
    """Draw all pictures -> name -> file name, relative to the folder"""
    from minigpt import plots

    charts = {}
    for name, figures in found.items():
        module = module_of(name)
        figure = module.draw(figures) if hasattr(module, "draw") else None
        if figure is not None:
            charts[name] = f"results/{name}.png"
            plots.save(figure, folder / charts[name])
    return charts


def overview(found):
    """How far each target is kept, as bars:
    the figure over its limit, turned so that 1 and above is kept. -> Figure, None without targets
    """
    from minigpt import plots

    all_targets = []
    for name, figures in found.items():
        all_targets += [target for target in targets_of(name, figures) if target.limit is not None]
    if not all_targets:
        return None
    all_targets.reverse()
    # a loss never reached is 0
    values = [max(1 / 16, t.limit / t.figure if t.most else t.figure / t.limit) for t in all_targets]
    figure, ax = plots.subplots(width=8.5, height=0.32 * len(values) + 1)
    ax.barh(
        range(len(values)),
        values,
        color=[plots.COLOURS[0] if t.met else plots.COLOURS[1] for t in all_targets],
        height=0.6,
    )
    ax.axvline(1, color=plots.INK, linewidth=1)
    ax.set_yticks(range(len(values)), [t.what for t in all_targets], fontsize=7.5)
    for i, target in enumerate(all_targets):
        ax.text(values[i], i, f" {target.form.format(target.figure)}", va="center", fontsize=7.5, color=plots.INK)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlim(min(0.5, *values) / 1.2, max(2.0, *values) * 1.6)
    plots.annotate(ax, "Figures against their targets", "times its target (1 and above: met)")
    return figure


def write_report(folder):
    """RESULTS.md and charts from folder/results/*.json
    -> path of RESULTS.md. MinigptError where there are no figures.
    """
    from minigpt import plots

    found = read_results(folder / "results")
    if not found:
        raise MinigptError(f"{folder / 'results'}: no figures there, run python -m benchmarks first")
    text = report(found, draw(found, folder))
    if (figure := overview(found)) is not None:
        plots.save(figure, folder / "results.png")
        text = text.replace("\n## Targets\n", "\n## Targets\n\n![Figures against their targets](results.png)\n", 1)
    path = folder / "RESULTS.md"
    path.write_text(text, encoding="utf-8")
    return path


def main(argv=None):
    """Run what was asked for and write the report
    -> exit code, 1 where a benchmark failed, 2 for a mistake in the input.
    """
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n\n")[0])
    made.add_argument(
        "--only", nargs="+", choices=tuple(RUNS), metavar="NAME", help=f"of {', '.join(RUNS)} (default: all)"
    )
    made.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run, whose figures mean nothing; needs --folder (default: the whole)",
    )
    made.add_argument(
        "--report-only", action="store_true", help="measure nothing, write RESULTS.md from the figures that are there"
    )
    made.add_argument("--data", metavar="FILE", help="UTF-8 text to train on (default: tiny Shakespeare)")
    made.add_argument(
        "--folder",
        metavar="DIR",
        default=str(FOLDER),
        help="where RESULTS.md and results/ stand (default: benchmarks/)",
    )
    args = made.parse_args(argv)
    folder = Path(args.folder)
    if args.quick and folder.resolve() == FOLDER.resolve():
        made.error("--quick: its figures mean nothing, name a folder for them with --folder")
    if args.report_only and (args.only or args.quick):
        made.error("--report-only measures nothing, it goes neither with --only nor with --quick")
    failed = []
    if (limits := thread_settings()) and not (args.quick or args.report_only):
        print(
            f"benchmarks: {describe_settings(limits)} in the environment; "
            "figures are of all cores on both sides, unset it",
            file=sys.stderr,
        )
        return 2
    if not args.report_only:
        (folder / "results").mkdir(parents=True, exist_ok=True)
        for name in args.only or [name for name, run in RUNS.items() if not run.avx2 or has_avx512()]:
            if module_of(name) is None:
                print(f"{name}: there is no benchmarks/{RUNS[name][1]}.py", file=sys.stderr)
            elif not run(name, folder / "results", args.quick, args.data):
                failed.append(name)
    try:
        print(f"\nwritten: {write_report(folder)}")
    except MinigptError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
