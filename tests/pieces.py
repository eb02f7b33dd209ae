"""Tokenizers for tests of objectives: words of a list, with the special tokens of a family."""

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Pieces:
    """Whatever stands between spaces is a token; one that begins with ## continues a word."""

    pad_id, unk_id, cls_id, sep_id, mask_id = range(5)
    special_ids = np.arange(5)

    def __init__(self, pieces):
        self.pieces = [*SPECIAL, *pieces]
        self.vocab_size = len(self.pieces)
        self.continues = np.array([piece.startswith("##") for piece in self.pieces])

    def encode(self, text, special=False):
        known = {piece: i for i, piece in enumerate(self.pieces)}
        return np.array([known.get(piece, self.unk_id) for piece in text.split()], np.int64)

    def id_to_token(self, i):
        return self.pieces[i]

    def token_to_id(self, token):
        return self.pieces.index(token)


class SentinelPieces(Pieces):
    """The same with T5's special tokens before the words and its sentinels behind them."""

    pad_id, eos_id, unk_id = range(3)
    sep_id, cls_id, mask_id = eos_id, None, None

    def __init__(self, pieces, sentinels=9):
        self.pieces = ["<pad>", "</s>", "<unk>", *pieces, *(f"<extra_id_{i}>" for i in reversed(range(sentinels)))]
        self.vocab_size = len(self.pieces)
        self.sentinel_ids = np.arange(self.vocab_size - 1, self.vocab_size - 1 - sentinels, -1)
        self.special_ids = np.array([0, 1, 2, *self.sentinel_ids[::-1]])
