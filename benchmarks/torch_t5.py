"""The same T5 in PyTorch, for benchmarks to compare with: q, k and v are one product, those of the
memory another, and so are both matrices of a gated MLP; weights are (out, in).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_gpt import adamw


def buckets(distance, both_ways, count, most):
    """The bucket of each key by its distance from a query (Raffel et al. 2019, section 2.1)."""
    first = torch.zeros_like(distance)
    if both_ways:
        count //= 2
        first = (distance > 0).long() * count
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = count // 2
    far = torch.log(distance.clamp(min=1) / exact) / math.log(most / exact) * (count - exact)
    return first + torch.where(distance < exact, distance, (exact + far.long()).clamp(max=count - 1))


class Attention(nn.Module):
    """Attention without a scale or biases; of a memory where one is given."""

    def __init__(self, config, crossing=False):
        super().__init__()
        self.heads, width = config.num_heads, config.num_heads * config.d_kv
        self.first = nn.Linear(config.d_model, width if crossing else 3 * width, bias=False)
        self.of_memory = nn.Linear(config.d_model, 2 * width, bias=False) if crossing else None
        self.out = nn.Linear(width, config.d_model, bias=False)

    def forward(self, x, bias=None, memory=None):
        """x (B, T, C), bias (1, H, T, S) -> (B, T, C)."""

        def split(y, parts):
            return y.view(*y.shape[:2], parts, self.heads, -1).permute(2, 0, 3, 1, 4)

        if memory is None:
            q, k, v = split(self.first(x), 3)
        else:
            (q,), (k, v) = split(self.first(x), 1), split(self.of_memory(memory), 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.out(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """ReLU, or GELU of one half times the other, without biases."""

    def __init__(self, config):
        super().__init__()
        self.gated = config.feed_forward_proj.startswith("gated")
        self.first = nn.Linear(config.d_model, (1 + self.gated) * config.d_ff, bias=False)
        self.out = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x):
        """x (B, T, C) -> (B, T, C)."""
        x = self.first(x)
        if self.gated:
            gate, value = x.chunk(2, dim=-1)
            return self.out(F.gelu(gate, approximate="tanh") * value)
        return self.out(F.relu(x))


class Stack(nn.Module):
    """The encoder or, crossing over to a memory, the decoder: pre-norm, one relative bias for all
    layers.
    """

    def __init__(self, config, layers, crossing):
        super().__init__()
        self.config, self.crossing = config, crossing
        C, eps, parts = config.d_model, config.layer_norm_epsilon, [lambda: Attention(config)]
        parts += [lambda: Attention(config, crossing=True)] if crossing else []
        parts += [lambda: MLP(config)]
        self.layers = nn.ModuleList([nn.ModuleList([part() for part in parts]) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.ModuleList([nn.RMSNorm(C, eps) for _ in parts]) for _ in range(layers)])
        self.norm = nn.RMSNorm(C, eps)
        self.table = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, x, memory=None):
        """x (B, T, C), memory (B, S, C) -> (B, T, C)."""
        c, T = self.config, x.shape[1]
        distance = torch.arange(T)[None] - torch.arange(T)[:, None]
        most = c.relative_attention_max_distance
        found = buckets(distance, not self.crossing, c.relative_attention_num_buckets, most)
        bias = self.table(found).permute(2, 0, 1)[None]
        if self.crossing:
            bias = bias.masked_fill(distance > 0, -torch.inf)
        for layer, norms in zip(self.layers, self.norms):
            x = x + layer[0](norms[0](x), bias)
            if self.crossing:
                x = x + layer[1](norms[1](x), memory=memory)
            x = x + layer[-1](norms[-1](x))
        return self.norm(x)


class TorchT5(nn.Module):
    """T5; config has the fields of a minigpt.T5Config."""

    def __init__(self, config):
        super().__init__()
        self.scale = config.d_model**-0.5 if config.tie_embeddings else 1.0
        self.table = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, config.num_layers, crossing=False)
        self.decoder = Stack(config, config.decoder_layers, crossing=True)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.05)
        if config.tie_embeddings:
            self.head.weight = self.table.weight

    def forward(self, ids, decoder_ids):
        """ids (B, S), decoder_ids (B, T) -> logits (B, T, V)."""
        memory = self.encoder(self.table(ids))
        return self.head(self.scale * self.decoder(self.table(decoder_ids), memory))


def training_step(config, batches, threads, compiled=False):
    """A function that makes one step in PyTorch: loss, backward, clip, fused AdamW. -> function of
    no arguments, which returns the loss

    config: a minigpt.T5Config; batches: an iterator of mappings with ids (B, S), decoder_input_ids
    and targets (B, T) as NumPy arrays; compiled: whether forward pass and loss go through
    torch.compile.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = TorchT5(config)
    optimizer = adamw(model)

    def compute_loss(ids, decoder_ids, targets):
        return F.cross_entropy(model(ids, decoder_ids).flatten(0, 1), targets.flatten())

    if compiled:
        compute_loss = torch.compile(compute_loss, fullgraph=True, dynamic=False)

    def step():
        batch = next(batches)
        names = ("ids", "decoder_input_ids", "targets")
        loss = compute_loss(*(torch.from_numpy(batch[name]) for name in names))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step
