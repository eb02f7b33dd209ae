"""Mistakes planted in embeddings, heads and positions."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import golden_loss
from minigpt.museum.planting import Edit, gradient, other

EXHIBITS = [
    gradient(
        "embedding: dweight[ids] = rows, the last of equal ids wins", "ops.embedding", "embedding_backward",
        "dweight[sorted_ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)", "dweight[ids.ravel()] = rows",
        gradients.embedding, "embedding.weight",
        "frequent tokens learn as slowly as rare ones",
    ),
    gradient(
        "embedding: dweight[ids] += rows, which adds one of equal ids", "ops.embedding", "embedding_backward",
        "dweight[sorted_ids[starts]] = np.add.reduceat(rows[order], starts, axis=0)", "dweight[ids.ravel()] += rows",
        gradients.embedding, "embedding.weight",
        "frequent tokens learn as slowly as rare ones",
    ),
    gradient(
        "embedding: the gradient averaged over a token's occurrences", "ops.embedding", "embedding_backward",
        "np.add.reduceat(rows[order], starts, axis=0)",
        "np.add.reduceat(rows[order], starts, axis=0) / np.diff(starts, append=len(rows))[:, None]",
        gradients.embedding, "embedding.weight",
        "frequent tokens learn as slowly as rare ones",
    ),
    other(
        "token vectors multiplied by sqrt(C), both ways",
        (
            Edit(
                "layers.embedding", "Embedding.forward", "return embedding_forward(ids, p[self.weight.name])",
                "y, cache = embedding_forward(ids, p[self.weight.name])\n    return y * y.shape[-1] ** 0.5, cache",
            ),
            Edit(
                "layers.embedding", "Embedding.backward",
                "embedding_backward(dy,", "embedding_backward(dy * dy.shape[-1] ** 0.5,",
            ),
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "positions drown in the tokens: the first transformer's factor needs its initialisation", gradients.gpt,
    ),
    gradient(
        "head: the vocabulary's last row left out of dx", "ops.embedding", "unembedding_backward",
        "(rows @ weight)", "(rows[:, :-1] @ weight[:-1])", gradients.unembedding, "unembedding.x",
        "hidden states never learn to avoid one token",
    ),
    gradient(
        "tied head: its gradient lost, the embedding's written over it", "layers.embedding", "Embedding.backward",
        "] += embedding_backward", "] = embedding_backward", gradients.gpt, "wte.weight",
        "the loss falls slowly and stops high: the output side of the table never learns",
    ),
    gradient(
        "tied head: its gradient never added", "layers.embedding", "TiedHead.backward",
        "+= dweight", "+= 0 * dweight", gradients.gpt, "wte.weight",
        "the loss falls slowly and stops high: the output side of the table never learns",
    ),
    gradient(
        "rotary positions: backward turns the same way as forward", "ops.positions", "rotary_backward",
        "-cache.sin", "cache.sin", gradients.rotary, "rotary.x",
        "queries and keys learn for a token at another place; loss falls, but stays above that of no positions at all",
    ),
    gradient(
        "positions: gradient summed over time as well", "ops.positions", "learned_positions_backward",
        "column_sum(dy.reshape(B, T * C)).reshape(T, C)", "np.ones((T, 1), dy.dtype) * dy.sum(axis=(0, 1))",
        gradients.positions, "learned_positions.weight",
        "all positions learn the same vector: the model cannot tell where it stands",
    ),
    gradient(
        "positions: gradient of the first batch row only", "ops.positions", "learned_positions_backward",
        "column_sum(dy.reshape(B, T * C)).reshape(T, C)", "dy[0]", gradients.positions, "learned_positions.weight",
        "positions learn B times too slowly and more noisily; Adam hides half of it",
    ),
    gradient(
        "positions: gradient a mean over the batch", "ops.positions", "learned_positions_backward",
        ".reshape(T, C)", ".reshape(T, C) / B", gradients.positions, "learned_positions.weight",
        "positions learn B times too slowly under SGD; Adam hides it",
    ),
    other(
        "positions: counted from 1",
        Edit(
            "ops.positions", "learned_positions_forward",
            "np.arange(x.shape[1])", "np.arange(1, x.shape[1] + 1) % len(weight)",
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none in training from scratch; a checkpoint from elsewhere is a little worse", gradients.positions,
    ),
    gradient(
        "smear: what a token gave to the next one not paid back to it", "ops.smear", "smear_backward",
        "dx[:, :-1] += dbefore", "pass", gradients.smear, "smear.x",
        "learns a little worse: embeddings do not hear what the next token made of them",
    ),
    gradient(
        "smear: the gradient handed on to the next token in place of the one before", "ops.smear", "smear_backward",
        "dx[:, :-1] += dbefore", "dx[:, 1:] += dbefore", gradients.smear, "smear.x",
        "learns a little worse: embeddings are blamed for what follows the token after them",
    ),
]  # fmt: skip
