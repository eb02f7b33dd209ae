"""GPT-Neo against GPT-2. It has no paper: transformers' gpt_neo defines it."""

from minigpt.explain.family import Family, Line

LINES = (
    Line(
        "attention",
        "a token sees all before it: s <= t",
        "every other block sees the last 256 tokens: 0 <= t - s < window",
        "w = 0 outside the band: dk[s] and dv[s] gather from the queries s .. s + window - 1 alone",
        "ops.attention.position_penalty",
        "attention: the band off by one",
    ),
    Line(
        "blocks",
        "all blocks are alike",
        "blocks 0, 2, 4, ... see the whole text, 1, 3, 5, ... the window",
        "through an odd block no gradient goes farther back than the window",
        "models.gpt_neo.GPTNeoConfig.window",
        "GPT-Neo: the first block local, not global",
    ),
    Line(
        "scores",
        "scores = q k^T / sqrt(D)",
        "scores = q k^T",
        "dq = dscores k and dk = dscores^T q, without a factor",
        "models.gpt_neo.GPTNeo.wire",
        "GPT-Neo: scores divided by sqrt(D), both ways",
    ),
    Line(
        "q, k, v",
        "q, k, v = split(x @ c_attn + b)",
        "q, k, v = split(x @ c_attn)",
        "no db of q, k and v; that of k is 0 in theory in any case: a constant in all keys shifts all scores alike",
        "models.gpt_neo.GPTNeo.wire",
        "GPT-Neo: biases for q, k and v",
    ),
    Line(
        "MLP width",
        "inside of it, 4 C channels",
        "intermediate_size channels, 4 C unless given",
        "the shapes of dW1 and dW2, (C, F) and (F, C), and nothing else",
        "models.gpt_neo.GPTNeo.wire",
        "GPT-Neo: an intermediate_size of its own ignored",
    ),
    Line(
        "initial weights",
        "0.02 / sqrt(2 n_layer) for what writes into x",
        "normal(0, 0.02), all of them",
        "x and its gradient start larger the deeper the model is",
        "models.gpt_neo.GPTNeo.wire",
        "GPT-Neo: residual projections scaled down as GPT-2's",
    ),
)


def size(num_layers, num_heads, hidden_size):
    """One of EleutherAI's sizes."""
    sizes = {"num_layers": num_layers, "num_heads": num_heads, "hidden_size": hidden_size}
    return {"vocab_size": 50257, "max_position_embeddings": 2048, **sizes}


FAMILY = Family(
    name="gpt_neo",
    model_type="gpt_neo",
    title="GPT-Neo",
    source="Black et al. 2021, EleutherAI; its layers alternate as GPT-3's do, arXiv:2005.14165",
    against="GPT-2",
    lines=LINES,
    blocks=("num_layers",),
    sizes={
        "gpt-neo-125m": size(12, 12, 768),
        "gpt-neo-1.3B": size(24, 16, 2048),
        "gpt-neo-2.7B": size(32, 20, 2560),
    },
    loss="cross-entropy of the next token",
)
