"""The exhibits, by the file that they plant into."""

from minigpt.museum.exhibits import (
    activations,
    attention,
    beams,
    bert,
    data,
    dropout,
    embedding,
    gpt_neo,
    gradcheck,
    linear,
    loss,
    model,
    norms,
    objectives,
    optim,
    relative,
    roberta,
    sampling,
    spans,
    t5,
    training,
    unigram,
)

ROOMS = (
    norms,
    attention,
    activations,
    linear,
    embedding,
    dropout,
    loss,
    model,
    gpt_neo,
    bert,
    roberta,
    relative,
    t5,
    training,
    optim,
    data,
    objectives,
    spans,
    sampling,
    beams,
    unigram,
    gradcheck,
)
EXHIBITS = [exhibit for room in ROOMS for exhibit in room.EXHIBITS]
GRADIENT_EXHIBITS = [exhibit for exhibit in EXHIBITS if exhibit.by_gradient]
OTHER_EXHIBITS = [exhibit for exhibit in EXHIBITS if not exhibit.by_gradient]
