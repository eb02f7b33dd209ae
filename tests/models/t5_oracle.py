"""T5 of `transformers` with random weights, and its tensors under the names here; a table of its
own, so that it also checks minigpt.hub's.
"""

import re

import numpy as np
import torch
import transformers
from encoder_oracle import Pattern
from transformers.models.t5 import modeling_t5

from minigpt import T5, T5Config

B, S, T, V, C, D, H, F, LAYERS, DECODER_LAYERS = 4, 9, 7, 19, 10, 6, 3, 14, 2, 3
SIZES = {"vocab_size": V, "d_model": C, "d_kv": D, "d_ff": F, "num_heads": H, "num_layers": LAYERS}
SIZES |= {"num_decoder_layers": DECODER_LAYERS, "layer_norm_epsilon": 1e-5, "decoder_start_token_id": 2}
# four buckets a side: distances 0 and 1 exact, 2 and 3, 4 and beyond
SIZES |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6, "pad_token_id": 3}
__all__ = ["Pattern", "modeling_t5"]  # beside what is defined here
CASTS = ("variance = hidden_states.to(torch.float32).pow(2)",)  # its softmax casts no more
VERSIONS = {  # name -> settings of ours
    "1.0": {},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_embeddings": False},
    "tied, not scaled": {"feed_forward_proj": "gated-silu", "scale_decoder_outputs": False},
    "untied, scaled": {"feed_forward_proj": "gelu", "tie_embeddings": False, "scale_decoder_outputs": True},
}
RENAMED = [  # from, to
    (r"shared", "wte"),
    (r"(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias", r"\1.bias"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkv])", r"\1.h.\2.attn.c_attn.\3"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.0\.SelfAttention\.o", r"\1.h.\2.attn.c_proj"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.0\.layer_norm", r"\1.h.\2.ln_1"),
    (r"decoder\.block\.(\d+)\.layer\.1\.EncDecAttention\.q", r"decoder.h.\1.cross.q_attn"),
    (r"decoder\.block\.(\d+)\.layer\.1\.EncDecAttention\.([kv])", r"decoder.h.\1.cross.c_attn.\2"),
    (r"decoder\.block\.(\d+)\.layer\.1\.EncDecAttention\.o", r"decoder.h.\1.cross.c_proj"),
    (r"decoder\.block\.(\d+)\.layer\.1\.layer_norm", r"decoder.h.\1.ln_cross"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.\d\.DenseReluDense\.wi_0", r"\1.h.\2.mlp.c_gate"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.\d\.DenseReluDense\.wi(_1)?", r"\1.h.\2.mlp.c_fc"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.\d\.DenseReluDense\.wo", r"\1.h.\2.mlp.c_proj"),
    (r"(encoder|decoder)\.block\.(\d+)\.layer\.[12]\.layer_norm", r"\1.h.\2.ln_2"),
    (r"(encoder|decoder)\.final_layer_norm", r"\1.ln_f"),
]
TABLES = ("wte", "encoder.bias", "decoder.bias")
THEIR_ARGUMENTS = {"ids": "input_ids", "targets": "labels"}


def make_pair(rng, *, dropout=0.0, tie_embeddings=True, scale_decoder_outputs=None, **settings):
    """Their model and ours, in float64, with the same weights, normal(0, 0.5)."""
    sizes = SIZES | settings
    scaled = tie_embeddings if scale_decoder_outputs is None else scale_decoder_outputs
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, dropout_rate=dropout, scale_decoder_outputs=scaled, attn_implementation="eager")
    ).double()
    if not tie_embeddings:  # as a v1.1 file has it: this version of transformers ties every model that it makes
        theirs.lm_head.weight = torch.nn.Parameter(torch.zeros(V, C, dtype=torch.float64))
    theirs.train(dropout > 0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(0.5 * rng.standard_normal(tuple(parameter.shape))))
    tied = {"tie_embeddings": tie_embeddings, "scale_decoder_outputs": scale_decoder_outputs}
    ours = T5(T5Config(**sizes, dropout=dropout, **tied), dtype=np.float64)
    weights = under_our_names({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    for name, value in ours.parameters.items():
        value[...] = weights.pop(name)
    assert not weights
    return theirs, ours


def under_our_names(tensors):
    """Their name -> array, as the names and in the layout that are ours."""
    found, parts = {}, {}
    for name, value in tensors.items():
        name = name.removesuffix(".weight")
        for pattern, ours in RENAMED:
            if re.fullmatch(pattern, name):
                name = re.sub(pattern, ours, name)
                break
        value = value.T if value.ndim == 2 and name not in TABLES else value
        name, _, part = name.partition(".c_attn.")
        if part:
            parts.setdefault(f"{name}.c_attn.weight", {})[part] = value
        else:
            found[f"{name}.weight"] = value
    for name, several in parts.items():
        found[name] = np.concatenate([several[part] for part in "qkv" if part in several], axis=-1)
    return found


def random_batch(rng):
    """Texts with padding at both sides and at none, in source and target, and some targets
    ignored.
    """
    ids, decoder_ids, targets = (rng.integers(4, V, (B, n)) for n in (S, T, T))
    mask, decoder_mask = np.ones((B, S), np.int64), np.ones((B, T), np.int64)
    mask[0, -2:] = mask[1, :3] = mask[3, 0] = mask[3, -1] = 0
    decoder_mask[0, :2] = decoder_mask[1, -3:] = decoder_mask[2, 0] = decoder_mask[2, -1] = 0
    ids[mask == 0] = decoder_ids[decoder_mask == 0] = SIZES["pad_token_id"]
    targets[decoder_mask == 0] = targets[3, 2] = -100
    return {"ids": ids, "attention_mask": mask, "decoder_input_ids": decoder_ids,
            "decoder_attention_mask": decoder_mask, "targets": targets}  # fmt: skip


def their_loss(theirs, batch):
    """What their model makes of a batch: its output object."""
    return theirs(**{THEIR_ARGUMENTS.get(name, name): torch.tensor(value) for name, value in batch.items()})


def their_gradients(theirs):
    """The gradients of their parameters, as ours are called."""
    return under_our_names({name: p.grad.numpy() for name, p in theirs.named_parameters()})
