"""Sides of a comparison, each in a process of its own, which stays while they take turns: threads,
allocators and what is compiled do not disturb the others.

A benchmark's module runs as the process of a side when its first argument is CHILD:

    if argv[:1] == [CHILD]:
        serve(functions(*argv[1:]))
"""

import contextlib
import json
import statistics
import subprocess
import sys
import time

from benchmarks import common
from minigpt.errors import MinigptError

CHILD = "--child"


def serve(functions):
    """A side's process: for each line of JSON on its input, {kind, calls}, a line with the seconds
    of a call, or what went wrong. functions: kind -> what is timed.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        function, calls = functions[asked["kind"]], asked["calls"]
        try:
            seconds = common.timed(lambda: [function() for _ in range(calls)]) / calls  # noqa: B023
        except Exception as error:  # torch.compile without a compiler, most often
            seconds = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        print(json.dumps(seconds), flush=True)


class Side:
    """A side in a process of its own."""

    def __init__(self, module, side, *arguments):
        """module: its name, such as "bench_bert"; arguments: of its process, after CHILD."""
        command = [sys.executable, "-m", f"benchmarks.{module}", CHILD, *arguments]
        self.side = side
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, kind, calls=1):
        """What a call of a kind takes. MinigptError where it fails, or the process has ended."""
        with contextlib.suppress(BrokenPipeError):  # the answer is missing as well
            print(json.dumps({"kind": kind, "calls": calls}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise MinigptError(f"the process of {self.side} ended with code {self.process.wait()}")
        answer = json.loads(answer)
        if isinstance(answer, str):
            raise MinigptError(f"{self.side}: {answer}")
        return answer

    def end(self):
        """End the process."""
        with contextlib.suppress(BrokenPipeError), self.process:  # closes its pipes and waits for it
            pass


@contextlib.contextmanager
def running(module, arguments):
    """The sides of a module, ended whatever happens. arguments: name of a side -> those of its
    process.
    """
    sides = {name: Side(module, name, *more) for name, more in arguments.items()}
    try:
        yield sides
    finally:
        for side in sides.values():
            side.end()


def take_turns(sides, kind, turns, calls):
    """Seconds of each side, turn by turn, and the GEMM rate before each turn. A turn begins with a
    call that is not timed. A side that fails in its warm-up is left out, with a line that says why.
    """
    taking_part = {}
    for name, side in sides.items():
        try:
            side.seconds(kind, 2)
            taking_part[name] = side
        except MinigptError as error:
            if name == "minigpt":
                raise
            print(f"{kind}: {error}")
    seconds, rates = {name: [] for name in taking_part}, []
    for _ in range(turns):
        rates.append(common.gemm_rate())
        for name, side in taking_part.items():
            time.sleep(common.PAUSE)
            side.seconds(kind)
            seconds[name].append(side.seconds(kind, calls))
    return {"seconds": seconds, "rates": rates}


def faster(row):
    """The other side that is faster in a row of take_turns, None where there is none."""
    others = {name: statistics.median(seconds) for name, seconds in row["seconds"].items() if name != "minigpt"}
    return min(others, key=others.get) if others else None


def times_as_fast(row, name):
    """Ours against theirs, turn by turn -> Ratio"""
    return common.ratio(row["seconds"]["minigpt"], row["seconds"][name])
