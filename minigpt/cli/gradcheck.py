"""minigpt gradcheck: check every gradient of a model, or show what the museum's mistakes are caught
by.
"""

import math
from pathlib import Path

import numpy as np

from minigpt.checks import whole
from minigpt.cli.options import add_architecture_options, add_model_option, find_model, given
from minigpt.cli.terminal import progress, show
from minigpt.errors import MinigptError
from minigpt.gradcheck import LIMIT, check_gradients, errors_by_step
from minigpt.models import load
from minigpt.models.recipe_gpt import SWITCHED_OFF, RecipeGPTConfig, gpt_or_recipe

RANDOM_MODEL = {
    "n_layer": 2,
    "n_head": 3,
    "n_embd": 12,
    "block_size": 8,
    "dropout": 0.1,
    "activation": "gelu_tanh",
    "positions": "learned",
}


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "gradcheck",
        help="check every gradient of a model",
        description="Check every parameter's gradient against a numeric derivative, in float64. Exit code 1 where one "
        "is wrong.",
    )
    add_model_option(command, required=False)
    add_architecture_options(command, RANDOM_MODEL | SWITCHED_OFF)
    choices = (*LIMIT, "both")
    command.add_argument(
        "--method",
        choices=choices,
        default="both",
        help="complex step, central differences, or both side by side (default: both)",
    )
    command.add_argument(
        "--museum",
        action="store_true",
        help="plant every bug of the museum and show what catches it (default: check a model)",
    )
    command.add_argument(
        "--plot",
        metavar="FILE",
        help="draw error against step size for both methods: a PNG, SVG or PDF file (default: none)",
    )
    command.add_argument(
        "--html", metavar="FILE", help="write table and plot as one self-contained page (default: none)"
    )
    command.add_argument("--seed", type=int, default=0, help="seed of tokens, weights and directions (default: 0)")
    command.set_defaults(run=run)


def run(args):
    """Print a table of errors, for a saved model or for one of O(1) random weights -> exit code."""
    if args.museum:
        from minigpt import museum

        rows = museum.run(progress=progress)
        show(museum.table(rows))
        return 0 if all(row.caught for row in rows) else 1
    if args.plot:
        from minigpt import plots

        plots.check_format(args.plot)
    for path in (args.plot, args.html):  # before minutes of work
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise MinigptError(f"{path} can't be written: there is no folder {Path(path).parent}")
    rng = np.random.default_rng(whole("seed", args.seed, at_least=0))
    options = given(args, RecipeGPTConfig)
    if args.model is not None:
        if options:
            option = next(iter(options)).replace("_", "-")
            raise MinigptError(f"--{option} goes with a new model, --model {args.model} has its own config")
        model = load(find_model(args.model)).astype(np.float64)
    else:
        family, model_config = gpt_or_recipe({"vocab_size": 17} | RANDOM_MODEL | options)
        model = family(model_config, dtype=np.float64)
        # small weights would hide wrong gradients; scores are as large as at 12 channels: rounding
        # grows with them: at 96, right gradients are off by 3e-12 with std 1, by 5e-14 so
        std = min(1, math.sqrt(RANDOM_MODEL["n_embd"] / model_config.n_embd))
        model.store.vector[:] = std * rng.standard_normal(model.num_parameters)
    batch = model.random_batch(rng)
    report = check_gradients(model, batch, None, args.method, args.seed, dropout_seed=args.seed, progress=progress)
    show(report)
    if args.plot or args.html:
        draw(args, report, model, batch)
    return 0 if report.passed else 1


def draw(args, report, model, batch):
    """--plot and --html: error against step size, and a page of it and the table."""
    from minigpt import plots
    from minigpt.pages.gradcheck import write_html

    figure = plots.step_errors(*errors_by_step(model, batch, seed=args.seed)).figure
    if args.plot:
        plots.save(figure, args.plot)
    if args.html:
        write_html(
            args.html,
            report,
            f"Gradients of {find_model(args.model) if args.model else 'a random GPT'}",
            plots.png(figure),
        )
