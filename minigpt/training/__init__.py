"""Training runs."""

from minigpt.machine import available_cores, keep_freed_memory
from minigpt.training.bands import Band, find_band, read_band
from minigpt.training.config import TrainConfig
from minigpt.training.interrupt import Interrupted
from minigpt.training.presets import PRESETS
from minigpt.training.run_files import read_metrics
from minigpt.training.run_lock import RunLock
from minigpt.training.step import evaluate
from minigpt.training.threads import Workers
from minigpt.training.trainer import Diverged, Trainer

__all__ = [
    "PRESETS",
    "Band",
    "Diverged",
    "Interrupted",
    "RunLock",
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
