"""A named bias of attention that depends on the distance alone."""

from minigpt.layers.store import Parameter
from minigpt.ops.relative import relative_bias_backward, relative_bias_forward


class RelativeBias:
    """One learned number for each head and range of distances, for all blocks of a stack;
    ops.relative_bias_forward has the formula.

    bidirectional: keys before and behind the query have buckets of their own, as an encoder needs.
    """

    def __init__(self, name, n_head, *, buckets=32, max_distance=128, bidirectional=True, std=0.02):
        self.name, self.max_distance, self.bidirectional = name, max_distance, bidirectional
        self.weight = Parameter(f"{name}.weight", (buckets, n_head), "embedding", std=std)

    def parameters(self):
        """The Parameters of this layer, in store order."""
        return [self.weight]

    def forward(self, p, queries, keys):
        """Numbers of queries and keys, of which the last stand at the same place -> bias (1, H, T,
        S), a read-only view, and its cache.
        """
        return relative_bias_forward(p[self.weight.name], queries, keys, self.max_distance, self.bidirectional)

    def backward(self, g, dbias, cache):
        """Add the table's gradient into g, where it has its name; dbias (1, H, T, S), the sum over
        all blocks that read the bias.
        """
        if self.weight.name in g:
            g[self.weight.name] += relative_bias_backward(dbias, cache)
