"""Make the band of a preset: what is normal for its losses, over seeds (minigpt.training.bands).

    python -m benchmarks.make_bands PRESET --seeds 5 --data FILE    runs of seeds 1 to 5, one by one
    python -m benchmarks.make_bands PRESET --from DIR DIR DIR       from finished runs instead
    python -m benchmarks.make_bands PRESET --data FILE --steps 100 --out band.json

Options that stand in no line of the help go to `minigpt train`. With several --data, every seed is
run on every text, and the band holds for each of them: for texts that make no difference, such as
tiny Shakespeare and its rebuild. Seed 0, the default of `minigpt train`, is not among the band's.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from minigpt import cli
from minigpt.errors import MinigptError
from minigpt.training.bands import FEWEST, FOLDER, make_band, read_band, write_band


def main(argv=None):
    """Make the runs, unless they are given, and write the band -> exit code."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.make_bands", description=__doc__.partition("\n\n")[0], allow_abbrev=False
    )
    made.add_argument("preset", metavar="PRESET", help="name of a preset")
    made.add_argument("--seeds", type=int, default=5, metavar="N", help="runs, of seeds 1 to N (default: 5)")
    made.add_argument("--data", nargs="+", metavar="FILE", help="UTF-8 text files (default: tiny Shakespeare)")
    made.add_argument(
        "--from", nargs="+", dest="folders", metavar="DIR", help="folders of finished runs (default: run them)"
    )
    made.add_argument(
        "--keep",
        metavar="DIR",
        help="leave the runs here, and take those that are there already (default: a temporary folder)",
    )
    made.add_argument("--out", metavar="FILE", help=f"file to write (default: {FOLDER / 'PRESET.json'})")
    args, train_options = made.parse_known_args(argv)
    return cli.guard(lambda args: make(args, train_options), args)


def make(args, train_options):
    """From parsed arguments to a file -> exit code."""
    ours = ("--data", "--preset", "--seed", "--out", "--resume")
    for option in train_options:
        if option.split("=")[0] in ours:
            raise MinigptError(f"{option}: a band sets {', '.join(ours[1:])} itself")
    texts = args.data or [None]
    if not args.folders and args.seeds * len(texts) < FEWEST:
        raise MinigptError(f"a band of {args.seeds * len(texts)} runs, at least {FEWEST} are needed")
    with tempfile.TemporaryDirectory() as temporary:
        if args.folders:
            if train_options:
                raise MinigptError(f"{train_options[0]} is an option of training, with --from there is none")
            folders = args.folders
        else:
            folders = []
            for seed in range(1, args.seeds + 1):
                for number, data in enumerate(texts):
                    folders.append(
                        Path(args.keep or temporary) / (f"{args.preset}-{seed}" + f"-{number}" * (number > 0))
                    )
                    options = [] if data is None else ["--data", data]
                    print(f"\n{args.preset}, seed {seed}" + f", {data}" * (data is not None), flush=True)
                    options += ["--preset", args.preset, "--seed", str(seed), "--out", str(folders[-1])]
                    options += ["--resume", *train_options]
                    code = cli.main(["train", *options])
                    if code:
                        return code
        path = Path(args.out or FOLDER / f"{args.preset}.json")
        write_band(path, make_band(args.preset, folders))
    band = read_band(path)
    print(f"\n{path}: {len(band.runs)} runs, {path.stat().st_size:,} bytes; text {', '.join(band.texts)}")
    for step, mean, least, largest, low, high in zip(
        *(getattr(band.val, name) for name in ("steps", "mean", "least", "largest", "low", "high"))
    ):
        print(
            f"step {step:>6.0f}: validation loss {mean:.4f}, {least:.4f} to {largest:.4f}; "
            f"normal: {low:.4f} to {high:.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
