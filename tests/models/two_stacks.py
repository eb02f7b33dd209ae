"""A model of two stacks wired from layers/: an encoder and a decoder that reads it, each with one relative bias for all its layers.

Shapes: B batch, S source, T target, C channels, H heads, V vocabulary.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minigpt.layers import (
    MLP,
    Attention,
    CrossAttention,
    DecoderBlock,
    Embedding,
    PreNormBlock,
    RMSNorm,
    Shared,
    SharedGradients,
    TiedHead,
    stack_backward,
    stack_forward,
)
from minigpt.models.base import Model, count_parameters
from minigpt.models.generation import DecodingState
from minigpt.ops import cross_entropy_backward, cross_entropy_forward


@dataclass(frozen=True)
class Config:
    vocab_size: int = 11
    layers: int = 2
    heads: int = 3
    channels: int = 6
    reach: int = 4  # distances beyond it share a bias
    dropout: float = 0.2

    @property
    def num_parameters(self):
        return count_parameters(lambda n: TwoStacks.wire(Config(**vars(self) | {"layers": n})), self.layers)


class Stack(NamedTuple):
    bias: object  # EmbeddingCache of the relative bias
    shared: Shared
    blocks: list
    norm: object


class Cache(NamedTuple):
    source: object
    encoder: Stack
    target: object
    decoder: Stack
    head: object


class TwoStacks(Model):
    model_type = "two_stacks"

    @staticmethod
    def wire(config):
        C, H, more = config.channels, config.heads, {"dropout": config.dropout, "bias": False}
        wte, (enc, dec) = Embedding("wte", config.vocab_size, C), [[f"{s}.{i}" for i in range(config.layers)] for s in ("encoder", "decoder")]
        encoder = [
            PreNormBlock(RMSNorm(f"{n}.ln_1", C), Attention(f"{n}.attn", C, H, scale=1.0, **more), RMSNorm(f"{n}.ln_2", C), MLP(f"{n}.mlp", C, 7, **more))
            for n in enc
        ]
        decoder = [
            DecoderBlock(
                RMSNorm(f"{n}.ln_1", C), Attention(f"{n}.attn", C, H, causal=True, scale=1.0, **more),
                RMSNorm(f"{n}.ln_cross", C), CrossAttention(f"{n}.cross", C, H, memory_channels=C, scale=1.0, **more),
                RMSNorm(f"{n}.ln_2", C), MLP(f"{n}.mlp", C, 8, **more),
            )
            for n in dec
        ]  # fmt: skip
        biases = [Embedding(f"{stack}.bias", 2 * config.reach + 1, H) for stack in ("encoder", "decoder")]
        norms = [RMSNorm(f"{stack}.norm", C) for stack in ("encoder", "decoder")]
        return {"wte": wte, "biases": biases, "encoder": encoder, "decoder": decoder, "norms": norms, "head": TiedHead("head", wte)}

    def run(self, which, x, rng, shared, *, state=None, keep="activations"):
        """One stack: 0 the encoder, 1 the decoder -> y, Stack. With a state, x are the newest of its texts."""
        new, start = x.shape[1], state.length if state else 0
        distance = np.clip(np.arange(start + new) - np.arange(start, start + new)[:, None], -self.config.reach, self.config.reach)
        bias, bias_cache = self.biases[which].forward(self.store, distance + self.config.reach)  # (T, S, H)
        shared = shared._replace(bias=bias.transpose(2, 0, 1)[None])
        blocks = self.decoder if which else self.encoder
        x, caches = stack_forward(blocks, self.store, x, rng, shared=shared, kv=state and state.kv, keep=keep)
        x, norm = self.norms[which].forward(self.store, x)
        return x, Stack(bias_cache, shared, caches, norm)

    def run_backward(self, which, g, dx, cache):
        """-> dx, the memory's gradient."""
        dshared = SharedGradients.zeros_like(cache.shared)
        dx = self.norms[which].backward(g, dx, cache.norm)
        dx = stack_backward(self.decoder if which else self.encoder, g, dx, cache.blocks, dshared)
        self.biases[which].backward(g, dshared.bias[0].transpose(1, 2, 0), cache.bias)
        return dx, dshared.memory

    def forward(self, ids, decoder_input_ids, attention_mask=None, rng=None, *, keep="activations"):
        """ids (B, S), decoder_input_ids (B, T), attention_mask (B, S) -> logits (B, T, V), Cache."""
        x, source = self.wte.forward(self.store, ids)
        memory, encoder = self.run(0, x, rng, Shared(key_mask=attention_mask), keep=keep)
        x, target = self.wte.forward(self.store, decoder_input_ids)
        x, decoder = self.run(1, x, rng, Shared(memory=memory, memory_mask=attention_mask), keep=keep)
        logits, head = self.head.forward(self.store, x)
        return logits, Cache(source, encoder, target, decoder, head)

    def add_backward(self, g, dlogits, cache):
        dx, dmemory = self.run_backward(1, g, self.head.backward(g, dlogits, cache.head), cache.decoder)
        self.wte.backward(g, dx, cache.target)
        dx, _ = self.run_backward(0, g, dmemory, cache.encoder)
        self.wte.backward(g, dx, cache.source)

    def loss(self, batch, rng=None):
        logits, _ = self.forward(batch["ids"], batch["decoder_input_ids"], batch["attention_mask"], rng)
        return cross_entropy_forward(logits, batch["targets"])[0]

    def add_gradients(self, g, batch, targets=None, rng=None, *, count=None, keep="activations"):
        logits, cache = self.forward(batch["ids"], batch["decoder_input_ids"], batch["attention_mask"], rng, keep=keep)
        loss, loss_cache = cross_entropy_forward(logits, batch["targets"], count)
        self.add_backward(g, cross_entropy_backward(1.0, loss_cache), cache)
        return loss

    def decoding_state(self, rows, source, target):
        """Room for `target` new tokens of `rows` texts, and for a memory of `source`."""
        return DecodingState([(b.attn.kv_cache(rows, target, self.dtype), b.cross.kv_cache(rows, source, self.dtype)) for b in self.decoder])
