"""The settings of a training run, and recipes that are known to work."""

import math
from dataclasses import dataclass

from minigpt.checks import check_fields
from minigpt.errors import MinigptError
from minigpt.optim import SCHEDULES
from minigpt.optim.muon import POLYNOMIALS


@dataclass(frozen=True)
class TrainConfig:
    """How to train. MinigptError for a value out of its range."""

    steps: int  # updates of the parameters
    batch_size: int = 12  # windows of text a micro-batch
    accumulate: int = 1  # micro-batches a step
    shards: int = 1  # parts of a micro-batch, one a thread; part of the run, since it sets the order of additions
    optimizer: str = "muon"  # or "adamw", "sgd"
    lr: float = 1e-3  # peak rate of AdamW or SGD
    muon_lr: float = 0.02  # peak rate of Muon, for hidden matrices
    newton_schulz_steps: int = 5  # of Muon: 3, 4 or 5
    beta1: float = 0.9  # AdamW's, and SGD's momentum
    beta2: float = 0.99  # AdamW's
    weight_decay: float = 0.0  # on parameters of two or more axes
    clip: float = 1.0  # limit of the gradient's norm; 0 for none
    schedule: str = "cosine"  # or "linear", "constant"
    warmup: int = 0  # steps
    final_lr: float = 0.1  # the last rate as a fraction of the peak
    recompute: bool = False  # keep each block's input alone and run the block again in backward: less memory, more time, the same bits
    seed: int = 0  # of weights, batches and dropout
    eval_interval: int = 250  # steps between validation losses
    save_interval: int = 250  # steps between checkpoints

    def __post_init__(self):
        sizes = ("steps", "batch_size", "accumulate", "shards", "eval_interval", "save_interval")
        check_fields(
            self,
            sizes=sizes,
            fractions=("beta1", "beta2"),
            flags=("recompute",),
            choices={"optimizer": ("muon", "adamw", "sgd"), "schedule": tuple(SCHEDULES)},
        )
        for name in ("lr", "muon_lr", "weight_decay", "clip", "final_lr"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not (math.isfinite(value) and value >= 0)
            ):
                raise MinigptError(f"{name} is {value!r}, it must be a number of at least 0")
        for name in ("warmup", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise MinigptError(f"{name} is {value!r}, it must be a whole number of at least 0")
        if isinstance(self.newton_schulz_steps, bool) or self.newton_schulz_steps not in POLYNOMIALS:
            raise MinigptError(
                f"newton_schulz_steps is {self.newton_schulz_steps!r}, it must be one of {', '.join(map(str, POLYNOMIALS))}"
            )
        if self.shards > self.batch_size:
            raise MinigptError(
                f"shards is {self.shards}, there are only {self.batch_size} rows in a batch (batch_size) to share out"
            )


ROTARY = {
    "n_layer": 4,
    "n_head": 2,
    "n_embd": 128,
    "bias": False,
    "positions": "rotary",
    "qk_norm": True,
    "smear": True,
}
MUON = {
    "optimizer": "muon",
    "lr": 5e-3,
    "muon_lr": 0.015,
    "newton_schulz_steps": 3,
    "warmup": 15,
    "schedule": "linear",
    "final_lr": 0.0,
}

# Recipes for tiny Shakespeare: name -> (GPTConfig fields, TrainConfig fields). docs/RECIPE.md has
# what was tried, and what each is worth.
PRESETS = {
    "quick": (
        ROTARY | {"block_size": 128},
        MUON | {"steps": 500, "batch_size": 8, "muon_lr": 0.02, "eval_interval": 250, "save_interval": 500},
    ),
    "default": (
        ROTARY | {"block_size": 128},
        MUON | {"steps": 1300, "batch_size": 8, "eval_interval": 650, "save_interval": 650},
    ),
    "best": (
        ROTARY | {"block_size": 256, "n_layer": 5, "n_head": 3, "n_embd": 192},
        MUON
        | {
            "steps": 1800,
            "batch_size": 8,
            "newton_schulz_steps": 4,
            "weight_decay": 0.2,
            "eval_interval": 300,
            "save_interval": 300,
        },
    ),
    # nanoGPT's README, "I only have a macbook": the CPU recipe for tiny Shakespeare
    "nanogpt-cpu": (
        {"block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "bias": False},
        {"steps": 2000, "batch_size": 12, "optimizer": "adamw", "lr": 1e-3, "warmup": 100, "weight_decay": 0.1},
    ),
}
