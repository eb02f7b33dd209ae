"""minigpt explain: what a family changes, line by line, how many numbers its parts learn, and a
drawing of it.
"""

import shutil
from pathlib import Path

from minigpt import explain
from minigpt.cli.options import find_model
from minigpt.cli.terminal import show, visible
from minigpt.errors import MinigptError


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "explain",
        help="what a family of models changes, line by line",
        description="What a family of models changes against GPT-2, line by line of forward and backward; how many "
        "numbers each part learns; and a drawing. Nothing is trained and no weights are made.",
    )
    command.add_argument("family", metavar="FAMILY", nargs="?", help=f"{', '.join(explain.FAMILIES)} (default: all)")
    command.add_argument("--size", metavar="NAME", help="count one of the paper's sizes (default: the smallest)")
    command.add_argument(
        "--model",
        metavar="DIR",
        help="count the parts of a model: a checkpoint, or a folder of transformers (default: none)",
    )
    command.add_argument(
        "--plot", metavar="FILE", help="draw it, from ids to loss: a PNG, SVG or PDF file (default: none)"
    )
    command.add_argument("--markdown", action="store_true", help="print docs/FAMILIES.md (default: a table)")
    command.set_defaults(run=run)


def run(args):
    """Print the table of a family, or what families there are; draw it where asked to."""
    if args.markdown:
        for option in ("family", "size", "model", "plot"):
            if getattr(args, option) is not None:
                raise MinigptError(f"--markdown prints the page of all families, {option} does not go with it")
        show(explain.page())
        return
    if args.plot is not None:
        from minigpt import plots

        plots.check_format(args.plot)
        if not Path(args.plot).absolute().parent.is_dir():
            raise MinigptError(f"{args.plot} can't be written: there is no folder {Path(args.plot).parent}")
    if args.family is None and args.model is None:
        if args.plot is not None or args.size is not None:
            raise MinigptError(f"name a family: {', '.join(explain.FAMILIES)}")
        show(explain.overview())
        return
    family, name, config = what(args)
    width = shutil.get_terminal_size().columns
    show(f"{explain.table_text(family, width)}\n\n{explain.counts_text(visible(name), family, config)}")
    if args.plot is not None:
        plots.save(plots.draw_family(explain.drawing(family, config)), args.plot)


def what(args):
    """The family, the name and the config of what the arguments ask for."""
    if args.family is not None and args.family not in explain.FAMILIES:
        raise MinigptError(f"family is {args.family!r}, it must be one of {', '.join(explain.FAMILIES)}")
    if args.model is None:
        family = explain.FAMILIES[args.family]
        return family, args.size or next(iter(family.sizes)), explain.sized(family, args.size)
    if args.size is not None:
        raise MinigptError(f"--size goes without a model, --model {args.model} has sizes of its own")
    family, config = explain.config_of_folder(find_model(args.model))
    if args.family not in (None, family.name):
        raise MinigptError(f"{args.model} holds a {family.name}, not a {args.family}")
    return family, str(args.model), config
