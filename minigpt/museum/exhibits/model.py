"""Mistakes planted in blocks and the model."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import cached_is_uncached, golden_loss, initial_weights
from minigpt.museum.planting import Edit, gradient, other

EXHIBITS = [
    gradient(
        "residual branch round the MLP forgotten", "layers.block", "PreNormBlock.backward",
        "dx = dy + self.ln_2.backward", "dx = self.ln_2.backward", gradients.gpt, "h.1.attn.c_proj.bias",
        "gradients vanish with depth; two layers train, twelve do not",
    ),
    gradient(
        "residual branch round attention forgotten", "layers.block", "PreNormBlock.backward",
        "return dx + self.ln_1.backward", "return self.ln_1.backward", gradients.gpt, "h.0.mlp.c_proj.bias",
        "gradients vanish with depth; two layers train, twelve do not",
    ),
    gradient(
        "residual branch counted twice", "layers.block", "PreNormBlock.backward",
        "return dx + self", "return dx + dx + self", gradients.gpt, "h.0.mlp.c_proj.bias",
        "gradients double with each layer; clipping hides it",
    ),
    gradient(
        "post-norm block: the MLP's residual taken after the norm", "layers.block", "PostNormBlock.backward",
        "dx = dx + self.mlp.backward(g, dx, cache.mlp)", "dx = self.mlp.backward(g, dx, cache.mlp)",
        gradients.post_norm_block, "ln_1.bias",
        "BERT fine-tunes badly; the top layers learn, the others hardly",
    ),
    gradient(
        "dropout of the embeddings forgotten in backward", "models.gpt", "GPT.add_backward",
        "dx = dropout_backward(dx, cache.drop)", "pass", gradients.gpt, "wpe.weight",
        "embeddings get noise for a gradient as dropout rises",
    ),
    gradient(
        "caches handed to the wrong blocks", "layers.stack", "stack_backward",
        "reversed(caches)", "caches", gradients.gpt, "h.1.mlp.c_proj.bias",
        "one layer trains, two do not: the last block's gradient is taken at the first block's activations",
    ),
    gradient(
        "the position table's gradient never taken", "models.gpt", "GPT.add_backward",
        "dx = self.wpe.backward(g, dx, cache.wpe)", "pass", gradients.gpt, "wpe.weight",
        "positions stay at their random start; learns, a little worse",
    ),
    other(
        "the last LayerNorm forgotten, both ways",
        (
            Edit("models.gpt", "GPT.hidden", "self.ln_f.forward(p, x)", "(x, None)"),
            Edit("models.gpt", "GPT.add_backward", "dx = self.ln_f.backward(g, dx, cache.ln_f)", "pass"),
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "learns, less stably; a checkpoint from elsewhere gives a high loss", gradients.gpt,
    ),
    other(
        "KV cache: the new token's position off by one",
        Edit("models.generation", "CachedLogits.__call__", "len(row) - start - 1", "len(row) - start"),
        "invariance: cached = uncached", cached_is_uncached, "next tokens",
        "trains well; the first sampled token is right and later ones drift",
    ),
    other(
        "initial weights: residual projections not scaled down",
        Edit("models.gpt", "GPT.wire", "0.02 / math.sqrt(2 * c.n_layer)", "0.02"),
        "golden: GPT-2's initial deviations", initial_weights, "c_proj",
        "deep models start with a larger residual stream: slower first steps, more warm-up needed", gradients.gpt,
    ),
]  # fmt: skip
