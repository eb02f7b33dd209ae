"""GPT-2 against the first transformer's decoder (Vaswani et al. 2017, arXiv:1706.03762).

Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3.
"""

from minigpt.explain.family import Family, Line

LINES = (
    Line(
        "attention",
        "a decoder reads itself through a causal mask, and an encoder's memory",
        "the decoder alone: a[t] = sum over s <= t of w[t, s] v[s]",
        "w[t, s] = 0 for s > t, so dscores = w * (dw - rowsum(dw * w)) is 0 there: no gradient flows to the future",
        "ops.attention.position_penalty",
        "attention: the causal mask off by one",
    ),
    Line(
        "q, k, v",
        "three matrices a head, without biases",
        "one matrix for all heads: q, k, v = split(x @ c_attn + b)",
        "dq, dk, dv are written into one array, in this order, and go through one linear_backward: dx = dqkv @ W^T",
        "layers.attention.Attention.backward",
        "gradients of q, k and v in the wrong order",
    ),
    Line(
        "biases",
        "in the MLP alone",
        "in every linear map: y = x @ W + b",
        "db = sum of dy over all rows, B T of them: a sum, no mean",
        "ops.linear.linear_backward",
        "linear: the bias's gradient a mean over rows",
    ),
    Line(
        "norms",
        "post-norm: x = ln(x + f(x))",
        "pre-norm: x = x + f(ln(x))",
        "dx = dy + ln.backward(f.backward(dy)): dy itself passes on, through no norm, from the loss to the embeddings",
        "layers.block.PreNormBlock.backward",
        "residual branch round the MLP forgotten",
    ),
    Line(
        "final norm",
        "none: each block ends with a norm",
        "x = ln_f(x) once, before the head",
        "dx = ln_f.backward(dx) once, before the blocks",
        "models.gpt.GPT.hidden",
        "the last LayerNorm forgotten, both ways",
    ),
    Line(
        "MLP",
        "relu(x) = max(x, 0)",
        "GELU, tanh form: x s, s = (1 + tanh(u)) / 2, u = sqrt(2/pi) (x + 0.044715 x^3)",
        "dx = dy (s + 2 x s (1 - s) u'), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)",
        "ops.activations.gelu_tanh_backward",
        "GELU (tanh): the factor 3 of the cube's slope forgotten",
    ),
    Line(
        "positions",
        "sines and cosines, nothing learned",
        "a learned row each: x[b, t] = x[b, t] + wpe[t]",
        "dwpe[t] = sum over b of dx[b, t]: over the batch, not over time; rows past T get 0",
        "ops.positions.learned_positions_backward",
        "positions: gradient summed over time as well",
    ),
    Line(
        "tokens",
        "x = sqrt(C) wte[ids]",
        "x = wte[ids]",
        "dwte[i] = sum of dx[b, t] where ids[b, t] = i, without a factor",
        "layers.embedding.Embedding.forward",
        "token vectors multiplied by sqrt(C), both ways",
    ),
    Line(
        "dropout",
        "on x after the embeddings and on what a layer adds",
        "on the attention weights as well: y = (w * m) v, m = 0 or 1 / (1 - p)",
        "dv = (w * m)^T dy, dw = m * (dy v^T): the same m, kept from forward or drawn again from its seed",
        "ops.attention.attention_backward",
        "attention: dropout forgotten in dv",
    ),
    Line(
        "loss",
        "label smoothing: targets of 0.9 and 0.1 / V",
        "loss = mean of -log p[target]",
        "dlogits = (p - one_hot(target)) / count: exactly 1 is subtracted",
        "ops.loss.cross_entropy_backward",
        "loss: label smoothing left in backward, 0.001 of it",
    ),
    Line(
        "initial weights",
        "by fan-in and fan-out (Xavier)",
        "normal(0, 0.02), and 0.02 / sqrt(2 n_layer) for what writes into x",
        "2 n_layer branches add up to a variance that does not grow with depth, nor does the gradient's",
        "models.gpt.GPT.wire",
        "initial weights: residual projections not scaled down",
    ),
)


def size(n_layer, n_head, n_embd):
    """One of the sizes of the report's table 2."""
    return {"vocab_size": 50257, "block_size": 1024, "n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}


FAMILY = Family(
    name="gpt2",
    model_type="gpt",
    title="GPT-2",
    source="Radford et al. 2019, Language models are unsupervised multitask learners",
    against="the first transformer's decoder",
    lines=LINES,
    blocks=("n_layer",),
    sizes={
        "gpt2": size(12, 12, 768),
        "gpt2-medium": size(24, 16, 1024),
        "gpt2-large": size(36, 20, 1280),
        "gpt2-xl": size(48, 25, 1600),
    },
    loss="cross-entropy of the next token",
)
