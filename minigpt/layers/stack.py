"""Blocks one after another, and what of each is kept for backward."""

from minigpt.layers.recompute import RecomputedCache, recomputed_backward, recomputed_forward
from minigpt.layers.shared import NOTHING_COLLECTED, NOTHING_SHARED

# What a pass keeps of its blocks: all that backward needs; each block's input, to run it again; or
# nothing, where no backward will follow.
KEEP = ("activations", "inputs", "nothing")


def stack_forward(blocks, p, x, rng=None, *, shared=NOTHING_SHARED, kv=None, keep="activations"):
    """x through the blocks in turn -> y, a list of a cache each: a block's own, a RecomputedCache
    or, with nothing kept, None.

    shared: what every block reads; kv: in decoding, a list of what each block keeps of the text;
    keep: one of KEEP.
    """
    if keep not in KEEP:
        raise ValueError(f"keep is {keep!r}, it must be one of {', '.join(KEEP)}")
    caches = []
    for i, block in enumerate(blocks):
        if keep == "inputs":
            x, cache = recomputed_forward(block, p, x, rng, shared=shared)
        else:
            x, cache = block.forward(p, x, rng, shared=shared, kv=None if kv is None else kv[i])
            if keep == "nothing":
                cache = None  # now: the next block would run with this one's activations beside its own
        caches.append(cache)
    return x, caches


def stack_backward(blocks, g, dy, caches, dshared=NOTHING_COLLECTED):
    """Add the gradients of all blocks into g, those of what they share into dshared; dy -> dx."""
    for block, cache in zip(reversed(blocks), reversed(caches), strict=True):
        if cache is None:
            raise ValueError('this pass was run with keep="nothing": it has no backward')
        if isinstance(cache, RecomputedCache):
            dy = recomputed_backward(block, g, dy, cache, dshared)
        else:
            dy = block.backward(g, dy, cache, dshared)
    return dy
