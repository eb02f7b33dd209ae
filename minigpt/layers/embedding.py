"""Named tables: tokens, positions, and the head that reuses the token table; and what mixes
neighbouring tokens.
"""

from minigpt.layers.store import Parameter
from minigpt.ops.embedding import embedding_backward, embedding_forward, unembedding_backward, unembedding_forward
from minigpt.ops.positions import learned_positions_backward, learned_positions_forward
from minigpt.ops.smear import smear_backward, smear_forward


class Embedding:
    """One learned row for each id: y = weight[ids]."""

    def __init__(self, name, rows, channels, std=0.02):
        self.name = name
        self.weight = Parameter(f"{name}.weight", (rows, channels), "embedding", std=std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, ids):
        """ids (...) int -> y (..., C), cache."""
        return embedding_forward(ids, p[self.weight.name])

    def backward(self, g, dy, cache):
        """Add the table's gradient into g, where it has its name; ids have none."""
        if self.weight.name in g:
            g[self.weight.name] += embedding_backward(dy, cache)


class LearnedPositions:
    """One learned row for each position, added to the input; ops.learned_positions_forward has the
    formula.
    """

    def __init__(self, name, positions, channels, std=0.02):
        self.name = name
        self.weight = Parameter(f"{name}.weight", (positions, channels), "embedding", std=std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, x, position_ids=None):
        """x (B, T, C), position_ids (T,) or (B, T), 0 .. T-1 unless given -> y (B, T, C), cache."""
        return learned_positions_forward(x, p[self.weight.name], position_ids)

    def backward(self, g, dy, cache):
        """Add the table's gradient into g, where it has its name; dy (B, T, C) -> dx (B, T, C)."""
        dx, dweight = learned_positions_backward(dy, cache)
        if self.weight.name in g:
            g[self.weight.name] += dweight
        return dx


class Smear:
    """Each token's vector with a learned proportion, channel by channel, of the one before it;
    ops.smear_forward has the formula.
    """

    def __init__(self, name, channels):
        self.name = name
        self.weight = Parameter(f"{name}.weight", (channels,), "vector")

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, x, visible=None, previous=None):
        """x (B, T, C), visible (B, T) bool, False at padding -> y (B, T, C), cache.

        previous: in decoding, the vector (B, 1, C) before the first of x, as it was given to this
        layer; none at a text's beginning.
        """
        return smear_forward(x, p[self.weight.name], visible, previous)

    def backward(self, g, dy, cache):
        """Add the weight's gradient into g, where it has its name; dy (B, T, C) -> dx (B, T, C)."""
        dx, dweight = smear_backward(dy, cache)
        if self.weight.name in g:
            g[self.weight.name] += dweight
        return dx


class TiedHead:
    """Logits from the token table itself: y = x @ weight^T + bias, where the weight is another
    layer's and is counted there.
    """

    def __init__(self, name, embedding, *, bias=False):
        self.name, self.weight = name, embedding.weight
        self.bias = Parameter(f"{name}.bias", self.weight.shape[:1], "vector") if bias else None

    def parameters(self):
        """The bias, where it has one: all that is its own."""
        return [self.bias] if self.bias else []

    def forward(self, p, x):
        """x (..., C) -> y (..., V), cache."""
        return unembedding_forward(x, p[self.weight.name], p[self.bias.name] if self.bias else None)

    def backward(self, g, dy, cache):
        """Add into the gradients of the shared table and of the bias, where g has them; dy (..., V)
        -> dx (..., C).
        """
        dx, dweight, dbias = unembedding_backward(dy, cache, with_dweight=self.weight.name in g)
        if dweight is not None:
            g[self.weight.name] += dweight
        if self.bias and self.bias.name in g:
            g[self.bias.name] += dbias
        return dx
