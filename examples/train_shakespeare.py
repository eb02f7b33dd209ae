"""Train a small GPT on tiny Shakespeare and print what it writes:
a few minutes on two cores, no GPU.

    python examples/train_shakespeare.py
    python examples/train_shakespeare.py --preset nanogpt-cpu --out runs/nanogpt
    python examples/train_shakespeare.py --help

The steps stand in `minigpt/cli/train.py`: fetch the text, make a tokenizer and a model, run a
Trainer, print a sample. The same options train on a text of your own: `minigpt train --data FILE
--out DIR`. notebooks/ takes the model apart.
"""

import argparse
import sys

from minigpt import cli


def main(argv=None):
    """Train, with defaults that need no options -> exit code."""
    parser = argparse.ArgumentParser(description="Train a GPT on tiny Shakespeare.")
    cli.train.add_options(parser, out="runs/shakespeare")
    return cli.guard(cli.train.run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
