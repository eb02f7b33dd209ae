"""From gradients to better parameters: each optimiser updates one flat vector."""

from minigpt.optim.adamw import AdamW
from minigpt.optim.clipping import clip_by_norm
from minigpt.optim.muon import Muon, newton_schulz
from minigpt.optim.schedules import SCHEDULES, constant, cosine, linear
from minigpt.optim.sgd import SGD

__all__ = ["SCHEDULES", "SGD", "AdamW", "Muon", "clip_by_norm", "constant", "cosine", "linear", "newton_schulz"]
