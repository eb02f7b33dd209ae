"""What a model writes while it is trained: a decoder a text, an encoder its hidden words, a model
of two stacks what it makes of a source.
"""

import numpy as np

from minigpt.errors import MinigptError
from minigpt.models.causal import CausalModel
from minigpt.models.span_filling import joined
from minigpt.ops.loss import IGNORED


def sample(model, tokenizer, objective, *, tokens, length, seed):
    """A sample of what a model writes by now, or why there is none, where its logits overflow.

    A decoder: `length` tokens from nothing, see first_ids. Others: the first row of a walk over
    tokens, as it was shown, and with what the model puts in place of each target, or writes.
    """
    try:
        with np.errstate(all="ignore"):
            if isinstance(model, CausalModel):
                ids = model.generate(first_ids(tokenizer)[None], length, 0.8, seed=seed)[0]
                return tokenizer.decode(ids).strip("\n")
            batch = next(iter(objective.walk(tokens, 1)))
            return (written if "decoder_input_ids" in batch else filled)(model, tokenizer, batch)
    except MinigptError as error:
        return f"(no sample: {error})"


def first_ids(tokenizer):
    """What a text begins with where no prompt is given: a new line, or the first token where the
    vocabulary has none. -> ids (N,)
    """
    try:
        return tokenizer.encode("\n")
    except MinigptError:
        return np.array([0])


def written(model, tokenizer, batch):
    """The first source of a batch and what a model of two stacks makes of it, greedily: the source
    with its gaps filled, where it has sentinels -> two lines.
    """
    ids = batch["ids"][0][batch["attention_mask"][0] == 1]
    new = model.generate(ids[None], batch["targets"].shape[1], temperature=0)[0]
    if np.isin(ids, tokenizer.sentinel_ids).any():
        new, _ = joined(ids, new, tokenizer)
    parts = (np.delete(part, np.isin(part, (tokenizer.eos_id, tokenizer.pad_id))) for part in (ids, new))
    return "\n".join(" ".join(tokenizer.decode(part).split()) for part in parts)


def filled(model, tokenizer, batch):
    """The first row of a batch of masked text, as the model was shown it and with the likeliest
    token in place of each target -> two lines.
    """
    row = {name: value[:1] for name, value in batch.items() if name in ("ids", "attention_mask", "token_type_ids")}
    logits = model.forward(**row, keep="nothing")[0].masked_lm[0]  # (T, V)
    shown, hidden = row["ids"][0], batch["targets"][0] != IGNORED
    ids = np.where(hidden, logits.argmax(axis=-1), shown)
    return "\n".join(" ".join(tokenizer.decode(part).split()) for part in (shown, ids))
