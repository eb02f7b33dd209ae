"""Pre-train a small BERT, RoBERTa or T5 on tiny Shakespeare, its tokenizer included, and see what
it puts in place of hidden words or spans: under three minutes on two cores, no GPU.

    python examples/pretrain.py --family bert
    python examples/pretrain.py --family roberta --out runs/roberta
    python examples/pretrain.py --family t5 --out runs/t5
    python examples/pretrain.py --help

The steps stand in `minigpt/cli/pretrain.py`: fetch the text, train a tokenizer on all but the last
tenth of each play, make a model and an objective, run a Trainer, compare with predictors that know
no context. The same options train on texts of your own: `minigpt pretrain --data FILE ... --out
DIR`; and `minigpt fill --model DIR "To be or not to [MASK]"` asks the model, or a T5 `minigpt fill
--model DIR "To be or ___ be"`.
"""

import argparse
import sys

from minigpt import cli


def main(argv=None):
    """Pre-train, with defaults that need no options -> exit code."""
    parser = argparse.ArgumentParser(description="Pre-train a BERT, a RoBERTa or a T5 on tiny Shakespeare.")
    cli.pretrain.add_options(parser, out="runs/pretrain")
    return cli.guard(cli.pretrain.run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
