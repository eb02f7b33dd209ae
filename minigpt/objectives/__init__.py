"""What a model is trained on: an objective makes batches from data."""

from minigpt.objectives.baselines import baseline_losses
from minigpt.objectives.batch import Batch
from minigpt.objectives.masked_lm import MaskedLM
from minigpt.objectives.masking import Masked, Masking
from minigpt.objectives.next_sentence import NextSentence
from minigpt.objectives.next_token import NextToken
from minigpt.objectives.pairs import Pairs
from minigpt.objectives.prefix_lm import PrefixLM
from minigpt.objectives.span_corruption import SpanCorruption

__all__ = [
    "Batch",
    "Masked",
    "MaskedLM",
    "Masking",
    "NextSentence",
    "NextToken",
    "Pairs",
    "PrefixLM",
    "SpanCorruption",
    "baseline_losses",
]
