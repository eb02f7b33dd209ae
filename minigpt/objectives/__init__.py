"""What a model is trained on: an objective makes batches from data."""

from minigpt.objectives.batch import Batch
from minigpt.objectives.next_token import NextToken

__all__ = ["Batch", "NextToken"]
