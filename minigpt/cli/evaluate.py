"""minigpt eval: the mean loss of a model on a text."""

from minigpt.cli.options import add_model_option, check_causal, load_with_tokenizer
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError, one_line
from minigpt.machine import keep_freed_memory
from minigpt.objectives import NextToken
from minigpt.training import Workers, evaluate


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
    tokens = tokenizer.encode(corpus.text)
    train_tokens, val_tokens = split(tokens)
    tokens = {"validation": val_tokens, "train": train_tokens, "all": tokens}[args.split]
    keep_freed_memory()
    workers = Workers()
    objective = NextToken(model.config.block_size)
    objective.check(tokens, model.config.vocab_size, f"{args.split} text")
    loss = evaluate(model, objective.walk(tokens, -(-args.batch_size // workers.threads)), workers)
    print(f"text: {one_line(corpus.source)}, SHA-256 {corpus.sha256}")
    print(f"{args.split} loss {loss:.4f}")
