"""Decoding: tokens a second with a KV cache, against `generate` of transformers' GPT2LMHeadModel on the same weights, in turn in one process.

    python -m benchmarks.bench_generate               (needs the `parity` extra for transformers' side)
    python -m benchmarks.bench_generate --size gpt2

Greedy on both sides, all cores, random weights. At size `gpt2` the bound is printed as well: memory bandwidth over bytes of weights, since each
token reads all of them once. The bandwidth is measured between turns, and its largest value counts.
"""

import statistics
import tempfile
import time
import tracemalloc

import numpy as np

from benchmarks import common
from minigpt import GPT, GPTConfig, to_huggingface

SIZES = {  # vocab_size, block_size, n_layer, n_head, n_embd; new tokens a turn; tokens of the long prompt
    "small": (GPTConfig(65, 256, 4, 4, 128), 200, 200),
    "gpt2": (GPTConfig(50257, 1024, 12, 12, 768), 48, 512),
}


def transformers_generate(model, new):
    """A function of ids (B, T) that continues them by `new` tokens with transformers: ids of the same shape as ours."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(common.available_cores())
    with tempfile.TemporaryDirectory() as directory:
        to_huggingface(model, directory)
        theirs = GPT2LMHeadModel.from_pretrained(directory).eval()
    theirs.generation_config.eos_token_id = None

    def generate(ids, new=new):
        ids = torch.as_tensor(ids)
        with torch.inference_mode():
            settings = {"do_sample": False, "use_cache": True, "pad_token_id": 0, "max_new_tokens": new, "min_new_tokens": new}
            return theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings).numpy()

    return generate


def seconds_by_token(model, new):
    """Seconds of each new token after a prompt of one."""
    seconds, start = [], time.perf_counter()
    for _ in model.stream([[1]], new, temperature=0):
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    return seconds


def bytes_by_token(model, new):
    """The most bytes that Python and NumPy held at once during each new token, beyond those before it."""
    held, tokens = [], model.stream([[1]], new, temperature=0)
    next(tokens)  # takes the buffers
    tracemalloc.start()
    for _ in range(new - 1):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        next(tokens)
        held.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return held


def quarters(values):
    """Medians of the first and of the last quarter."""
    n = max(1, len(values) // 4)
    return statistics.median(values[:n]), statistics.median(values[-n:])


def main(argv=None):
    """Print the figures and, with --json, write them."""
    parser = common.parser(__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="of the model (default: small)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each side (default: 7)")
    args = parser.parse_args(argv)
    config, new, long = SIZES[args.size]
    model, figures, bandwidths = GPT(config), {"size": args.size, "new_tokens": new}, []
    sides = {"minigpt": lambda ids, new=new: model.generate(ids, new, temperature=0)}
    try:
        sides["transformers"] = transformers_generate(model, new)
    except ImportError:
        print("PyTorch or transformers is not installed (extra `parity`): timing this library alone")

    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (8, long))
    for what, ids, count in (("batch 1", prompt[:1, :1], new), ("batch 8", prompt[:, :1], new // 2), (f"prefill of {long}", prompt[:1], 1)):
        calls = {name: lambda side=side, ids=ids, count=count: side(ids, count) for name, side in sides.items()}
        seconds = common.take_turns(calls, args.turns, warm_up=1, between=lambda: bandwidths.append(common.memory_bandwidth(tries=3)))
        figures[what] = {}
        for name, values in seconds.items():
            median = statistics.median(values)
            rate = f"{1e3 * median:.0f} ms" if count == 1 else f"{len(ids) * count / median:.1f} tokens/s"
            figures[what][name] = {"seconds": values, "tokens_per_second": len(ids) * count / median}
            print(f"{args.size}, {what}: {name} {rate}")
        if len(sides) > 1:
            times = common.ratio(seconds["minigpt"], seconds["transformers"])
            figures[what]["ratio"] = times._asdict()
            print(f"  {times} times as fast as transformers")

    rate = figures["batch 1"]["minigpt"]["tokens_per_second"]
    bound = max(bandwidths) / model.store.vector.nbytes
    figures |= {"bandwidth": max(bandwidths), "bound_tokens_per_second": bound}
    if args.size == "gpt2":
        print(f"memory bandwidth {max(bandwidths) / 1e9:.1f} GB/s, so at most {bound:.1f} tokens/s; reached {rate / bound:.0%}")
    whole = min(config.block_size - 1, 4 * new)
    first, last = quarters(seconds_by_token(model, whole))
    low, high = quarters(bytes_by_token(model, whole))
    figures |= {"microseconds_by_quarter": [1e6 * first, 1e6 * last], "bytes_by_quarter": [low, high]}
    print(f"first and last quarter of {whole} tokens: {1e6 * first:.0f} and {1e6 * last:.0f} us a token, {low:.0f} and {high:.0f} bytes anew")
    common.write_json(args.json, figures)


if __name__ == "__main__":
    main()
