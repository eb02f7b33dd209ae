"""The same BERT in PyTorch, masked LM alone, for benchmarks to compare with: q, k and v are one
product, weights are (out, in).
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_gpt import adamw


class Block(nn.Module):
    """A post-norm block with fused q, k, v and exact GELU."""

    def __init__(self, config):
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.n_head = config.num_attention_heads
        self.c_attn = nn.Linear(C, 3 * C)
        self.attn_proj = nn.Linear(C, C)
        self.ln_1 = nn.LayerNorm(C, eps)
        self.c_fc = nn.Linear(C, config.intermediate_size)
        self.mlp_proj = nn.Linear(config.intermediate_size, C)
        self.ln_2 = nn.LayerNorm(C, eps)

    def forward(self, x):
        """x (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (h.view(B, T, self.n_head, -1).transpose(1, 2) for h in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v)
        x = self.ln_1(x + self.attn_proj(y.transpose(1, 2).reshape(B, T, C)))
        return self.ln_2(x + self.mlp_proj(F.gelu(self.c_fc(x))))


class TorchBERT(nn.Module):
    """BERT with the tied, biased head of the masked language model; config has the fields of a
    minigpt.BERTConfig.
    """

    def __init__(self, config):
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.wte = nn.Embedding(config.vocab_size, C)
        self.wpe = nn.Embedding(config.max_position_embeddings, C)
        self.token_types = nn.Embedding(config.type_vocab_size, C)
        self.ln_0 = nn.LayerNorm(C, eps)
        self.h = nn.ModuleList([Block(config) for _ in range(config.num_hidden_layers)])
        self.transform = nn.Linear(C, C)
        self.ln_t = nn.LayerNorm(C, eps)
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.apply(self.initialise)

    @staticmethod
    def initialise(module):
        """normal(0, 0.02), as BERT."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, ids, positions=None):
        """ids (B, T) -> logits (B * T, V), or (n, V) of n positions, counted over all rows."""
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]] + self.token_types.weight[0]
        x = self.ln_0(x)
        for block in self.h:
            x = block(x)
        x = x.reshape(-1, x.shape[-1])
        if positions is not None:
            x = x[positions]
        x = self.ln_t(F.gelu(self.transform(x)))
        return F.linear(x, self.wte.weight, self.head_bias)


def training_step(config, batches, threads, compiled=False):
    """A function that makes one step in PyTorch: loss, backward, clip, fused AdamW. -> function of
    no arguments, which returns the loss

    config: a minigpt.BERTConfig; batches: an iterator of (ids (B, T), targets (B, T), -100 where
    ignored) as NumPy arrays, with as many targets in each; where some are ignored the head runs at
    the others alone; compiled: whether forward pass and loss go through torch.compile.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = TorchBERT(config)
    optimizer = adamw(model)

    def compute_loss(ids, positions, targets):
        return F.cross_entropy(model(ids, positions), targets)

    if compiled:
        compute_loss = torch.compile(compute_loss, fullgraph=True, dynamic=False)

    def step():
        ids, targets = (torch.from_numpy(array) for array in next(batches))
        targets = targets.reshape(-1)
        positions = torch.nonzero(targets != -100)[:, 0]
        if len(positions) == len(targets):
            positions = None  # at all of them, without a gather
        else:
            targets = targets[positions]
        loss = compute_loss(ids, positions, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step
