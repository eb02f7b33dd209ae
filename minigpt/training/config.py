"""The settings of a training run."""

from dataclasses import dataclass

from minigpt.checks import check_fields, number, setting, whole
from minigpt.errors import MinigptError
from minigpt.optim import SCHEDULES
from minigpt.optim.muon import POLYNOMIALS

CHOICES = {  # the values that a field may have
    "optimizer": ("muon", "adamw", "sgd"),
    "schedule": tuple(SCHEDULES),
    "newton_schulz_steps": tuple(POLYNOMIALS),
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train. MinigptError for a value out of its range."""

    steps: int = setting("updates of the parameters")
    batch_size: int = setting("windows of text a micro-batch", 12)
    accumulate: int = setting("micro-batches a step", 1)
    shards: int = setting(  # part of the run, since it sets the order of additions
        "parts of a micro-batch, one a thread; same seed and shards, same bits", 1
    )
    optimizer: str = setting("optimizer", "muon")
    lr: float = setting("peak learning rate of AdamW or SGD; with Muon, of all but the hidden matrices", 1e-3)
    muon_lr: float = setting("peak learning rate of Muon, for hidden matrices", 0.02)
    newton_schulz_steps: int = setting("orthogonalisation steps of Muon", 5)
    beta1: float = setting("decay of AdamW's first moment, momentum of SGD", 0.9)
    beta2: float = setting("decay of AdamW's second moment", 0.99)
    weight_decay: float = setting("decoupled weight decay, on parameters of two or more axes", 0.0)
    clip: float = setting("limit of the gradient's norm, 0 for none", 1.0)
    schedule: str = setting("learning-rate schedule", "cosine")
    warmup: int = setting("steps of linear warm-up", 0)
    final_lr: float = setting("last learning rate as a fraction of the peak", 0.1)
    recompute: bool = setting(
        "keep each block's input alone and run it again in backward: less memory, more time, the same bits", False
    )
    seed: int = setting("seed of weights, batches, dropout and samples", 0)
    eval_interval: int = setting("steps between validation losses", 250)
    save_interval: int = setting("steps between checkpoints", 250)

    def __post_init__(self):
        check_fields(
            self,
            sizes=("steps", "batch_size", "accumulate", "shards", "eval_interval", "save_interval"),
            fractions=("beta1", "beta2"),
            flags=("recompute",),
            choices=CHOICES,
        )
        for name in ("lr", "muon_lr", "weight_decay", "clip", "final_lr"):
            number(name, getattr(self, name), at_least=0)
        for name in ("warmup", "seed"):
            whole(name, getattr(self, name), at_least=0)
        if self.shards > self.batch_size:
            rows = f"{self.batch_size} rows in a batch (batch_size)"
            raise MinigptError(f"shards is {self.shards}, there are only {rows} to share out")
