"""Named tables: tokens, positions, and the head that reuses the token table; and what mixes neighbouring tokens."""

from minigpt.layers.store import Parameter
from minigpt.ops.embedding import embedding_backward, embedding_forward, unembedding_backward, unembedding_forward
from minigpt.ops.positions import learned_positions_backward, learned_positions_forward
from minigpt.ops.smear import smear_backward, smear_forward


class Embedding:
    """One learned row for each id: y = weight[ids]."""

    def __init__(self, name, rows, channels, std=0.02):
        self.weight = Parameter(f"{name}.weight", (rows, channels), std=std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, ids):
        """ids (...) int -> y (..., C), cache."""
        return embedding_forward(ids, p[self.weight.name])

    def backward(self, g, dy, cache):
        """Add the table's gradient into g; ids have none."""
        g[self.weight.name] += embedding_backward(dy, cache)


class LearnedPositions:
    """One learned row for each position, added to the input; ops.learned_positions_forward has the formula."""

    def __init__(self, name, positions, channels, std=0.02):
        self.weight = Parameter(f"{name}.weight", (positions, channels), std=std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, x, position_ids=None):
        """x (B, T, C), position_ids (T,) or (B, T), 0 .. T-1 unless given -> y (B, T, C), cache."""
        return learned_positions_forward(x, p[self.weight.name], position_ids)

    def backward(self, g, dy, cache):
        """Add the table's gradient into g; dy (B, T, C) -> dx (B, T, C)."""
        dx, dweight = learned_positions_backward(dy, cache)
        g[self.weight.name] += dweight
        return dx


class Smear:
    """Each token's vector with a learned proportion, channel by channel, of the one before it, none at first; ops.smear_forward has the formula."""

    def __init__(self, name, channels):
        self.weight = Parameter(f"{name}.weight", (channels,))

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, x, visible=None):
        """x (B, T, C), visible (B, T) bool, False at padding -> y (B, T, C), cache."""
        return smear_forward(x, p[self.weight.name], visible)

    def backward(self, g, dy, cache):
        """Add the weight's gradient into g; dy (B, T, C) -> dx (B, T, C)."""
        dx, dweight = smear_backward(dy, cache)
        g[self.weight.name] += dweight
        return dx


class TiedHead:
    """Logits from the token table itself: y = x @ weight^T, where the weight is another layer's and is counted there."""

    def __init__(self, embedding):
        self.weight = embedding.weight

    def parameters(self):
        """None of its own."""
        return []

    def forward(self, p, x):
        """x (..., C) -> y (..., V), cache."""
        return unembedding_forward(x, p[self.weight.name])

    def backward(self, g, dy, cache):
        """Add into the shared table's gradient; dy (..., V) -> dx (..., C)."""
        dx, dweight = unembedding_backward(dy, cache)
        g[self.weight.name] += dweight
        return dx
