"""How many small mistakes in the mathematics would the tests notice? `python -m
benchmarks.mutation_score` plants them one at a time.

Each operator, sign, axis, comparison, constant and slice bound of minigpt/ops, layers and models is
changed in turn, each update dropped, each pair of like arguments swapped
(one such change is a mutant), and the tests that TESTS names are run until the first failure, which
kills the mutant: tests/ops and tests/layers have to do for both of these, tests/models and
tests/layers for the models. One that raises or runs longer than LIMIT is killed as well. A mutant
that no test can tell from the original stands in EQUIVALENT with the reason.

pytest collects the tests once; then each mutant is a fork of that process with one function's code
replaced, the likeliest killers run first. Where the system cannot fork (Windows), each mutant is a
process of its own: the same result, a few times slower.
"""

import argparse
import ast
import contextlib
import copy
import dataclasses
import importlib
import importlib.abc
import inspect
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mutation_equivalents import EQUIVALENT

ROOT = Path(__file__).resolve().parents[1]
# folder of minigpt -> those of tests/
TESTS = {"ops": ("ops", "layers"), "layers": ("ops", "layers"), "models": ("models", "layers")}
# seconds of processor time for one mutant, however busy the machine; all its tests take ten, those
# of the models ninety
LIMIT = 300
LARGEST = 6 << 30  # bytes of addresses that one mutant may have: some wire layers, or draw tokens, without end
# exit status of a mutant whose module does not even import; said aloud, lest a fault of this script
# count as a kill
UNPLANTED = 3
LIKELY = {  # module -> a word of the test files that are its own, where these do not bear its name
    "ops/reductions": "linear",
    "layers/linear": "simple",
    "layers/embedding": "simple",
    "layers/norm": "simple",
    "layers/mlp": "simple",
    "layers/heads": "simple",
    "layers/relative": "simple",
    "ops/gating": "op_contract",
    "models/base": "families",
    "models/causal": "families",
    "models/inputs": "test_gpt.py",
    "models/seq2seq": "t5_generation",
    "models/fast_seq2seq": "t5_generation",
    "models/gpt": "test_gpt.py",
    "models/recipe_gpt": "families",
    "models/encoder": "test_encoders",
    "models/encoder_decoder": "encoder_decoders",
    "models/roberta": "test_bert.py",
}

SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.MatMult: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NEGATED = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
           ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
AT_BORDER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass
class Mutant:
    """One change: `holder` is the list, or the dict of a node's fields, in which `new` takes the
    place of the original, under `key`.
    """

    module: str  # ops/attention
    function: str  # qualified name, "" at module level
    line: int
    text: str  # the statement that holds it, of a compound one the head, without comments and line breaks
    change: str  # original -> mutated
    tree: ast.Module
    holder: object
    key: object
    new: ast.AST
    survived: bool = False

    @property
    def identity(self):
        return self.module, self.function, self.text, self.change

    @property
    def backward(self):
        return self.function.endswith("backward")


def changes(node):
    """The nodes that may stand in place of one node, each wrong in one way."""

    def changed(**fields):
        new = copy.copy(node)
        vars(new).update(fields)
        return new

    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPPED:
            yield changed(op=SWAPPED[type(op)]())
        case ast.AugAssign(op=op):
            yield changed(op=SWAPPED[type(op)]())
            yield ast.copy_location(ast.Assign([node.target], node.value), node)
            yield ast.copy_location(ast.Pass(), node)
        case ast.Assign(targets=[ast.Subscript()]) | ast.Expr(value=ast.Call()):
            yield ast.copy_location(ast.Pass(), node)
        case ast.UnaryOp():
            yield node.operand
        case ast.Compare(ops=[op]):
            yield from (changed(ops=[table[type(op)]()]) for table in (NEGATED, AT_BORDER) if type(op) in table)
        case ast.Constant(value=bool()):
            yield changed(value=not node.value)
        case ast.Constant(value=int() | float()):
            yield changed(value=node.value + 1)
        case ast.Slice():
            yield from (changed(**{end: None}) for end in ("lower", "upper") if getattr(node, end) is not None)
        case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare):
            yield changed(test=ast.copy_location(ast.UnaryOp(ast.Not(), test), test))
        case ast.Call(func=func, args=args) if ast.unparse(func).rpartition(".")[2] != "swapaxes":  # which is symmetric
            for i, (a, b) in enumerate(itertools.pairwise(args)):
                if type(a) is type(b) and not isinstance(a, ast.Starred) and ast.unparse(a) != ast.unparse(b):
                    yield changed(args=[*args[:i], b, a, *args[i + 2 :]])


def short(node):
    """A node as one line of code; of an `if`, its condition."""
    return "dropped" if isinstance(node, ast.Pass) else ast.unparse(node).partition("\n")[0]


def head(node):
    """A statement as one line of code, without its decorators and its body."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        node = copy.copy(node)
        node.decorator_list = []
    return ast.unparse(node).partition("\n")[0]


def modules_of(folder):
    """ops -> ops/activations, ops/attend, ..."""
    return [
        f"{folder}/{path.stem}" for path in sorted((ROOT / "minigpt" / folder).glob("*.py")) if path.stem != "__init__"
    ]


def mutants_of(module):
    """All the mutants of one module, in the order of its lines; annotations and error messages are
    left alone.
    """
    tree, found = ast.parse((ROOT / f"minigpt/{module}.py").read_text(encoding="utf-8")), []
    seen, sizes = Counter(), set()

    def visit(node, function, text):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns") or isinstance(node, ast.Raise):
                continue
            children = (
                [(value, i, child) for i, child in enumerate(value)]
                if isinstance(value, list)
                else [(vars(node), field, value)]
            )
            for holder, key, child in children:
                if not isinstance(child, ast.AST):
                    continue
                if (
                    isinstance(child, ast.Call)
                    and isinstance(child.func, ast.Attribute)
                    and child.func.attr == "reshape"
                ):
                    # to reshape, -2 is -1
                    sizes.update(id(a.operand) for a in child.args if isinstance(a, ast.UnaryOp))
                if isinstance(child, ast.stmt) or field == "decorator_list":
                    text = head(child)
                for new in changes(child) if id(child) not in sizes else ():
                    change = f"{short(child)} -> {short(new)}"
                    seen[function, text, change] += 1
                    if (times := seen[function, text, change]) > 1:
                        change += f" ({times})"
                    found.append(
                        Mutant(module, function, getattr(child, "lineno", 0), text, change, tree, holder, key, new)
                    )
                visit(child, function, text)

    visit(tree, "", "")
    return sorted(found, key=lambda m: m.line)


class TreeLoader(importlib.abc.InspectLoader):
    """Imports a module from a syntax tree."""

    def __init__(self, tree):
        self.tree = tree

    def get_source(self, fullname):
        return None

    def get_code(self, fullname):
        return compile(self.tree, fullname, "exec")


def plant(mutant):
    """Put the mutant into the live module. The code of the function itself is replaced, hence every
    `from x import f` sees it too.
    """
    mutant.holder[mutant.key] = mutant.new
    name = "minigpt." + mutant.module.replace("/", ".")
    live, mutated = importlib.import_module(name), types.ModuleType(name)
    TreeLoader(ast.fix_missing_locations(mutant.tree)).exec_module(mutated)
    if not mutant.function:  # a constant of the module
        for constant in filter(str.isupper, vars(mutated)):
            setattr(live, constant, getattr(mutated, constant))
        return
    for part in mutant.function.split("."):
        if not isinstance(inspect.unwrap(live), types.FunctionType):  # else what follows is a function inside it
            live, mutated = vars(live)[part], vars(mutated)[part]
    if isinstance(live, type):
        for name, value in vars(mutated).items():  # a constant of a class
            if isinstance(value, int | float | str | tuple | dict) and not name.startswith("__"):
                setattr(live, name, value)
        maker = "__init__" if dataclasses.is_dataclass(live) else "__new__"  # the default of a field
        live, mutated = getattr(live, maker), getattr(mutated, maker)
        if not isinstance(live, types.FunctionType):
            return
    # of a property, of a classmethod
    live, mutated = (getattr(f, "fget", None) or getattr(f, "__func__", f) for f in (live, mutated))
    # of a cache, which is empty: no test has run in this process
    live, mutated = inspect.unwrap(live), inspect.unwrap(mutated)
    live.__defaults__, live.__kwdefaults__ = mutated.__defaults__, mutated.__kwdefaults__
    live.__code__ = mutated.__code__


class Runner:
    """A pytest plugin that, in place of running the collected tests once, runs them on each mutant
    in a child process.
    """

    def __init__(self, mutants, jobs, report):
        self.mutants, self.jobs, self.report = mutants, jobs, report

    def pytest_runtestloop(self, session):
        if session.testsfailed:
            raise SystemExit("the tests could not be collected")
        if len(self.mutants) == 1 and self.jobs == 0:  # --mutant: this process is the child
            os._exit(self.child(session, self.mutants[0]))
        running = {}
        for mutant in (None, *self.mutants):
            if pid := os.fork():
                running[pid] = mutant
            else:
                os._exit(self.child(session, mutant))
            while len(running) >= (self.jobs if mutant else 1):
                self.reap(running)
        while running:
            self.reap(running)
        return True

    def reap(self, running):
        pid, status = os.wait()
        mutant = running.pop(pid)
        if mutant is None and status:
            raise SystemExit("the tests fail without any mutation: nothing can be measured")
        if mutant:
            mutant.survived = status == 0
            if os.waitstatus_to_exitcode(status) == UNPLANTED:
                print(
                    f"raises on import, counted as killed: minigpt/{mutant.module}.py:{mutant.line}  [{mutant.change}]",
                    flush=True,
                )
            self.report(mutant)

    def child(self, session, mutant):
        """Plant, run the tests until one fails. -> exit status, 0 where the mutant survives."""
        from _pytest.runner import runtestprotocol

        quiet = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        try:
            if hasattr(signal, "setitimer"):
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_PROF, LIMIT)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(10 * LIMIT)  # of one that sleeps
            with contextlib.suppress(ImportError):  # of one that wires layers without end; Windows has no such limit
                import resource

                resource.setrlimit(resource.RLIMIT_AS, (LARGEST, LARGEST))
            try:
                if mutant:
                    plant(mutant)
            except BaseException:
                return UNPLANTED
            items = likeliest_first(session.items, mutant) if mutant else session.items
            return int(any(r.failed for item in items for r in runtestprotocol(item, log=False, nextitem=None)))
        except BaseException:  # SystemExit, MemoryError
            return 1


def likeliest_first(items, mutant):
    """The tests that have to kill a mutant, those of the module's own file first, then those of its
    folder; within a file, each test once before its further parameters."""
    folder, stem = mutant.module.split("/")
    items = [item for item in items if item.path.parent.name in TESTS[folder]]
    name = LIKELY.get(mutant.module, stem)
    nth, keyed = Counter(), []
    for item in items:
        nth[item.path, item.originalname] += 1
        far = (item.path.parent.name != folder) + (name not in item.path.name)
        keyed.append((far, nth[item.path, item.originalname], len(keyed), item))
    return [item for *_, item in sorted(keyed, key=lambda k: k[:3])]


def run_tests(runner):
    """pytest over the folders of tests that the mutants need, with the runner in charge; without
    slow tests and those that need PyTorch.
    """
    import pytest

    os.chdir(ROOT)
    folders = sorted({f"tests/{folder}" for mutant in runner.mutants for folder in TESTS[mutant.module.split("/")[0]]})
    options = [
        "-m",
        "not slow and not parity",
        "-s",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-p",
        "no:terminal",
    ]
    code = pytest.main([*folders, *options], plugins=[runner])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"pytest gave up: {code!r}")


def print_results(mutants, seconds, backward_only=False):
    """Killed and survived a function, the survivors' lines, the totals."""
    by_function = defaultdict(list)
    for m in mutants:
        by_function[f"{m.module}:{m.function or '(constants)'}"].append(m)
    print(f"\n{'function':58}{'mutants':>8}{'killed':>8}{'equivalent':>12}{'survived':>10}")
    for name, group in by_function.items():
        print(f"{name:58}" + "{:8}{:8}{:12}{:10}".format(*counts(group)))
    for m in mutants:
        if m.survived:
            reason = EQUIVALENT.get(m.identity)
            print(
                f"{'equivalent' if reason else 'SURVIVED'}  minigpt/{m.module}.py:{m.line}  "
                f"{m.function}  [{m.change}]  {m.text}"
            )
            if reason:
                print(f"            {reason}")
    known = {m.identity: m for m in mutants}
    modules = {m.module for m in mutants}
    meant = [e for e in EQUIVALENT if e[0] in modules and (e[1].endswith("backward") or not backward_only)]
    stale = [e for e in meant if e not in known or not known[e].survived]
    for entry in stale:
        print(f"STALE entry of EQUIVALENT, its line is {'killed' if entry in known else 'gone'}: {entry}")
    print()
    for title, group in (
        ("backward", [m for m in mutants if m.backward]),
        ("others", [m for m in mutants if not m.backward]),
        ("all", mutants),
    ):
        total, killed, equivalent, survived = counts(group)
        score = 100 * killed / max(1, total - equivalent)
        print(
            f"{title:10}{total:6} mutants, {killed:6} killed, {equivalent:4} equivalent, "
            f"{survived:4} survived: {score:6.2f}% of those that differ"
        )
        print(f"{'':10}({100 * killed / max(1, total):.2f}% of all, equivalents counted as survivors)")
    print(f"{seconds:.0f} s")
    return not stale


def counts(group):
    """mutants, killed, survived and equivalent, survived."""
    survived = [m for m in group if m.survived]
    equivalent = sum(m.identity in EQUIVALENT for m in survived)
    return len(group), len(group) - len(survived), equivalent, len(survived) - equivalent


def main():
    # forks share no BLAS threads
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    parser = argparse.ArgumentParser(description="Mutation score of the gradient tests.")
    parser.add_argument("--module", action="append", help="only this module, such as ops/attention; may be repeated")
    parser.add_argument(
        "--folder", action="append", choices=TESTS, help="only the modules of this folder; may be repeated"
    )
    parser.add_argument(
        "--backward-only", action="store_true", help="only functions and methods whose name ends in backward"
    )
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--json", type=Path, help="write the mutants and their fates to this file")
    parser.add_argument("--mutant", type=int, help="run only the mutant of this number; exit status 0 if it survives")
    args = parser.parse_args()
    modules = args.module or [module for folder in args.folder or TESTS for module in modules_of(folder)]
    mutants = [m for module in modules for m in mutants_of(module) if m.backward or not args.backward_only]
    if args.mutant is not None:
        run_tests(Runner([mutants[args.mutant]], 0, None))
    start, done = time.perf_counter(), []

    def report(mutant):
        done.append(mutant)
        if mutant.survived and mutant.identity not in EQUIVALENT:
            print(
                f"SURVIVED  minigpt/{mutant.module}.py:{mutant.line}  {mutant.function}  [{mutant.change}]", flush=True
            )
        if len(done) % 50 == 0:
            print(f"{len(done)} of {len(mutants)}, {time.perf_counter() - start:.0f} s", flush=True)

    if hasattr(os, "fork"):
        run_tests(Runner(mutants, args.jobs, report))
    else:
        for i, mutant in enumerate(mutants):
            selection = [x for module in modules for x in ("--module", module)] + [
                "--backward-only"
            ] * args.backward_only
            command = [sys.executable, "-m", "benchmarks.mutation_score", *selection, "--mutant", str(i)]
            try:
                done_alone = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=10 * LIMIT)
                mutant.survived = done_alone.returncode == 0
            except subprocess.TimeoutExpired:
                mutant.survived = False
            report(mutant)
    fine = print_results(mutants, time.perf_counter() - start, args.backward_only)
    if args.json:
        fields = ("module", "function", "line", "text", "change", "survived")
        args.json.write_text(
            json.dumps([{f: getattr(m, f) for f in fields} for m in mutants], indent=1), encoding="utf-8"
        )
    return 0 if fine and not any(m.survived and m.identity not in EQUIVALENT for m in mutants if m.backward) else 1


if __name__ == "__main__":
    sys.exit(main())
