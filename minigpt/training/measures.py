"""What a validation split says of a model: its loss, term by term, and what else is measured."""

import math

import numpy as np

from minigpt.training.step import counts_of, evaluate, evaluate_terms


def measure(model, objective, tokens, *, rows, workers, text_bytes=None):
    """The validation loss of a model and what belongs to it -> float, dict by name for
    metrics.jsonl.

    rows: of a batch; text_bytes: of the UTF-8 text of tokens, for the loss in bits per byte, which
    can be compared whatever the vocabulary:

        bits_per_byte = loss / log 2 * tokens / bytes

    The terms of a loss that has names for them (objective.terms) stand by themselves, and beside
    that of the next sentence the share of rows in which the model was right about it; so do kinds
    of targets that an objective tells apart (objective.parts).
    """
    batches = list(objective.walk(tokens, rows))
    if hasattr(objective, "parts"):
        loss, found = losses_apart(model, objective, batches, workers)
    else:
        terms = evaluate_terms(model, batches, workers)
        loss = sum(terms.values())
        found = {name: terms[array] for array, name in objective.terms.items()}
    if "next_sentence" in objective.terms:
        found["next_sentence_accuracy"] = next_sentence_accuracy(model, batches, workers)
    if text_bytes:
        found["bits_per_byte"] = loss / math.log(2) * len(tokens) / text_bytes
    return loss, found


def losses_apart(model, objective, batches, workers):
    """The mean loss over all targets of some batches, and over each kind that the objective tells
    apart: float, dict of kind -> nats.
    """
    apart = [objective.parts(batch) for batch in batches]
    kinds = {kind: [parts[kind] for parts in apart] for kind in apart[0]}
    counts = {kind: counts_of(parts)["targets"] for kind, parts in kinds.items()}
    losses = {kind: evaluate(model, parts, workers) for kind, parts in kinds.items()}
    return sum(losses[kind] * counts[kind] for kind in kinds) / sum(counts.values()), losses


def next_sentence_accuracy(model, batches, workers):
    """The share of rows in which a model says rightly whether the second segment follows the
    first -> float.
    """

    def right(batch):
        out, _ = model.forward(batch["ids"], token_type_ids=batch["token_type_ids"], keep="nothing")
        return int(np.count_nonzero(out.next_sentence.argmax(axis=1) == batch["next_sentence"]))

    with workers.one_blas_thread():
        return sum(workers.map(right, batches)) / sum(batch.rows for batch in batches)


def described(measures):
    """Measures in words, behind a loss: ", 2.3411 bits per byte" or " (masked lm 4.1, ...)"."""
    measures = dict(measures)
    bits = measures.pop("bits_per_byte", None)
    parts = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in measures.items())
    return (f" ({parts})" if parts else "") + ("" if bits is None else f", {bits:.4f} bits per byte")


def uniform_loss(objective, vocab_size):
    """The loss of a guess that gives all answers the same probability: log V, and log 2 where the
    next sentence is asked for.
    """
    return math.log(vocab_size) + ("next_sentence" in objective.terms) * math.log(2)
