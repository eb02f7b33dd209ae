"""Reading a Hugging Face folder of 124M parameters, against `transformers`:
each side in processes of its own, in turn, with the file in the page cache.

    python -m benchmarks.bench_load --size bert

GPT-2's matrices lie in the file as they do in memory, BERT's and T5's are turned. Both sides read
one folder, which is made first. A process imports its side and reads the model twice, the second
time with all loaded that is loaded when it is first needed. from_pretrained maps the file and
copies nothing: its numbers are read when they are first used, which is told apart. Ours are then in
memory, turned, and known to be finite.

Before it reads, a process takes and gives back as much memory as a model: where a virtual machine
gets fresh memory from its host, the first touch of it took 1.4 to 3.4 s here for 500 MB, and 0.13 s
after that.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZES = ("gpt2", "bert", "t5")
CLASSES = {"gpt2": "GPT2LMHeadModel", "bert": "BertForMaskedLM", "t5": "T5ForConditionalGeneration"}
MEMORY_LIMIT = 1.3  # times the bytes of the parameters in float32


def make_folder(size, folder):
    """Write a model of some 124M parameters, or a tiny one for a smoke run
    -> how many parameters it has.
    """
    import minigpt

    name, tiny = size.removesuffix("-tiny"), size.endswith("-tiny")
    if name == "gpt2":
        config = minigpt.GPTConfig(97, 32, 2, 2, 32) if tiny else minigpt.GPTConfig(50257, 1024, 12, 12, 768)
        model = minigpt.GPT(config)
    elif name == "t5":
        sizes = (97, 32, 16, 64, 2, 2, 2) if tiny else (32128, 768, 64, 3072, 6, 6, 12)
        model = minigpt.T5(minigpt.T5Config(*sizes))
    else:
        sizes = (97, 32, 32, 2, 2) if tiny else (30522, 512, 768, 14, 12)
        model = minigpt.BERT(minigpt.BERTConfig(*sizes, head="masked_lm"))
    minigpt.to_huggingface(model, folder)
    return model.num_parameters


def anonymous():
    """Bytes of this process that stand in no file. RuntimeError where the system does not say."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
    except (OSError, StopIteration):
        raise RuntimeError("this system does not say how much anonymous memory a process has") from None


class Watch:
    """The most anonymous memory while it is open, asked every half a millisecond."""

    def __enter__(self):
        self.most, self.running = anonymous(), True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        """Ask until told to stop."""
        while self.running:
            self.most = max(self.most, anonymous())
            time.sleep(0.0005)

    def __exit__(self, *error):
        self.running = False
        self.thread.join()
        self.most = max(self.most, anonymous())


def reader(side, size):
    """Import one side -> a function from a folder to its model, one that uses all its numbers."""
    name = size.removesuffix("-tiny")
    if side == "minigpt":
        import safetensors  # noqa: F401 as `import transformers` does

        import minigpt.hub.bert
        import minigpt.hub.gpt2
        import minigpt.hub.t5

        return minigpt.from_huggingface, lambda model: model.store.vector.sum()
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    family = getattr(transformers, CLASSES[name])

    def use(model):
        with torch.no_grad():
            return sum(float(parameter.sum()) for parameter in model.parameters())

    return family.from_pretrained, use


def take_and_give_back(numbers):
    """Have the system hold as much memory as a model takes, and half as much again."""
    import numpy as np

    np.ones(3 * numbers // 2, np.float32)


def child(side, size, folder, what, numbers):
    """In a process of its own: read a model -> seconds, or bytes of anonymous memory"""
    read, use = reader(side, size)
    if what == "memory":
        before = anonymous()
        with Watch() as watch:
            model = read(folder)
        return {"peak": watch.most - before, "kept": anonymous() - before, "model": type(model).__name__}
    found = {}
    for which in ("first", "again"):
        take_and_give_back(numbers)
        start = time.perf_counter()
        model = read(folder)
        found[which] = time.perf_counter() - start
        use(model)
        found[f"{which} and used"] = time.perf_counter() - start
        del model
    return found


def run_child(*arguments):
    """child in a fresh process -> its dict.
    MinigptError with the last line of its errors where it fails.
    """
    command = [sys.executable, "-m", "benchmarks.bench_load", "--child", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        from minigpt.errors import MinigptError

        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MinigptError(f"{', '.join(arguments[:2])}: {why[0]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(sizes, turns):
    """Make each folder and have the sides read it in turn -> figures"""
    from benchmarks.common import without_torch

    sides = ["minigpt"] if without_torch() else ["minigpt", "transformers"]
    figures = {"turns": turns, "sizes": {}}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            numbers = make_folder(size, folder)
            found = {"parameters": numbers, "seconds": {side: [] for side in sides}, "memory": {}}
            for _ in range(turns):
                for side in sides:
                    for path in Path(folder).iterdir():
                        path.read_bytes()  # into the page cache, if it has left
                    found["seconds"][side].append(run_child(side, size, folder, "time", numbers))
            for side in sides:
                found["memory"][side] = run_child(side, size, folder, "memory", numbers)
            figures["sizes"][size] = found
    return figures


def seconds_of(found, side, which):
    """Seconds by turn."""
    return [turn[which] for turn in found["seconds"][side]]


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    from benchmarks.common import Target, ratio

    made = []
    for size, found in figures["sizes"].items():
        if "transformers" in found["seconds"]:
            for which, limit in (("first", 1.0), ("again", None), ("first and used", None)):  # of a process
                sides = (seconds_of(found, side, which) for side in ("minigpt", "transformers"))
                what = f"reading {size}, {which}: times as fast as from_pretrained"
                made.append(Target(what, ratio(*sides).median, limit))
        share = found["memory"]["minigpt"]["peak"] / (4 * found["parameters"])
        limit = None if size.endswith("-tiny") else MEMORY_LIMIT
        made.append(Target(f"reading {size}: anonymous memory, of its float32 bytes", share, limit, most=True))
    return made


def table(figures):
    """A row a size and side -> columns, rows"""
    rows = []
    for size, found in figures["sizes"].items():
        for side, memory in found["memory"].items():
            medians = [
                statistics.median(seconds_of(found, side, which)) for which in ("first", "again", "first and used")
            ]
            rows.append((size, side, *(f"{1e3 * s:,.0f}" for s in medians), f"{memory['peak'] / 1e6:,.0f}"))
    return ("model", "side", "first, ms", "again, ms", "first and all numbers used, ms", "anonymous, MB"), rows


def describe(figures):
    """What was measured, in a sentence."""
    sizes = ", ".join(f"{size} {found['parameters'] / 1e6:.1f}M" for size, found in figures["sizes"].items())
    return (
        f"A folder read in a fresh process, the file in the page cache; medians of {figures['turns']} turns ({sizes} "
        "parameters). transformers maps the file and copies nothing before its numbers are used."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--child"]:  # before anything else is imported
        print(json.dumps(child(*json.loads(argv[1]))))
        return 0
    from benchmarks.common import count, parser
    from minigpt.cli import guard

    made = parser(__doc__)
    made.add_argument(
        "--size",
        choices=(*SIZES, *(f"{size}-tiny" for size in SIZES)),
        nargs="+",
        default=list(SIZES),
        help=f"models (default: {' '.join(SIZES)}; -tiny: for a smoke run)",
    )
    made.add_argument("--turns", type=count, default=9, metavar="N", help="processes a side (default: 9)")
    return guard(run, made.parse_args(argv))


def run(args):
    """From parsed arguments to printed and written figures."""
    from benchmarks.common import show, write_json

    figures = measure(args.size, args.turns)
    print(describe(figures))
    show(targets(figures), table(figures))
    write_json(args.json, figures)


if __name__ == "__main__":
    sys.exit(main())
