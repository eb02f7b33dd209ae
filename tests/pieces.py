"""A tokenizer for tests of objectives: words of a list, with BERT's special tokens before them."""

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
