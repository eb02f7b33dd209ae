"""What the commands that train share: their options, a run from its start or where it stopped, and
a profile of its steps.
"""

from minigpt.cli.options import add_config_options
from minigpt.cli.terminal import say
from minigpt.errors import MinigptError, one_line
from minigpt.files import write_atomically
from minigpt.machine import check_threads, usable_threads
from minigpt.training import TrainConfig
from minigpt.training.config import CHOICES
from minigpt.training.run_files import LAST, PROFILE_CHART, PROFILE_FIGURES, check_profile_files

FROM_A_TEXT = (
    "Ctrl-C and SIGTERM have it finish its step, save, and end with code 130 or 143; --resume goes on from there. "
    "Where nobody reads what it prints any more, it goes on."
)


def add_run_options(command, *, out, presets):
    """--out, --preset, --resume, --profile and --threads; out: the default of --out, required where
    None.
    """
    command.add_argument(
        "--out",
        metavar="DIR",
        required=out is None,
        default=out,
        help="folder of the run" + ("" if out is None else f" (default: {out})"),
    )
    command.add_argument(
        "--preset", choices=tuple(presets), help="recipe that the options below start from (default: default)"
    )
    command.add_argument("--resume", action="store_true", help="go on with the run in --out (default: start afresh)")
    text = "in place of training, time N steps (20 unless given) by op, print a table, and write profile.png and "
    text += "profile.json to --out (default: train)"
    command.add_argument("--profile", type=int, nargs="?", const=20, metavar="N", help=text)
    most = usable_threads()
    command.add_argument(
        "--threads",
        type=thread_count,
        default="auto",
        metavar="N",
        help=f"threads; auto measures up to {most} (default: auto)",
    )


def add_training_options(command, defaults):
    """The fields of TrainConfig as options; defaults: of a preset, by name."""
    defaults = defaults | {"shards": f"--threads, with auto {usable_threads()}"}
    add_config_options(command, TrainConfig, defaults=defaults, choices=CHOICES)


def thread_count(text):
    """--threads: a whole number, or what it is for check_threads to judge."""
    try:
        return int(text)
    except ValueError:
        return text


def is_resuming(args, out):
    """Whether there is a run in the folder `out` to go on with, where --resume asks for it."""
    resuming = args.resume and (out / LAST / "config.json").exists()
    if args.resume and not resuming:
        say(f"--resume: nothing is saved in {one_line(out)} yet, starting afresh")
    return resuming


def settle_shards(settings, threads):
    """Put a number of shards into settings that have none: --threads, or as many as are usable."""
    check_threads(threads)
    if "shards" not in settings:
        if threads != "auto" and threads > settings["batch_size"]:
            rows = f"{settings['batch_size']} rows in a batch (--batch-size)"
            raise MinigptError(f"threads is {threads}, there are only {rows} to share out")
        settings["shards"] = min(usable_threads() if threads == "auto" else threads, settings["batch_size"])


def carry_out(trainer, args, *, resuming, introduction):
    """Train, or profile where --profile asks for it -> the validation loss at the end; None of a
    profile. introduction: lines to say before.
    """
    with trainer.lock:
        if args.profile is not None:
            profile(trainer, args.profile)
            return None
        if resuming:
            trainer.resume()
            say(f"resuming {one_line(trainer.out)} after step {trainer.step} of {trainer.config.steps}")
        else:
            trainer.set_aside()
        for line in introduction:
            say(line)
        return trainer.run()


def check_profile(args):
    """MinigptError for a --profile that can't be done."""
    if args.profile is not None and args.profile < 1:
        raise MinigptError(f"--profile {args.profile}: it must be at least 1 step")
    if args.profile is not None and args.resume:
        raise MinigptError("--profile times the steps of a new model and trains nothing, it does not go with --resume")


def profile(trainer, steps):
    """--profile: where the time of a step goes, as a table, a chart and JSON; nothing else of the
    folder is touched.
    """
    from minigpt import plots
    from minigpt.profile import profile_steps

    check_profile_files(trainer.out)
    trainer.choose_threads()
    profile = profile_steps(trainer, steps)
    say(str(profile))
    chart, figures = trainer.out / PROFILE_CHART, trainer.out / PROFILE_FIGURES
    plots.save(plots.profile_chart(profile).figure, chart)
    write_atomically(figures, profile.to_json())
    say(f"chart: {one_line(chart)}; figures: {one_line(figures)}")
