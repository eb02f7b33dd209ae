"""minigpt fill: the likeliest pieces in place of the masks in a text."""

import sys

import minigpt
from minigpt.cli.info import hugging_face_type
from minigpt.cli.options import add_model_option, find_model, load_with_tokenizer
from minigpt.cli.terminal import show, visible
from minigpt.cli.tokenize import shown
from minigpt.errors import MinigptError
from minigpt.models.filling import fill
from minigpt.tables import text_table


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "fill",
        help="fill the masks in a text",
        description="The likeliest pieces in place of each [MASK] (RoBERTa's <mask>) in a text, by a model with a "
        "masked-LM head, as `minigpt pretrain` trains it.",
    )
    add_model_option(command)
    command.add_argument("text", metavar="TEXT", nargs="?", help="text with masks (default: standard input)")
    command.add_argument("--top", type=int, default=5, metavar="N", help="pieces a mask (default: 5)")
    command.set_defaults(run=run)


def run(args):
    """Print the likeliest pieces of each mask, and the text with the first of each."""
    text = sys.stdin.read().rstrip("\n") if args.text is None else args.text
    directory = find_model(args.model)
    if hugging_face_type(directory) is None:
        model, tokenizer = load_with_tokenizer(directory)
    else:
        model, tokenizer = minigpt.from_huggingface(directory), minigpt.load_tokenizer(directory)
    if tokenizer.vocab_size > model.config.vocab_size:
        sizes = f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
        raise MinigptError(f"{directory}: {sizes}")
    fillings, ids = fill(model, tokenizer, text, args.top)
    mask = tokenizer.id_to_token(tokenizer.mask_id)
    rows = []
    for number, filling in enumerate(fillings, 1):
        name = f"{mask} {number}" if len(fillings) > 1 else mask
        for token, probability in zip(filling.ids, filling.probabilities):
            known = token < tokenizer.vocab_size  # a model may have rows to spare
            piece = f"[{shown(tokenizer, int(token))}]" if known else f"(token {token})"
            rows.append((name, piece, f"{probability:.1%}"))
            name = ""
    filled = tokenizer.decode(ids[ids < tokenizer.vocab_size], skip_special=True)
    show(visible("\n".join([*text_table(rows, left=(0, 1)), "", filled.strip()])))
