"""Training runs."""

from minigpt.machine import available_cores, keep_freed_memory
from minigpt.training.bands import Band, find_band, read_band
from minigpt.training.config import PRESETS, TrainConfig
from minigpt.training.threads import Workers
from minigpt.training.trainer import Diverged, Interrupted, Trainer, evaluate, read_metrics

__all__ = [
    "PRESETS",
    "Band",
    "Diverged",
    "Interrupted",
    "TrainConfig",
    "Trainer",
    "Workers",
    "available_cores",
    "evaluate",
    "find_band",
    "keep_freed_memory",
    "read_band",
    "read_metrics",
]
