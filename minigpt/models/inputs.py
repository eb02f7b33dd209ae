"""What is handed to a model, checked before anything is computed: ids, targets, masks, positions,
prompts.

Shapes: B batch, T time.
"""

from collections.abc import Mapping

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.ops.loss import IGNORED, count_targets


def check_ids(ids, vocab_size, max_length, *, name="ids"):
    """Token ids as an integer array (B, T). MinigptError names what is wrong: dtype, shape, length
    or the first id out of range. max_length: None for any.
    """
    ids = as_array(ids, name)
    if ids.dtype.kind not in "iu":
        raise MinigptError(f"{name}: dtype is {ids.dtype}, token ids must be integers")
    if ids.ndim != 2 or ids.size == 0:
        raise MinigptError(f"{name}: shape is {ids.shape}, it must be (batch, time) with at least one of each")
    if max_length is not None and ids.shape[1] > max_length:
        raise MinigptError(f"{name}: {ids.shape[1]} tokens in a row, the model's block_size is {max_length}")
    check_range(ids, vocab_size, name)
    return ids


def check_targets(targets, ids, vocab_size):
    """Targets as an integer array of the ids' shape. MinigptError for a wrong dtype, shape or
    value.
    """
    targets, ids = as_array(targets, "targets"), as_array(ids, "ids")
    if targets.shape != ids.shape:
        raise MinigptError(f"targets: shape is {targets.shape}, that of ids is {ids.shape}")
    return check_labels("targets", targets, ids.shape, vocab_size)


def check_labels(name, labels, shape, limit):
    """What a loss compares with as an integer array of a shape, 0 .. limit - 1 or -100.
    MinigptError for a wrong dtype, shape or value.
    """
    labels = as_array(labels, name)
    if labels.dtype.kind not in "iu":
        raise MinigptError(f"{name}: dtype is {labels.dtype}, they must be integers")
    if labels.shape != shape:
        raise MinigptError(f"{name}: shape is {labels.shape}, it must be {shape}")
    check_range(np.where(labels == IGNORED, 0, labels), limit, name, besides=f", or {IGNORED} (ignored)")
    return labels


def count_of(name, targets, counts=None):
    """What the mean over an array of targets is divided by: this array's own count, or that of a
    whole batch, counts[name], of which it may be a part that holds ignored targets only.

    MinigptError where it is 0, or counts lack the name.
    """
    if counts is None:
        count = count_targets(targets)
        if count == 0:
            raise MinigptError(f"{name}: all {targets.size} are {IGNORED} (ignored), at least 1 must count")
        return count
    if name not in counts:
        raise MinigptError(f"counts: {name} is missing, a number of at least 1 that its mean is divided by")
    return whole(f"counts[{name!r}]", counts[name], at_least=1)


def check_mask(mask, ids, *, name="attention_mask", of="ids"):
    """A mask (B, T), 0 at padding and 1 elsewhere, as bools; None stays None. MinigptError where it
    does not have the ids' shape, and for other values: of a mask that is added to scores, 0 and
    -10,000, each would mean the opposite.
    """
    if mask is None:
        return None
    mask = as_array(mask, name)
    if mask.shape != ids.shape:
        raise MinigptError(f"{name}: shape is {mask.shape}, that of {of} is {ids.shape}")
    return as_flags(mask, name)


def as_flags(mask, name):
    """A mask of 0 and 1, of whatever dtype, as bools. MinigptError for any other value."""
    if mask.dtype.kind not in "biuf":
        raise MinigptError(f"{name}: dtype is {mask.dtype}, a mask holds 0 at padding and 1 elsewhere")
    if mask.dtype.kind == "b":
        return mask
    wrong = (mask != 0) & (mask != 1)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise MinigptError(f"{name}: value {mask[at]} at {at}, it must be 0 at padding and 1 elsewhere")
    return mask.astype(bool)


def check_positions(position_ids, ids, positions):
    """Positions (T,) or (B, T) as an integer array; None stays None. MinigptError for a wrong
    dtype, shape or value.
    """
    if position_ids is None:
        return None
    position_ids = as_array(position_ids, "position_ids")
    if position_ids.dtype.kind not in "iu":
        raise MinigptError(f"position_ids: dtype is {position_ids.dtype}, positions must be integers")
    if position_ids.shape not in (ids.shape, ids.shape[1:]):
        raise MinigptError(f"position_ids: shape is {position_ids.shape}, it must be {ids.shape} or {ids.shape[1:]}")
    check_range(position_ids, positions, "position_ids")
    return position_ids


def check_token_types(token_type_ids, ids, limit):
    """Token types (B, T) as an integer array, zeros unless given. MinigptError for a wrong dtype,
    shape or value.
    """
    if token_type_ids is None:
        return np.zeros(ids.shape, np.int64)
    token_type_ids = as_array(token_type_ids, "token_type_ids")
    if token_type_ids.dtype.kind not in "iu":
        raise MinigptError(f"token_type_ids: dtype is {token_type_ids.dtype}, token types must be integers")
    if token_type_ids.shape != ids.shape:
        raise MinigptError(f"token_type_ids: shape is {token_type_ids.shape}, that of ids is {ids.shape}")
    check_range(token_type_ids, limit, "token_type_ids")
    return token_type_ids


def check_names(batch, needed, optional):
    """MinigptError for a batch that is no mapping, lacks an array that is needed or holds one that
    is not read.
    """
    if not isinstance(batch, Mapping):
        raise MinigptError(f"batch is {shortened(batch)}, it must be a mapping of named arrays")
    known = (*needed, *(name for name in optional if name not in needed))
    for name in batch:
        if name not in known:
            raise MinigptError(f"batch: {name!r} is not read by this model, it takes {', '.join(known)}")
    for name in needed:
        if batch.get(name) is None:
            raise MinigptError(f"batch: {name} is missing")


def next_token_batch(batch, targets, vocab_size):
    """What a causal model's loss is asked for, as a dict: a mapping of named arrays, or ids and
    targets, as two arguments or a pair.

    MinigptError where ids or targets are missing, for a name that it does not read, and for targets
    as check_targets says.
    """
    if isinstance(batch, tuple) and len(batch) == 2 and targets is None:
        batch, targets = batch
    if not isinstance(batch, Mapping):
        batch = {"ids": batch, "targets": targets}
    elif targets is not None:
        raise MinigptError("targets: a batch of named arrays holds its own; further arguments go by name, such as rng=")
    check_names(batch, ("ids", "targets"), ("attention_mask", "position_ids"))
    return dict(batch, targets=check_targets(batch["targets"], batch["ids"], vocab_size))


def check_logit_gradient(dlogits, cache):
    """The gradient of a forward's logits as an array; cache is that forward's. MinigptError where
    its shape is not (B, T, V): with another order of the same rows the sums would be wrong in
    silence.
    """
    rows = cache.head.x.shape[:-1]
    dlogits = as_array(dlogits, "dlogits")
    if dlogits.shape[:-1] != rows:
        raise MinigptError(f"dlogits: shape is {dlogits.shape}, it must be that of the logits, {(*rows, 'V')}")
    return dlogits


def check_seed(seed):
    """MinigptError for a seed that is neither a whole number nor a numpy Generator."""
    if not isinstance(seed, np.random.Generator):
        whole("seed", seed, at_least=0)


def check_rng(rng):
    """MinigptError for what draws no random numbers; None is no dropout."""
    if rng is not None and not hasattr(rng, "random"):
        raise MinigptError(f"rng is {shortened(rng)}, it must be a numpy Generator, or None for no dropout")


def check_dtype(dtype):
    """A dtype of parameters as np.dtype. MinigptError for one that is none, or holds no
    fractions.
    """
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = None
    if known is None or known.kind not in "fc":
        raise MinigptError(f"dtype is {shortened(dtype)}, it must be a floating one such as float32 or float64")
    return known


def check_prompts(ids, vocab_size, attention_mask=None, *, name="prompt"):
    """Prompts as a list of B int64 arrays without padding. MinigptError for an empty or
    impossible one; name: what it calls them.

    ids: (B, T), or a list of B sequences; attention_mask (B, T), 0 at the padding of ids.
    """
    if attention_mask is not None:
        ids, attention_mask = as_array(ids, "ids"), as_array(attention_mask, "attention_mask")
        if ids.ndim != 2 or ids.shape != attention_mask.shape:
            raise MinigptError(
                f"attention_mask: shape is {attention_mask.shape}, that of ids is {ids.shape}, "
                "both must be (batch, time)"
            )
        ids = [row[keep] for row, keep in zip(ids, as_flags(attention_mask, "attention_mask"))]
    elif is_ragged(ids):
        shapes = [as_array(row, f"the {name}").shape for row in ids]
        if any(len(shape) != 1 for shape in shapes):
            raise MinigptError(f"ids: shapes are {shapes}, each {name} must be one sequence of ids")
    elif np.ndim(ids) != 2:
        raise MinigptError(f"ids: shape is {np.shape(ids)}, {name}s must be (batch, time)")
    if len(ids) == 0 or any(len(row) == 0 for row in ids):
        raise MinigptError(f"the {name} is empty, it must have at least 1 token")
    rows = [check_ids(np.asarray(row)[None], vocab_size, len(row), name=name)[0] for row in ids]
    return [row.astype(np.int64, copy=False) for row in rows]


def is_ragged(ids):
    """Whether ids are sequences of unequal length."""
    return isinstance(ids, list | tuple) and len({as_array(row, "ids").shape for row in ids}) > 1


def as_array(values, name):
    """np.asarray, with a MinigptError for rows of unequal length."""
    try:
        return np.asarray(values)
    except ValueError:
        raise MinigptError(f"{name}: the rows have unequal lengths, they must be one array (batch, time)") from None


def check_range(ids, limit, name, *, besides=""):
    """MinigptError naming the first id that is not in 0 .. limit - 1; besides: what is allowed as
    well, for the message.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= limit):
        at = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= limit))[0])
        raise MinigptError(f"{name}: value {ids[at]} at {at} is out of range, it must be 0 to {limit - 1}{besides}")
