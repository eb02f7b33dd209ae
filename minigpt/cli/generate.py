"""minigpt generate: continue a prompt with a trained model."""

import sys

from minigpt.beams import Beams, beams_asked
from minigpt.checks import whole
from minigpt.cli.options import add_model_option, check_causal, load_with_tokenizer
from minigpt.cli.terminal import visible
from minigpt.errors import MinigptError
from minigpt.sampling import Sampling
from minigpt.training.samples import first_ids


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "generate",
        help="continue a prompt",
        description="Continue a prompt with a trained model. On a terminal, control characters but newline "
        "and tab are shown as escapes such as \\x1b; a pipe or a file gets the text as it is.",
    )
    add_model_option(command)
    command.add_argument(
        "--prompt",
        metavar="TEXT",
        help="text to continue (default: a new line, or the first token that the model knows)",
    )
    command.add_argument("--max-new-tokens", type=int, default=500, metavar="N", help="tokens to write (default: 500)")
    command.add_argument(
        "--temperature", type=float, metavar="X", help="0 is greedy, 1 the model's own odds (default: 0.8)"
    )
    command.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens only (default: all)")
    command.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the likeliest tokens that make up P of the probability (default: all)",
    )
    command.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="above 1, tokens that the text has already are less likely (default: 1)",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    command.add_argument(
        "--num-beams",
        type=int,
        default=1,
        metavar="N",
        help="search for the likeliest text with so many beginnings side by side, in place of drawing tokens "
        "(default: 1, which draws)",
    )
    command.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="of beams: above 0, long texts gain on short ones (default: 1)",
    )
    command.set_defaults(run=run)


def run(args):
    """Stream a continuation to the terminal; what beams find comes as a whole."""
    searched = args.num_beams != 1
    temperature = args.temperature if args.temperature is not None else 1.0 if searched else 0.8
    sampling = (temperature, args.top_k, args.top_p)
    penalty = {"repetition_penalty": args.repetition_penalty}
    length_penalty = 1.0 if args.length_penalty is None else args.length_penalty
    # checks them before the model is read
    beams_asked(Beams(args.num_beams, length_penalty, **penalty), Sampling(*sampling, seed=args.seed, **penalty))
    whole("max_new_tokens", args.max_new_tokens, at_least=1 if searched else 0)
    if args.length_penalty is not None and not searched:
        raise MinigptError("--length-penalty goes with --num-beams of at least 2")
    if args.prompt == "":
        raise MinigptError("the prompt is empty, it must have at least 1 character")
    model, tokenizer = load_with_tokenizer(args.model)
    check_causal(args.model, model)
    ids = first_ids(tokenizer) if args.prompt is None else tokenizer.encode(args.prompt)
    show = visible if sys.stdout is not None and sys.stdout.isatty() else str
    text = tokenizer.stream()
    print(show(tokenizer.decode(ids) if args.prompt is None else args.prompt), end="", flush=True)
    if searched:
        beams = {"num_beams": args.num_beams, "length_penalty": length_penalty}
        new = model.generate(ids[None], args.max_new_tokens, **beams, **penalty)[:, len(ids) :].T
    else:
        new = model.stream(ids[None], args.max_new_tokens, *sampling, seed=args.seed, **penalty)
    for token in new:
        print(show(text.push(token)), end="", flush=True)
    print(show(text.end()))
