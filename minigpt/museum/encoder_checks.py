"""Checks of the encoders: gradients of BERT under each of its heads, values on record,
invariances, losses by loops.

Shapes: B batch, T time, C channels, V vocabulary.
"""

import math

import numpy as np

from minigpt.models import family
from minigpt.models.roberta import positions_of
from minigpt.museum.families import GOLDEN, batch_for, family_check, random_family
from minigpt.museum.oracles import compared
from minigpt.ops.loss import IGNORED

SMALLEST = {"num_hidden_layers": 1, "hidden_size": 4, "intermediate_size": 5}  # a check runs it for each number
bert_gradients = family_check("bert", **SMALLEST)
bert_sequence_gradients = family_check("bert", head="sequence_classification", **SMALLEST)
bert_answer_gradients = family_check(
    "bert",
    zero=("spans.bias", "h.0.ln_2.bias"),  # logits of all tokens that rise together change no loss
    head="question_answering",
    **SMALLEST,
)
roberta_gradients = family_check("roberta", **SMALLEST)
roberta_sequence_gradients = family_check("roberta", head="sequence_classification", **SMALLEST)


def golden_encoder(model_type, **changes):
    """A model whose weights are a formula, norms' added to what they start at, and a batch."""
    model = random_family(model_type, **changes)
    model.store.vector[:] = np.sin(np.arange(model.num_parameters, dtype=np.float64) ** 2)
    for name, parameter in model.store.parameters.items():
        model.store[name] += parameter.mean
    return model, batch_for(model)


@compared()
def golden_bert():
    """Both terms of the loss of golden_encoder against the values on record."""
    model, batch = golden_encoder("bert")
    terms, right = model.loss_terms(batch), GOLDEN["bert"]
    return {name: (terms[name], right[name]) for name in right}


@compared()
def golden_roberta():
    """The loss of golden_encoder against the value on record."""
    model, batch = golden_encoder("roberta")
    return {"targets": (model.loss(batch), GOLDEN["roberta"]["targets"])}


@compared(limit=0)
def everybody_hears_everybody():
    """Which hidden states change where a token changes: all of them, before it and after it."""
    model = random_family("bert", num_hidden_layers=1)
    ids = batch_for(model)["ids"][:1]
    before = model.forward(ids)[0].hidden
    heard = np.zeros((7, 7))
    for s in range(7):
        changed = ids.copy()
        changed[0, s] = ids[0, s] % 10 + 1
        heard[:, s] = (model.forward(changed)[0].hidden != before).any(axis=-1)[0]
    return {"later tokens": (np.triu(heard), np.triu(np.ones((7, 7)))), "earlier tokens": (np.tril(heard), np.tri(7))}


@compared()
def encoder_padding():
    """A short text in a padded batch against the same text alone: its loss and its gradient."""
    model = random_family("bert", head="masked_lm")
    batch = {name: value[1:2] for name, value in batch_for(model).items()}  # 5 tokens, 2 of padding
    alone = {name: value[:, :5] for name, value in batch.items()}
    (loss, grads), (right, right_grads) = model.loss_and_grads(batch), model.loss_and_grads(alone)
    gradients = (np.concatenate([g.ravel() for g in each.values()]) for each in (grads, right_grads))
    return {"loss": (loss, right), "gradient": tuple(gradients)}


def mean_loss(logits, targets):
    """The mean of -log p over the targets that are not ignored, one by one."""
    kept = [at for at in np.ndindex(targets.shape) if targets[at] != IGNORED]
    return sum(math.log(sum(math.exp(a) for a in logits[at])) - logits[at][targets[at]] for at in kept) / len(kept)


@compared()
def encoder_losses():
    """The loss of each head from its logits by loops: of pre-training the sum of two means, of an
    answer the mean of two.
    """
    found = {}
    for head in ("pretraining", "question_answering"):
        model = random_family("bert", head=head)
        batch = batch_for(model)
        out = model.forward(batch["ids"], batch["attention_mask"], batch["token_type_ids"])[0]
        if head == "pretraining":
            parts = mean_loss(out.masked_lm, batch["targets"]), mean_loss(out.next_sentence, batch["next_sentence"])
            right = sum(parts)
        else:
            right = (mean_loss(out.starts, batch["starts"]) + mean_loss(out.ends, batch["ends"])) / 2
        found[head] = model.loss(batch), right
    return found


@compared()
def classified_by_hand():
    """What is classified, from the model's own hidden states: a text by its pooled vector, a token
    by its own.
    """
    found = {}
    for head in ("sequence_classification", "token_classification"):
        model = random_family("bert", head=head)
        batch, p = batch_for(model), model.parameters
        out = model.forward(batch["ids"], batch["attention_mask"], batch["token_type_ids"])[0]
        x = out.hidden
        if head == "sequence_classification":
            x = np.tanh(x[:, 0] @ p["pooler.weight"] + p["pooler.bias"])
        found[head] = out.logits, x @ p["classifier.weight"] + p["classifier.bias"]
    return found


@compared()
def roberta_classified_by_hand():
    """The label of a text from the model's own hidden states: the first token's, through a layer
    with tanh.
    """
    model = random_family("roberta", head="sequence_classification")
    batch, p = batch_for(model), model.parameters
    out = model.forward(batch["ids"], batch["attention_mask"])[0]
    h = np.tanh(out.hidden[:, 0] @ p["classifier.dense.weight"] + p["classifier.dense.bias"])
    return {"logits": (out.logits, h @ p["classifier.out.weight"] + p["classifier.out.bias"])}


@compared(limit=0)
def positions_by_loops():
    """RoBERTa's positions with padding (1) at the right, at the left and within, counted token by
    token; and the longest text that they have room for.
    """
    ids = np.array([[4, 5, 6, 1, 1], [1, 1, 4, 5, 6], [4, 1, 5, 1, 6]])
    text, padding = np.zeros((2, *ids.shape))
    for row, tokens in enumerate(ids):
        n = 1
        for t, token in enumerate(tokens):
            n += token != 1
            text[row, t], padding[row, t] = (n, 0) if token != 1 else (0, 1)
    found = positions_of(ids, 1)
    longest = family("roberta").config_class(11, 9, 6, 1, 2).block_size
    return {
        "text": (found * (ids != 1), text),
        "padding": (found * (ids == 1), padding),
        "longest": (positions_of(np.full((1, longest), 4), 1).max(), 8),
    }


@compared()
def roberta_padding_at_the_left():
    """Hidden states of a text with padding before it against those of the text alone."""
    model = random_family("roberta")
    ids = batch_for(model)["ids"][:1, :5]
    padded = np.concatenate([[[1, 1]], ids], axis=1)
    hidden = model.forward(padded, padded != 1)[0].hidden[:, 2:]
    return {"text": (hidden, model.forward(ids)[0].hidden)}


@compared(limit=0.15)
def bert_initial_weights():
    """Standard deviation of all weights, 0.02, those that write into the residual stream too."""
    kind = family("bert")
    p = kind(kind.config_class(11, 7, 32, 8, 2), dtype=np.float64).parameters
    return {"c_proj": (p["h.3.mlp.c_proj.weight"].std(), 0.02), "c_fc": (p["h.3.mlp.c_fc.weight"].std(), 0.02)}
