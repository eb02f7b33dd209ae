"""The same GPT in PyTorch, for benchmarks and tests to compare with:
names of its parameters are ours, weights are (out, in).
"""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """A pre-norm block with fused q, k, v."""

    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.n_head, self.dropout = config.n_head, config.dropout
        self.ln_1 = nn.LayerNorm(C, bias=config.bias)
        self.c_attn = nn.Linear(C, 3 * C, bias=config.bias)
        self.attn_proj = nn.Linear(C, C, bias=config.bias)
        self.ln_2 = nn.LayerNorm(C, bias=config.bias)
        self.c_fc = nn.Linear(C, 4 * C, bias=config.bias)
        self.mlp_proj = nn.Linear(4 * C, C, bias=config.bias)
        self.approximate = {"gelu_tanh": "tanh", "gelu": "none"}[config.activation]

    def forward(self, x):
        """x (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (h.view(B, T, self.n_head, -1).transpose(1, 2) for h in self.c_attn(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.attn_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate=self.approximate))


class TorchGPT(nn.Module):
    """GPT-2 with a tied head; config is a minigpt.GPTConfig."""

    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.apply(self.initialise)

    @staticmethod
    def initialise(module):
        """normal(0, 0.02), as GPT-2."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids):
        """ids (B, T) -> logits (B, T, V)."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def training_step(config, batch_size, threads, compiled=False):
    """A function that makes one step in PyTorch: draw a batch, loss, backward, clip, fused AdamW.
    -> function of no arguments, which returns the loss

    config: a minigpt.GPTConfig or anything with its fields;
    compiled: whether forward pass and loss go through torch.compile.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = TorchGPT(config)
    optimizer = adamw(model)
    tokens = torch.randint(0, config.vocab_size, (20000,))

    def compute_loss(ids, targets):
        return F.cross_entropy(model(ids).view(-1, config.vocab_size), targets.reshape(-1))

    if compiled:
        compute_loss = torch.compile(compute_loss, fullgraph=True, dynamic=False)

    def step():
        starts = torch.randint(0, len(tokens) - config.block_size - 1, (batch_size,))
        windows = tokens[starts[:, None] + torch.arange(config.block_size + 1)]
        loss = compute_loss(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def adamw(model, lr=1e-3):
    """nanoGPT's AdamW, fused: weight decay 0.1 on parameters of two or more axes."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), fused=True)
