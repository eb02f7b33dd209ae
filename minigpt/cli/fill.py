"""minigpt fill: the likeliest pieces in place of the masks in a text, or of its gaps."""

import sys

import minigpt
from minigpt.cli.info import hugging_face_type
from minigpt.cli.options import add_model_option, find_model, load_with_tokenizer
from minigpt.cli.terminal import show, visible
from minigpt.cli.tokenize import shown
from minigpt.errors import MinigptError
from minigpt.models.encoder_decoder import EncoderDecoderModel
from minigpt.models.filling import fill
from minigpt.models.span_filling import fill_spans, gaps_of
from minigpt.tables import text_table


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "fill",
        help="fill the masks or gaps in a text",
        description="The likeliest pieces in place of each [MASK] (RoBERTa's <mask>) in a text, by a model with a "
        "masked-LM head; or of all gaps, <extra_id_0> or ___ each, by a T5; as `minigpt pretrain` trains them.",
    )
    add_model_option(command)
    command.add_argument("text", metavar="TEXT", nargs="?", help="text with masks or gaps (default: standard input)")
    text = "pieces a mask; of a T5 ways to fill all gaps, found by beam search, 1 is greedy (default: 5)"
    command.add_argument("--top", type=int, default=5, metavar="N", help=text)
    command.set_defaults(run=run)


def run(args):
    """Print what is likeliest in each mask or gap, and the text with the first of each."""
    text = args.text
    if text is None:
        text = "" if sys.stdin is None else sys.stdin.read().rstrip("\n")
    directory = find_model(args.model)
    if hugging_face_type(directory) is None:
        model, tokenizer = load_with_tokenizer(directory)
    else:
        model, tokenizer = minigpt.from_huggingface(directory), minigpt.load_tokenizer(directory)
    if tokenizer.vocab_size > model.config.vocab_size:
        sizes = f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
        raise MinigptError(f"{directory}: {sizes}")
    rows = span_rows if isinstance(model, EncoderDecoderModel) else mask_rows
    rows, left, ids = rows(model, tokenizer, text, args.top)
    filled = tokenizer.decode(ids[ids < tokenizer.vocab_size], skip_special=True)
    show(visible("\n".join([*text_table(rows, left=left), "", filled.strip()])))


def mask_rows(model, tokenizer, text, top):
    """The likeliest pieces of each mask by themselves -> rows of a table, columns that are aligned
    to the left, the ids of the text with the first of each.
    """
    fillings, ids = fill(model, tokenizer, text, top)
    mask = tokenizer.id_to_token(tokenizer.mask_id)
    rows = []
    for number, filling in enumerate(fillings, 1):
        name = f"{mask} {number}" if len(fillings) > 1 else mask
        for token, probability in zip(filling.ids, filling.probabilities):
            known = token < tokenizer.vocab_size  # a model may have rows to spare
            piece = f"[{shown(tokenizer, int(token))}]" if known else f"(token {token})"
            rows.append((name, piece, f"{probability:.1%}"))
            name = ""
    return rows, (0, 1), ids


def span_rows(model, tokenizer, text, top):
    """The likeliest ways to fill all gaps -> as mask_rows, a column a gap."""
    fillings = fill_spans(model, tokenizer, text, top)
    rows = [(*(tokenizer.id_to_token(token) for token in gaps_of(tokenizer, text)), "")]
    for filling in fillings:
        spans = (tokenizer.decode([i for i in span if i < tokenizer.vocab_size]).strip() for span in filling.spans)
        rows.append((*(f"[{' '.join(span.split())}]" for span in spans), f"{100 * filling.probability:.2g}%"))
    return rows, tuple(range(len(rows[0]) - 1)), fillings[0].ids
