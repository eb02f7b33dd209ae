"""Which form of attention runs: decided here alone, forward by the number of queries, backward by
the type of the cache.

Shapes: B batch, H heads, T queries, S keys, D channels of a head.
"""

from minigpt.ops.attention import AttentionCache, Mask, attention_backward, attention_forward
from minigpt.ops.lean_attention import QUERY_BLOCK, LeanAttentionCache, lean_attention_backward, lean_attention_forward
from minigpt.ops.newest_attention import newest_attention

# queries; from here on memory-lean attention is the faster one as well: it skips the blocks that
# the mask hides
LEAN_FROM = 256


def attend(q, k, v, *, mask=Mask(), bias=None, scale=None, dropout=0.0, rng=None,  # noqa: B008
           newest_scores=None, lean_from=LEAN_FROM, block=QUERY_BLOCK):  # fmt: skip
    """attention_forward in the form that is best at this number of queries: arguments and y as
    there, and that form's cache.

    newest_scores: None, or a buffer (B, H, 1, S), which says that no backward will follow: a single
    query without dropout takes newest_attention. From lean_from queries on it is
    lean_attention_forward, `block` queries at a time.
    """
    queries = q.shape[2]
    if newest_scores is not None and queries == 1 and rng is None:
        return newest_attention(q, k, v, newest_scores, mask, bias, scale)
    if queries >= lean_from:
        return lean_attention_forward(q, k, v, mask, bias, scale, dropout, rng, block=block)
    return attention_forward(q, k, v, mask, bias, scale, dropout, rng)


def attend_backward(dy, cache, out=None):
    """Gradients of attend: arguments and results of attention_backward. TypeError for a cache that
    no backward can follow.
    """
    if isinstance(cache, AttentionCache):
        return attention_backward(dy, cache, out)
    if isinstance(cache, LeanAttentionCache):
        return lean_attention_backward(dy, cache, out)
    kind = type(cache).__name__
    raise TypeError(
        f"no backward follows from a {kind}: newest attention's weights lie in a buffer that is written over"
    )
