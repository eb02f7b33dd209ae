"""Training runs."""

from minigpt.training.config import PRESETS, TrainConfig
from minigpt.training.threads import Workers, available_cores, keep_freed_memory
from minigpt.training.trainer import Diverged, Interrupted, Trainer, evaluate, read_metrics

__all__ = [
    "PRESETS",
    "Diverged",
    "Interrupted",
    "TrainConfig",
    "Trainer",
    "Workers",
    "available_cores",
    "evaluate",
    "keep_freed_memory",
    "read_metrics",
]
