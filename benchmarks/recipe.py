"""What a recipe's ideas are worth at this size:
short runs in PyTorch, where an idea is a line and needs no backward, three seeds each.

    python -m benchmarks.recipe --data FILE
    python -m benchmarks.recipe --only base "squared ReLU" --seeds 0
    python -m benchmarks.recipe --long --seeds 1    a few of them, for as many steps as `default`

The base is the model and the recipe of our preset `default`, for fewer steps; each variant changes
one thing. What earned its place was then written into the library with a backward by hand;
docs/RECIPE.md draws the conclusions. Most ideas are from the log of records of
https://github.com/KellerJordan/modded-nanogpt. Two processes with one thread each take two runs at
a time.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.common import count, parser, show, write_json
from minigpt.cli import guard
from minigpt.data import read_text, split, tiny_shakespeare
from minigpt.errors import MinigptError
from minigpt.optim.muon import POLYNOMIALS
from minigpt.tokenizers.char import CharTokenizer
from minigpt.training import PRESETS, available_cores

BASE = {
    "steps": 250, "warmup": 15, "layers": 4, "heads": 2, "channels": 128, "time": 128, "batch": 8,
    "lr": 5e-3, "muon_lr": 0.015,
    "polynomials": 3, "positions": "rotary", "norm": "layer", "activation": "gelu", "tied": True, "qk_norm": True,
    "smear": True, "token_shift": False, "value_residual": False, "bigrams": False, "first_half": None, "cosine": False,
}  # fmt: skip
VARIANTS = {
    "base": {},
    "learned positions": {"positions": "learned"},
    "RMSNorm": {"norm": "rms"},
    "no QK-norm": {"qk_norm": False},
    "no smear": {"smear": False},
    "token shift in every block": {"smear": False, "token_shift": True},
    "squared ReLU": {"activation": "squared_relu"},
    "untied head": {"tied": False},
    "value residual": {"value_residual": True},
    "bigram embedding": {"bigrams": True},
    "first half at T=64, B=16": {"first_half": (64, 16)},
    "first half at B=4, then 12": {"first_half": (128, 4), "batch": 12},
    "cosine schedule to a tenth": {"cosine": True},
    "3 Newton-Schulz steps, Jordan et al.": {"polynomials": "jordan 3"},
    "5 Newton-Schulz steps, Jordan et al.": {"polynomials": 5},
    "AdamW at 3e-3 for all": {"muon_lr": 0, "lr": 3e-3},
}
LONG = (
    "base",
    "no QK-norm",
    "no smear",
    "token shift in every block",
    "squared ReLU",
    "bigram embedding",
    "first half at T=64, B=16",
)
EVERY = 10  # steps that a point of the training curve is the mean of


def polynomials(which):
    """Coefficients of each Newton-Schulz step."""
    return POLYNOMIALS[5][:3] if which == "jordan 3" else POLYNOMIALS[which]


def make_model(c, vocab_size):
    """The base GPT with one thing changed; c: a namespace of BASE."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    C, D = c.channels, c.channels // c.heads
    std, residual_std = 0.02, 0.02 / math.sqrt(2 * c.layers)

    def weight(*shape, std=std):
        return nn.Parameter(torch.randn(shape) * std)

    def norm(x, w):
        return F.layer_norm(x, (C,), w) if c.norm == "layer" else F.rms_norm(x, (C,), w)

    def before(x):
        return F.pad(x, (0, 0, 1, -1))

    def turned(x, T):
        angle = torch.arange(T)[:, None] * 10000 ** (-torch.arange(0, D, 2) / D)
        a, b, cos, sin = *x.chunk(2, -1), angle.cos(), angle.sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.Parameter(torch.ones(C)), nn.Parameter(torch.ones(C))
            self.q, self.k, self.v, self.proj = weight(C, C), weight(C, C), weight(C, C), weight(C, C, std=residual_std)
            self.fc, self.out = weight(C, 4 * C), weight(4 * C, C, std=residual_std)
            self.mix = nn.Parameter(torch.tensor([1.0, 0.0]))
            self.shift_1, self.shift_2 = nn.Parameter(torch.zeros(C)), nn.Parameter(torch.zeros(C))

        def forward(self, x, v0):
            B, T, _ = x.shape
            h = norm(x, self.ln_1)
            if c.token_shift:
                h = h + self.shift_1 * (before(h) - h)
            q, k, v = ((h @ w).view(B, T, c.heads, D).transpose(1, 2) for w in (self.q, self.k, self.v))
            v0 = v if v0 is None else v0
            if c.value_residual:
                v = self.mix[0] * v + self.mix[1] * v0
            if c.qk_norm:
                q, k = F.rms_norm(q, (D,)), F.rms_norm(k, (D,))
            if c.positions == "rotary":
                q, k = turned(q, T), turned(k, T)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + y.transpose(1, 2).reshape(B, T, C) @ self.proj
            h = norm(x, self.ln_2)
            if c.token_shift:
                h = h + self.shift_2 * (before(h) - h)
            h = h @ self.fc
            h = F.relu(h).square() if c.activation == "squared_relu" else F.gelu(h, approximate="tanh")
            return x + h @ self.out, v0

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe, self.head = weight(vocab_size, C), weight(c.time, C), weight(vocab_size, C)
            self.smear = nn.Parameter(torch.zeros(C))
            self.pairs = nn.Parameter(torch.zeros(vocab_size**2, C)) if c.bigrams else None
            self.h, self.ln_f = nn.ModuleList(Block() for _ in range(c.layers)), nn.Parameter(torch.ones(C))

        def forward(self, ids):
            x, v0 = self.wte[ids], None
            if c.smear:
                x = x + self.smear * before(x)
            if c.bigrams:
                x = x + self.pairs[ids * vocab_size + F.pad(ids, (1, 0))[:, :-1]]
            if c.positions == "learned":
                x = x + self.wpe[: ids.shape[1]]
            for block in self.h:
                x, v0 = block(x, v0)
            return norm(x, self.ln_f) @ (self.wte if c.tied else self.head).T

    return Model()


def orthogonalise(x, coefficients):
    """minigpt.optim.newton_schulz in PyTorch."""
    if x.shape[-2] > x.shape[-1]:
        return orthogonalise(x.mT, coefficients).mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, k in coefficients:
        s = x @ x.mT
        x = a * x + (b * s + k * (s @ s)) @ x
    return x


def train(path, changes, seed):
    """One run on the text at path -> validation loss over all windows of the base's length,
    training losses of each EVERY steps
    """
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    c = SimpleNamespace(**BASE | changes)
    text = read_text(path).text
    tokenizer = CharTokenizer.from_text(text)
    tokens, held_out = (torch.from_numpy(part) for part in split(tokenizer.encode(text)))
    model, generator = make_model(c, tokenizer.vocab_size), torch.Generator().manual_seed(seed)
    named = dict(model.named_parameters())
    hidden = [p for name, p in named.items() if name.startswith("h.") and p.ndim == 2] if c.muon_lr else []
    rest = [p for p in named.values() if not any(p is q for q in hidden)]
    adamw = torch.optim.AdamW(rest, lr=c.lr, betas=(0.9, 0.99), weight_decay=0.0)
    momenta = [torch.zeros_like(p) for p in hidden]

    def loss_of(windows):
        return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())

    losses = []
    for step in range(c.steps):
        done = max(0.0, (step - c.warmup) / max(1, c.steps - 1 - c.warmup))
        decayed = 0.1 + 0.45 * (1 + math.cos(math.pi * done)) if c.cosine else 1 - done
        factor = min(1.0, (step + 1) / (c.warmup + 1)) * decayed
        T, B = c.first_half if c.first_half and step < c.steps // 2 else (c.time, c.batch)
        starts = torch.randint(0, len(tokens) - T, (B,), generator=generator)
        loss = loss_of(tokens[starts[:, None] + torch.arange(T + 1)])
        model.zero_grad(set_to_none=True)
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.param_groups[0]["lr"] = c.lr * factor
        adamw.step()
        with torch.no_grad():
            for p, m in zip(hidden, momenta):
                m.lerp_(p.grad, 0.05)
                u = orthogonalise(p.grad.lerp(m, 0.95), polynomials(c.polynomials))
                p.sub_(u, alpha=c.muon_lr * factor * math.sqrt(max(1, p.shape[1] / p.shape[0])))
    with torch.no_grad():
        n = (len(held_out) - 1) // c.time
        windows = held_out[(torch.arange(n) * c.time)[:, None] + torch.arange(c.time + 1)]
        validation = sum(loss_of(part).item() * len(part) for part in windows.split(32)) / n
    return validation, [statistics.mean(losses[i : i + EVERY]) for i in range(0, len(losses) - EVERY + 1, EVERY)]


def measure(path, names, seeds, steps):
    """All runs, as many at a time as there are cores -> figures"""

    def run(job):
        name, seed = job
        command = [
            sys.executable,
            "-m",
            "benchmarks.recipe",
            "--child",
            json.dumps([str(path), VARIANTS[name] | {"steps": steps}, seed]),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise MinigptError(f"{name}, seed {seed}: {why[0]}")
        loss, curve = json.loads(done.stdout)
        print(f"{name}, seed {seed}: {loss:.4f}", flush=True)
        return loss, curve

    jobs = [(name, seed) for name in names for seed in seeds]
    with ThreadPoolExecutor(available_cores()) as pool:
        found = dict(zip(jobs, pool.map(run, jobs)))
    losses, curves = ({name: [found[name, seed][i] for seed in seeds] for name in names} for i in range(2))
    return {"steps": steps, "seeds": seeds, "every": EVERY, "losses": losses, "curves": curves}


def table(figures):
    """A row a variant, best first -> columns, rows"""
    means = {name: statistics.mean(losses) for name, losses in figures["losses"].items()}
    base = means.get("base")
    rows = [
        (
            name,
            f"{means[name]:.4f}",
            "" if base is None else f"{means[name] - base:+.4f}",
            ", ".join(f"{loss:.4f}" for loss in figures["losses"][name]),
        )
        for name in sorted(means, key=means.get)
    ]
    return (
        "variant",
        "validation loss, mean",
        "against the base",
        f"seeds {', '.join(map(str, figures['seeds']))}",
    ), rows


def describe(figures):
    """What was measured, in a sentence."""
    seeds = ", ".join(map(str, figures["seeds"]))
    plural = "seeds" if len(figures["seeds"]) > 1 else "seed"
    return f"Variants of preset `default`, one change each, {figures['steps']:,} steps in PyTorch, {plural} {seeds}."


def draw(figures):
    """A panel a variant, best first: its training loss less the base's of the same seed,
    and the difference in validation -> Figure, or None

    None without a base. Thin lines are seeds, the thick one is their mean.
    """
    from minigpt import plots

    losses, curves = figures["losses"], figures["curves"]
    if "base" not in losses:
        return None
    names = sorted((name for name in losses if name != "base"), key=lambda name: statistics.mean(losses[name]))
    columns = 3
    rows = max(1, math.ceil(len(names) / columns))
    figure, axes = plots.subplots(rows, columns, width=9, height=1.7 * rows)
    for ax, name in zip(axes.flat, names):
        gains = np.array(curves[name]) - np.array(curves["base"])
        steps = figures["every"] * (1 + np.arange(gains.shape[1]))
        for gain in gains:
            ax.plot(steps, gain, color=plots.COLOURS[0], linewidth=0.7, alpha=0.5)
        ax.plot(steps, gains.mean(axis=0), color=plots.COLOURS[0], linewidth=1.8)
        ax.axhline(0, color=plots.COLOURS[1], linewidth=1)
        ax.set_ylim(-0.35, 0.35)
        ax.set_title(
            f"{name}: {statistics.mean(losses[name]) - statistics.mean(losses['base']):+.3f}", loc="left", fontsize=8.5
        )
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    plots.annotate(axes.flat[0], y="loss less the base's")
    return figure


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--child"]:
        print(json.dumps(train(*json.loads(argv[1]))))
        return 0
    made = parser(__doc__)
    made.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare)")
    made.add_argument(
        "--only", nargs="+", choices=tuple(VARIANTS), metavar="NAME", help=f"of {', '.join(VARIANTS)} (default: all)"
    )
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    made.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help=f"of a run (default: {BASE['steps']}, with --long those of preset default)",
    )
    made.add_argument(
        "--long",
        action="store_true",
        help=f"runs as long as preset default's, of {', '.join(LONG)} (default: short ones)",
    )
    return guard(run, made.parse_args(argv))


def run(args):
    """From parsed arguments to figures -> exit code."""
    with tempfile.TemporaryDirectory() as folder:
        text = read_text(args.data) if args.data else tiny_shakespeare()
        path = Path(folder) / "text.txt"
        path.write_bytes(text.text.encode("utf-8"))
        steps = args.steps or (PRESETS["default"][1]["steps"] if args.long else BASE["steps"])
        figures = measure(path, args.only or list(LONG if args.long else VARIANTS), args.seeds, steps)
    print(describe(figures))
    show(table=table(figures))
    write_json(args.json, figures)


if __name__ == "__main__":
    sys.exit(main())
