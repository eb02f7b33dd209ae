"""minigpt translate: what a model of two stacks, a T5, writes for a text."""

import sys
from pathlib import Path

import minigpt
from minigpt.checks import number, whole
from minigpt.cli.info import hugging_face_type
from minigpt.cli.options import add_model_option, find_model, load_with_tokenizer
from minigpt.cli.terminal import visible
from minigpt.errors import MinigptError
from minigpt.models.translating import check_translates, cross_attention, translate


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "translate",
        help="translate a text",
        description="What a T5 writes for a text, such as a translation by the model that "
        "examples/translate_numbers.py trains. Without a text, each line of standard input is one, and gives one line.",
    )
    add_model_option(command)
    command.add_argument("text", metavar="TEXT", nargs="?", help="the text (default: each line of standard input)")
    text = "what the model wants before a text, such as 'translate English to German: ' (default: nothing)"
    command.add_argument("--prefix", metavar="TEXT", default="", help=text)
    text = "texts that are followed side by side in beam search; 1 is greedy (default: 1)"
    command.add_argument("--num-beams", type=int, default=1, metavar="N", help=text)
    text = "of beam search: above 0 the larger, the longer a text it likes (default: 1)"
    command.add_argument("--length-penalty", type=float, default=1.0, metavar="X", help=text)
    text = "tokens to write at most (default: 200)"
    command.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help=text)
    text = "draw what the model looked at as it wrote, of one TEXT, as .png, .svg or .pdf (default: not)"
    command.add_argument("--plot", metavar="FILE", help=text)
    command.set_defaults(run=run)


def run(args):
    """Print a line for a text, or for each line of standard input."""
    check_options(args)
    model, tokenizer = load_any(find_model(args.model))
    options = {"prefix": args.prefix, "max_new_tokens": args.max_new_tokens, "num_beams": args.num_beams}
    if args.num_beams > 1:
        options["length_penalty"] = args.length_penalty
    if args.text is None:
        for place, line in enumerate(lines_of_stdin(), 1):
            try:
                written = translate(model, tokenizer, [line], **options)[0] if line.strip() else ""
            except MinigptError as error:
                raise MinigptError(f"line {place}: {error}") from None
            print(one_line_of(written), flush=True)
        return
    (written,) = translate(model, tokenizer, [args.text], **options)
    print(one_line_of(written), flush=True)
    if args.plot is not None:
        from minigpt import plots

        attention = cross_attention(model, tokenizer, args.prefix + args.text, written)
        plots.save(plots.cross_attention(*attention), args.plot)


def check_options(args):
    """MinigptError for what can't be, before a model is read."""
    whole("num_beams", args.num_beams, at_least=1)
    whole("max_new_tokens", args.max_new_tokens, at_least=1)
    number("length_penalty", args.length_penalty)
    if args.num_beams == 1 and args.length_penalty != 1.0:
        raise MinigptError("--length-penalty is of beam search, which --num-beams 1 is not")
    if args.plot is not None:
        from minigpt import plots

        plots.check_format(args.plot)
        if not (place := Path(args.plot).absolute().parent).is_dir():
            raise MinigptError(f"picture {args.plot} can't be written: there is no folder {place}")
        if args.text is None:
            raise MinigptError("--plot draws one TEXT, there is none among the arguments")


def load_any(directory):
    """A model of two stacks and its tokenizer, from a folder of ours or Hugging Face's.
    MinigptError for any other model.
    """
    if hugging_face_type(directory) is None:
        model, tokenizer = load_with_tokenizer(directory)
    else:
        model, tokenizer = minigpt.from_huggingface(directory), minigpt.load_tokenizer(directory)
    try:
        check_translates(model, tokenizer)
    except MinigptError as error:
        raise MinigptError(f"{directory}: {error}") from None
    if tokenizer.vocab_size > model.config.vocab_size:
        sizes = f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
        raise MinigptError(f"{directory}: {sizes}")
    return model, tokenizer


def lines_of_stdin():
    """The lines of standard input, each as soon as it is there. MinigptError where one isn't
    UTF-8.
    """
    lines = () if sys.stdin is None else getattr(sys.stdin, "buffer", sys.stdin)
    for place, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8") if isinstance(line, bytes) else line
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{line[error.start]:02x} at offset {error.start}"
            raise MinigptError(f"line {place}: the text piped in isn't UTF-8: {wrong}") from None
        yield text.rstrip("\r\n").removeprefix("\ufeff" if place == 1 else "")


def one_line_of(text):
    """What a model wrote as one line that is safe to show."""
    return visible(" ".join(text.split("\n")))
