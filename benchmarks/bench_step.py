"""Time of a training step, optimiser included, against PyTorch on the same machine in the same process.

    python -m benchmarks.bench_step                  (needs the `parity` extra for PyTorch's side)
    python -m benchmarks.bench_step --size middle --optimizer adamw

Both sides take turns, A B A B ..., a few steps a turn, and the figure is the median of the turns' ratios: the speed of a shared machine wanders
by a quarter from minute to minute, a ratio within a second does not. PyTorch's side is a fair one: scaled_dot_product_attention, fused
AdamW, set_to_none, all cores, eager. The GEMM rate is measured in the same run, between turns.
"""

import argparse
import json
import statistics
import time

import numpy as np

from minigpt import GPT, GPTConfig
from minigpt.training import TrainConfig, available_cores, keep_freed_memory
from minigpt.training.trainer import Trainer

SIZES = {  # n_layer, n_head, n_embd, block_size, batch_size
    "small": (4, 4, 128, 64, 12),
    "middle": (6, 6, 384, 256, 16),
}
VOCAB_SIZE = 65


def model_flops(config, tokens):
    """FLOPs of a training step: 6 for each matmul parameter and token, 12 layers C T for attention (PaLM, arXiv:2204.02311, appendix B)."""
    C, T = config.n_embd, config.block_size
    matmul = config.n_layer * 12 * C * C + C * config.vocab_size
    return tokens * (6 * matmul + 12 * config.n_layer * C * T)


def gemm_rate():
    """FLOP/s of a 2048-cube float32 product on all cores, the best of three."""
    a = np.ones((2048, 2048), np.float32)
    return 2 * 2048**3 / min(timed(lambda: a @ a) for _ in range(3))


def timed(function):
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def numpy_step(config, batch_size, threads, optimizer):
    """A function that makes one step of this library's trainer, as the command line would."""
    keep_freed_memory()
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, 20000).astype(np.uint16)
    training = TrainConfig(steps=1_000_000, batch_size=batch_size, shards=threads, optimizer=optimizer, newton_schulz_steps=3)
    trainer = Trainer(GPT(config), tokens, tokens, training, "unused", threads=threads, progress=False)
    return trainer.train_step


def torch_step(config, batch_size):
    """A function that makes one step of the same model in PyTorch, eager, with AdamW."""
    import torch
    from torch.nn import functional as F

    from benchmarks.torch_gpt import TorchGPT

    torch.set_num_threads(available_cores())
    torch.manual_seed(0)
    model = TorchGPT(config)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    tokens = torch.randint(0, VOCAB_SIZE, (20000,))

    def step():
        starts = torch.randint(0, len(tokens) - config.block_size - 1, (batch_size,))
        windows = tokens[starts[:, None] + torch.arange(config.block_size + 1)]
        logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, VOCAB_SIZE), windows[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def main(argv=None):
    """Print the medians and, with --json, write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="model and batch (default: small, that of --preset nanogpt-cpu)")
    parser.add_argument("--optimizer", choices=("adamw", "muon", "sgd"), default="adamw", help="of our side; PyTorch runs AdamW (default: adamw)")
    parser.add_argument("--turns", type=int, default=15, help="turns of each side (default: 15)")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn (default: 10)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args(argv)

    layers, heads, channels, block_size, batch_size = SIZES[args.size]
    config = GPTConfig(VOCAB_SIZE, block_size, layers, heads, channels, bias=False)
    threads = available_cores()
    sides = {"minigpt": numpy_step(config, batch_size, threads, args.optimizer)}
    try:
        sides["pytorch"] = torch_step(config, batch_size)
    except ImportError:
        print("PyTorch is not installed (extra `parity`): timing this library alone")
    for step in sides.values():
        timed(lambda step=step: [step() for _ in range(3)])
    seconds, rates = {name: [] for name in sides}, []
    for _ in range(args.turns):
        rates.append(gemm_rate())
        for name, step in sides.items():
            time.sleep(0.3)  # threads of the other side's OpenMP or BLAS spin on for a while after their work
            step()
            seconds[name].append(timed(lambda step=step: [step() for _ in range(args.steps)]) / args.steps)

    flops, rate = model_flops(config, batch_size * block_size), statistics.median(rates)
    figures = {"size": args.size, "optimizer": args.optimizer, "threads": threads, "gemm_gflops": rate / 1e9, "model_gflop": flops / 1e9}
    print(
        f"{args.size}: {layers} layers, {heads} heads, {channels} channels, T={block_size}, B={batch_size}; {threads} threads; ours {args.optimizer}"
    )
    print(f"GEMM {rate / 1e9:.0f} GFLOP/s, a step is {flops / 1e9:.2f} GFLOP, floor {flops / rate * 1e3:.1f} ms")
    for name, values in seconds.items():
        median = statistics.median(values)
        figures[f"{name}_ms"] = median * 1e3
        print(f"{name:<8} {median * 1e3:7.1f} ms a step (least {min(values) * 1e3:.1f}), {flops / median / rate:.0%} of the GEMM rate")
    if "pytorch" in seconds:
        ratios = sorted(b / a for a, b in zip(seconds["minigpt"], seconds["pytorch"]))
        figures["speedup"] = statistics.median(ratios)
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        print(f"minigpt is {figures['speedup']:.2f} times as fast as PyTorch (median of {len(ratios)} turns; 80% between {low:.2f} and {high:.2f})")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
