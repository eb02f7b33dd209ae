"""minigpt: transformers in NumPy, every gradient written by hand and proved right."""

from minigpt.checkpoint import load
from minigpt.errors import MinigptError
from minigpt.gradcheck import check_gradients, check_op
from minigpt.layers.store import Store
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.tokenizers.char import CharTokenizer

__version__ = "0.1.0"
__all__ = ["GPT", "CharTokenizer", "GPTConfig", "MinigptError", "Store", "check_gradients", "check_op", "load"]
