"""minigpt: transformers in NumPy, every gradient written by hand and proved right."""

__version__ = "0.1.0"
