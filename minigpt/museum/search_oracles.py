"""Beam search and penalties by loops over all texts. Each is a function of nothing to a Finding.

Shapes: B texts, V vocabulary.
"""

import functools
import itertools
import math

import numpy as np

from minigpt.museum.checks import random_batch, random_model
from minigpt.museum.families import batch_for, random_family
from minigpt.museum.oracles import compared
from minigpt.museum.planting import replaced

STOP, V, LONGEST = 0, 3, 3


def next_logits(rows, origins=None):
    """Logits of a model that looks at its row's sum and length."""
    return np.array([np.sin(np.arange(1, V + 1) * (3 * np.sum(row) + 2 * len(row) + 1)) * 2 for row in rows])


def log_p(text, prompt):
    """The sum of log p of a text's tokens, one by one."""
    total, row = 0.0, list(prompt)
    for token in text:
        logits = next_logits([row])[0]
        total += logits[token] - math.log(sum(math.exp(a) for a in logits))
        row.append(token)
    return total


def all_texts():
    """Those that end: with the stop token, or after LONGEST tokens."""
    for n in range(1, LONGEST + 1):
        for text in itertools.product(range(V), repeat=n):
            if STOP not in text[:-1] and (text[-1] == STOP or n == LONGEST):
                yield text


@compared()
def beam_search_by_loops():
    """Beam search with as many beams as there are texts against all of them, scored and sorted;
    with two length penalties, and the sums of log p apart.
    """
    from minigpt.beams import Beams, beam_search

    prompts, found = [np.array([1, 2]), np.array([2])], {}
    for penalty in (0.5, 2.0):
        beams = Beams(num_beams=20, num_return_sequences=5, length_penalty=penalty, early_stopping="never", stop=STOP)
        scores, sums, right, right_sums = [], [], [], []
        for prompt, best in zip(prompts, beam_search(next_logits, prompts, LONGEST, beams)):
            scores += [one.score for one in best]
            sums += [one.score * len(one.ids) ** penalty for one in best]
            right_sums += [log_p(one.ids.tolist(), prompt) for one in best]
            right += sorted((log_p(text, prompt) / len(text) ** penalty for text in all_texts()), reverse=True)[:5]
        found |= {f"scores, {penalty}": (scores, right), f"sums, {penalty}": (sums, right_sums)}
    return {
        "scores": tuple(np.concatenate([found[f"scores, {p}"][i] for p in (0.5, 2.0)]) for i in (0, 1)),
        "sums": tuple(np.concatenate([found[f"sums, {p}"][i] for p in (0.5, 2.0)]) for i in (0, 1)),
    }


@compared()
def beams_cached():
    """Beams with a KV cache against without: the scores of a GPT's best texts."""
    from minigpt.beams import Beams, beam_search
    from minigpt.models.generation import next_logits_of

    model, (ids, _) = random_model(), random_batch()
    beams = Beams(num_beams=4, num_return_sequences=4)
    scores = [
        [one.score for text in beam_search(next_logits_of(model, cached), list(ids[:, :2]), 5, beams) for one in text]
        for cached in (True, False)
    ]
    return {"scores": tuple(scores)}


@compared(limit=0)
def t5_beams_cached(fast=True):
    """Texts that a T5 writes of several sources, with keys and values kept and without; fast: by
    the fast path, or by the layers themselves.
    """
    model = random_family("t5", num_layers=1)
    batch = batch_for(model)
    settings = {"attention_mask": batch["attention_mask"], "num_beams": 3, "stop": []}
    with replaced(type(model), "fast_decoder", type(model).fast_decoder if fast else None):
        found = [model.generate(batch["ids"], 5, use_cache=kept, **settings) for kept in (True, False)]
    return {"texts": tuple(found)}


t5_beams_cached_by_layers = functools.partial(t5_beams_cached, fast=False)


@compared()
def penalty_by_loops():
    """Logits of tokens that a row has, divided where they are positive, multiplied where not, once
    whatever their number.
    """
    from minigpt.sampling import penalised

    logits = np.array([[1.0, -2.0, 0.5, -0.25], [-1.0, 3.0, 0.75, 2.0]])
    rows, right = [np.array([0, 1, 1, 0]), np.array([0, 3])], logits.copy()
    for b, row in enumerate(rows):
        for token in set(row.tolist()):
            right[b, token] = logits[b, token] / 1.3 if logits[b, token] > 0 else logits[b, token] * 1.3
    found = penalised(logits, rows, 1.3)
    return {
        "positive": (found[logits > 0], right[logits > 0]),
        "negative": (found[logits < 0], right[logits < 0]),
    }
