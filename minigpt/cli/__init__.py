"""The command line: minigpt train | pretrain | generate | fill | translate | gradcheck | eval |
info | explain | tokenize. One file a command; examples/ and benchmarks/ use `guard`.
"""

import argparse

import minigpt
from minigpt.cli import evaluate, explain, fill, generate, gradcheck, info, pretrain, tokenize, train, translate
from minigpt.cli.terminal import PROGRAM, guard

__all__ = ["guard", "main", "parser", "pretrain", "train"]


def main(argv=None):
    """Run the command line on a list of arguments, those of the process unless given -> exit code.

    0 done, 1 diverged or a gradient is wrong, 2 a mistake in the input, 130 stopped with Ctrl-C,
    143 with SIGTERM.
    """
    args = parser().parse_args(argv)
    return guard(args.run, args)


def parser():
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog=PROGRAM, description="Transformers in NumPy, every gradient written by hand.")
    top.add_argument("--version", action="version", version=f"{PROGRAM} {minigpt.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in (train, pretrain, generate, fill, translate, gradcheck, evaluate, info, explain, tokenize):
        command.add_to(commands)
    return top
