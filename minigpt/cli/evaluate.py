"""minigpt eval: the mean loss of a model on a text."""

import numpy as np

from minigpt.cli.options import add_model_option, check_causal, load_with_tokenizer
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError, one_line
from minigpt.machine import keep_freed_memory
from minigpt.objectives import NextToken
from minigpt.training import Workers
from minigpt.training.measures import measure


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "eval", help="loss of a model on a text", description="Mean loss of a model over consecutive windows of a text."
    )
    add_model_option(command)
    command.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare)")
    command.add_argument(
        "--split",
        choices=("validation", "train", "all"),
        default="validation",
        help="part of the text (default: validation)",
    )
    command.add_argument("--batch-size", type=int, default=16, metavar="N", help="windows at a time (default: 16)")
    command.set_defaults(run=run)


def run(args):
    """Print the mean loss of a model on a text."""
    if args.batch_size < 1:
        raise MinigptError(f"batch_size is {args.batch_size}, it must be at least 1")
    model, tokenizer = load_with_tokenizer(args.model)
    check_causal(args.model, model)
    corpus = tiny_shakespeare() if args.data is None else read_text(args.data)
    texts = dict(zip(("train", "validation"), split(corpus.text)))
    tokens = {name: tokenizer.encode(text) for name, text in texts.items()}
    if args.split == "all":
        tokens, text = np.concatenate(list(tokens.values())), corpus.text
    else:
        tokens, text = tokens[args.split], texts[args.split]
    keep_freed_memory()
    workers = Workers()
    objective = NextToken(model.config.block_size)
    objective.check(tokens, model.config.vocab_size, f"{args.split} text")
    rows = -(-args.batch_size // workers.threads)
    loss, measures = measure(model, objective, tokens, rows=rows, workers=workers, text_bytes=len(text.encode("utf-8")))
    print(f"text: {one_line(corpus.source)}, SHA-256 {corpus.sha256}")
    print(f"{measures['bits_per_byte']:.4f} bits per byte, whatever the tokens")
    print(f"{args.split} loss {loss:.4f}")
