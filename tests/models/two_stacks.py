"""A model of two stacks wired from layers/:
an encoder and a decoder that reads it, each with one relative bias for all its layers.
"""

from dataclasses import dataclass, replace

import numpy as np

from minigpt import layers as L
from minigpt.models.base import Model, count_parameters
from minigpt.models.generation import DecodingState
from minigpt.ops import cross_entropy_backward, cross_entropy_forward

REACH = 4  # distances beyond it share a bias


@dataclass(frozen=True)
class TwoStacksConfig:
    vocab_size: int = 11
    layers: int = 2
    heads: int = 3
    channels: int = 6
    dropout: float = 0.2

    @property
    def num_parameters(self):
        return count_parameters(lambda n: TwoStacks.wire(replace(self, layers=n)), self.layers)


class TwoStacks(Model):
    model_type, config_class = "two_stacks", TwoStacksConfig

    @staticmethod
    def wire(config):
        C, H, more = config.channels, config.heads, {"dropout": config.dropout, "bias": False}

        def block(name, **only_here):
            return {
                "ln_1": L.RMSNorm(f"{name}.ln_1", C),
                "attn": L.Attention(f"{name}.attn", C, H, scale=1.0, **more, **only_here),
                "ln_2": L.RMSNorm(f"{name}.ln_2", C),
                "mlp": L.MLP(f"{name}.mlp", C, 7, **more),
            }

        def reading(name):
            cross = L.CrossAttention(f"{name}.cross", C, H, memory_channels=C, scale=1.0, **more)
            return {"ln_cross": L.RMSNorm(f"{name}.ln_cross", C), "cross": cross}

        encoder, decoder = ([f"{stack}.{i}" for i in range(config.layers)] for stack in ("encoder", "decoder"))
        wte = L.Embedding("wte", config.vocab_size, C)
        return {
            "wte": wte,
            "biases": [L.Embedding(f"{stack}.bias", 2 * REACH + 1, H) for stack in ("encoder", "decoder")],
            "encoder": [L.PreNormBlock(**block(name)) for name in encoder],
            "decoder": [L.DecoderBlock(**block(name, causal=True), **reading(name)) for name in decoder],
            "norms": [L.RMSNorm(f"{stack}.norm", C) for stack in ("encoder", "decoder")],
            "head": L.TiedHead("head", wte),
        }

    def run(self, which, ids, rng, shared, *, state=None, keep="activations"):
        """Stack 0, the encoder, or 1, the decoder
        -> y (B, T, C), caches. With a state, ids are the newest of its texts.
        """
        x, wte = self.wte.forward(self.store, ids)
        start, kv = (state.length, list(zip(state.kv, state.memory_kv))) if state else (0, None)
        distance = np.arange(start + ids.shape[1]) - np.arange(start, start + ids.shape[1])[:, None]
        bias, bias_cache = self.biases[which].forward(self.store, np.clip(distance, -REACH, REACH) + REACH)  # (T, S, H)
        shared = shared._replace(bias=bias.transpose(2, 0, 1)[None])
        x, blocks = L.stack_forward(
            (self.encoder, self.decoder)[which], self.store, x, rng, shared=shared, kv=kv, keep=keep
        )
        x, norm = self.norms[which].forward(self.store, x)
        return x, (wte, bias_cache, shared, blocks, norm)

    def run_backward(self, which, g, dx, cache):
        """-> the memory's gradient."""
        wte, bias, shared, blocks, norm = cache
        dshared = L.SharedGradients.zeros_like(shared)
        dx = self.norms[which].backward(g, dx, norm)
        dx = L.stack_backward((self.encoder, self.decoder)[which], g, dx, blocks, dshared)
        self.biases[which].backward(g, dshared.bias[0].transpose(1, 2, 0), bias)
        self.wte.backward(g, dx, wte)
        return dshared.memory

    def loss(self, batch, rng=None):
        return self.add_gradients(None, batch, rng=rng, keep="nothing")

    def add_gradients(self, g, batch, targets=None, rng=None, *, counts=None, keep="activations"):
        mask = batch["attention_mask"]
        memory, encoder = self.run(0, batch["ids"], rng, L.Shared(key_mask=mask), keep=keep)
        x, decoder = self.run(1, batch["decoder_input_ids"], rng, L.Shared(memory=memory, memory_mask=mask), keep=keep)
        logits, head = self.head.forward(self.store, x)
        loss, loss_cache = cross_entropy_forward(logits, batch["targets"], counts and counts["targets"])
        if g is not None:
            dx = self.head.backward(g, cross_entropy_backward(1.0, loss_cache), head)
            self.run_backward(0, g, self.run_backward(1, g, dx, decoder), encoder)
        return loss

    def decoding_state(self, rows, source, target):
        """Room for `target` new tokens of `rows` texts, and for a memory of `source`."""
        kinds = [("attn", target), ("cross", source)]
        return DecodingState(*([getattr(b, k).kv_cache(rows, n, self.dtype) for b in self.decoder] for k, n in kinds))
