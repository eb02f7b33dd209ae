"""What attention keeps of a text while it is continued.

Shapes: B batch, H heads, S tokens that there is room for, T new tokens, D channels of a head.
"""

import numpy as np


class KVCache:
    """The keys and values of one attention layer in decoding: buffers taken once, filled from the
    left.

    keys, values (B, H, S, D), of which `length` tokens are filled: those of one head lie end to
    end, as its query reads them. The newest query's scores are computed in a buffer as well:
    contiguous, since np.exp copies a strided array before it works in place.
    """

    def __init__(self, batch, heads, size, channels, dtype):
        self.keys = np.empty((batch, heads, size, channels), dtype)
        self.values = np.empty_like(self.keys)
        self.scores_buffer = np.empty(batch * heads * size, dtype)
        self.length = 0

    @property
    def scores(self):
        """Where the newest query's scores of all tokens so far go: (B, H, 1, length)."""
        B, H, *_ = self.keys.shape
        return self.scores_buffer[: B * H * self.length].reshape(B, H, 1, self.length)

    def append(self, k, v):
        """Store the keys and values of new tokens, (B, H, T, D) each -> views of all so far, (B, H,
        length, D) each.
        """
        start, self.length = self.length, self.length + k.shape[2]
        if self.length > self.keys.shape[2]:
            raise ValueError(f"the KV cache has room for {self.keys.shape[2]} tokens, {self.length} were given")
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.filled()

    def reorder(self, origins):
        """Let row i hold what row origins[i] (an integer array) holds. Rows that stay in place are
        not copied; for another number of rows the buffers are taken anew.
        """
        keys, values, (B, _, size, _), filled = self.keys, self.values, self.keys.shape, slice(self.length)
        moved = [(i, origin) for i, origin in enumerate(origins.tolist()) if i != origin or len(origins) != B]
        if len(origins) != B:
            self.take(len(origins), size)
        elif {i for i, _ in moved} & {origin for _, origin in moved}:  # written over, and still wanted
            keys, values = keys.copy(), values.copy()
        for i, origin in moved:  # 97 us against 155 with an array of indices
            self.keys[i, :, filled], self.values[i, :, filled] = keys[origin, :, filled], values[origin, :, filled]

    def make_room(self, size):
        """Have room for `size` tokens, in buffers taken anew."""
        keys, values = self.filled()
        self.take(len(keys), size)
        self.keys[:, :, : self.length], self.values[:, :, : self.length] = keys, values

    def take(self, batch, size):
        """New buffers of the same kind, for as many tokens as there were."""
        length, (_, H, _, D) = self.length, self.keys.shape
        self.__init__(batch, H, size, D, self.keys.dtype)
        self.length = length

    def filled(self):
        """Views of the keys and values so far, (B, H, length, D) each."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]
