"""BERT against PyTorch: a training step of the masked language model, and sentences as vectors.

    python -m benchmarks.bench_bert                 (PyTorch's side needs the `parity` extra)
    python -m benchmarks.bench_bert --part embed

Each side is a process of its own, which stays while the sides take turns; all cores, random
weights. A step draws its batch, clips the gradient's norm, updates by AdamW and reads the loss;
dropout is 0. PyTorch's is benchmarks/torch_bert.py, with scaled_dot_product_attention, one product
for q, k and v, fused AdamW; compiled, its forward pass and loss are one graph. 15% of the tokens
have a target. Where the head runs at these alone it does so on both sides; at all positions, all
have a target.

Vectors are of a model of all-MiniLM-L6-v2's size, tokens ready made, by `minigpt.embed` as it is
and by transformers' BertModel with scaled_dot_product_attention in inference_mode, 32 texts at a
time: as they come, or sorted by length as embed sorts them.
"""

import os
import statistics
import sys
import tempfile

import numpy as np

from benchmarks import common
from benchmarks.sides import CHILD, faster, running, serve, take_turns, times_as_fast
from minigpt import BERT, BERTConfig, embed, to_huggingface
from minigpt.cli import guard
from minigpt.objectives import Batch
from minigpt.tokenizers import Tokenizer
from minigpt.training import TrainConfig, keep_freed_memory
from minigpt.training.trainer import Trainer

SIZES = {  # config, batch size and length of a row, of the step; texts of mixed lengths, of embed
    "middle": (BERTConfig(8192, 512, 384, 6, 6, 1536, head="masked_lm"), 16, 128, 192),
    "tiny": (BERTConfig(97, 40, 24, 2, 2, 48, head="masked_lm"), 4, 20, 12),
}
MASKED, ALL = "head at masked positions", "head at all positions"
RATE = 0.15  # of tokens with a target
MASK = 4  # the id that hides a token
TEXTS = 32  # of a batch of transformers, and of equal lengths


def target_count(tokens):
    """How many of so many tokens have a target: in whole sixteens, since PyTorch 2.13, compiled for
    AVX-512, wrote beyond its memory with 307 of 2,048, and died.
    """
    return int(RATE * tokens) // 16 * 16 or int(RATE * tokens)


def draw_batch(config, rows, length, kind, rng):
    """Random tokens, a share of them hidden -> ids, targets (rows, length), equally many targets in
    each.
    """
    ids = rng.integers(MASK + 1, config.vocab_size, (rows, length))
    if kind == ALL:
        return ids, ids.copy()
    hidden = np.zeros(ids.size, bool)
    hidden[rng.permutation(ids.size)[: target_count(ids.size)]] = True
    hidden = hidden.reshape(ids.shape)
    return np.where(hidden, MASK, ids), np.where(hidden, ids, -100)


class Objective:
    """draw_batch for the Trainer."""

    name = "masked_lm"

    def __init__(self, config, length, kind):
        self.terms, self.settings = {}, {}
        self.config, self.length, self.kind = config, length, kind

    def check(self, tokens, vocab_size, name="text"):
        """Nothing to check: the tokens are its own."""

    def at(self, progress):
        """The objective that draws the batches of a step."""
        return self

    def draw(self, tokens, rows, rng):
        """A Batch of random tokens."""
        ids, targets = draw_batch(self.config, rows, self.length, self.kind, rng)
        return Batch({"ids": ids, "targets": targets})


def our_step(size, kind):
    """A function that makes one step of this library's trainer, as the command line would."""
    keep_freed_memory()
    config, rows, length, _ = SIZES[size]
    shards = min(common.available_cores(), rows)
    training = TrainConfig(steps=1_000_000, batch_size=rows, shards=shards, optimizer="adamw", weight_decay=0.1)
    objective = Objective(config, length, kind)
    trainer = Trainer(BERT(config), None, None, config=training, out="unused", objective=objective, threads=shards,
                      bar=False)  # fmt: skip

    def step():
        found = trainer.train_step()
        trainer.step += 1  # the next one draws another batch
        return found

    return step


def torch_step(size, kind, compiled):
    """A function that makes one step of PyTorch."""
    from benchmarks.torch_bert import training_step

    config, rows, length, _ = SIZES[size]
    rng = np.random.default_rng(0)
    batches = iter(lambda: draw_batch(config, rows, length, kind, rng), None)
    return training_step(config, batches, common.available_cores(), compiled)


def text_lengths(size):
    """kind -> lengths of its texts, in tokens."""
    (config, *_, texts), rng = SIZES[size], np.random.default_rng(0)
    most = min(config.block_size, 256)
    # as of sentences and paragraphs: median 20, one in twenty above 60
    mixed = np.clip(rng.lognormal(3.0, 0.7, texts).astype(int), 4, most)
    equal = np.full(TEXTS, min(most, 32))
    return {"batch 1": equal[:1] * 5 // 8, "32 texts of equal length": equal, "mixed lengths": mixed}


class ReadyMade(Tokenizer):
    """A tokenizer of texts that are lines of numbers: what is left is what embed does with them."""

    pad_id, max_length = 0, None

    def row(self, text, max_length=None):
        """ids and token types of a text."""
        ids = self.known[text]
        return ids, np.zeros_like(ids)


def our_embed(size, model):
    """kind -> function that embeds its texts."""
    tokenizer = ReadyMade()
    rows = rows_of(size, model.config)
    tokenizer.known = {f"{kind} {i}": ids for kind, texts in rows.items() for i, ids in enumerate(texts)}
    texts = {kind: [f"{kind} {i}" for i in range(len(texts))] for kind, texts in rows.items()}
    found = {kind: lambda texts=texts: embed(model, tokenizer, texts) for kind, texts in texts.items()}
    return found | {"mixed lengths, sorted": found["mixed lengths"]}


def rows_of(size, config):
    """kind -> ids of its texts."""
    rng = np.random.default_rng(1)
    return {kind: [rng.integers(5, config.vocab_size, n) for n in found] for kind, found in text_lengths(size).items()}


def torch_embed(size, model):
    """kind -> function that embeds its texts with transformers."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(common.available_cores())
    with tempfile.TemporaryDirectory() as folder:
        to_huggingface(model, folder)
        theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    def vectors(rows):
        found = []
        with torch.inference_mode():
            for start in range(0, len(rows), TEXTS):
                part = [torch.from_numpy(ids) for ids in rows[start : start + TEXTS]]
                ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
                mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in part], batch_first=True)
                hidden = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
                mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                found.append(torch.nn.functional.normalize(mean))
        return torch.cat(found)

    rows = rows_of(size, model.config)
    rows["mixed lengths, sorted"] = sorted(rows["mixed lengths"], key=len, reverse=True)
    return {kind: lambda rows=rows: vectors(rows) for kind, rows in rows.items()}


def embed_model(size):
    """A BERT without a head: of MiniLM's vocabulary and heads at size middle."""
    config, *_ = SIZES[size]
    vocab_size, heads = (30522, 12) if size == "middle" else (config.vocab_size, 2)
    sizes = (config.hidden_size, config.num_hidden_layers, heads, config.intermediate_size)
    return BERT(BERTConfig(vocab_size, config.max_position_embeddings, *sizes, head=None))


def functions(part, side, size):
    """What a side's process can do: kind -> function that does it once."""
    if part == "embed":
        return (our_embed if side == "minigpt" else torch_embed)(size, embed_model(size))
    if side == "minigpt":
        return {kind: our_step(size, kind) for kind in (MASKED, ALL)}
    return {kind: torch_step(size, kind, side == "compiled") for kind in (MASKED, ALL)}


def model_flops(config, rows, length, targets):
    """FLOPs of a training step: 6 for each matmul parameter and token, 12 layers C T a token for
    attention (PaLM, arXiv:2204.02311, appendix B), the head at its targets.
    """
    C, F, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    blocks = layers * (4 * C * C + 2 * C * F)
    return rows * length * (6 * blocks + 12 * layers * C * length) + targets * 6 * (C * C + C * config.vocab_size)


def measure(part, size, turns):
    """Time the sides in turn -> figures"""
    config, rows, length, _ = SIZES[size]
    others = ["eager", "compiled"] if part == "train" else ["transformers"]
    names = ["minigpt"] if common.without_torch() else ["minigpt", *others]
    if part == "train":
        targets = {MASKED: target_count(rows * length), ALL: rows * length}
        kinds = {kind: {"gflop": model_flops(config, rows, length, n) / 1e9} for kind, n in targets.items()}
    else:
        found = text_lengths(size)
        found["mixed lengths, sorted"] = found["mixed lengths"]
        kinds = {kind: {"texts": len(n), "tokens": int(n.sum()), "longest": int(n.max())} for kind, n in found.items()}
    with running("bench_bert", {name: (part, name, size) for name in names}) as sides:
        for kind, row in kinds.items():
            calls = 30 if kind == "batch 1" else 3 if kind.startswith(str(TEXTS)) else 1
            row.update(take_turns(sides, kind, turns, calls))
    rates = [rate for row in kinds.values() for rate in row["rates"]]
    return {
        "part": part,
        "size": size,
        "turns": turns,
        "avx2": os.environ.get("OPENBLAS_CORETYPE") == "Haswell",
        "gemm_gflops": statistics.median(rates) / 1e9,
        "rows": kinds,
    }


LIMITS = {"batch 1": 1.0, "32 texts of equal length": 1.0, "mixed lengths": 2.0, "mixed lengths, sorted": 1.0}


def targets(figures):
    """The figures that a limit was set for, and their limits -> list of Target"""
    made = []
    for kind, row in figures["rows"].items():
        name = faster(row)
        if name is None:
            continue
        if figures["part"] == "train":
            what = f"BERT's step, {kind}: times as fast as PyTorch, the faster of both ({name})"
            limit = 1.0 if figures["avx2"] else 1.3
        else:
            against = "transformers" + (", padded as they come" if kind == "mixed lengths" else "")
            what, limit = f"embed, {kind}: times as fast as {against}", LIMITS[kind]
        made.append(common.Target(what, times_as_fast(row, name).median, limit))
    return made


def table(figures):
    """A row a kind and side -> columns, rows"""
    rows = []
    for kind, row in figures["rows"].items():
        for name, seconds in row["seconds"].items():
            ratio = "" if name == "minigpt" else str(times_as_fast(row, name))
            median, least = 1e3 * statistics.median(seconds), 1e3 * min(seconds)
            if "gflop" in row:
                share = statistics.median(1e9 * row["gflop"] / s / r for s, r in zip(seconds, row["rates"]))
                more = f"{share:.0%} of the GEMM rate"
            else:
                more = f"{row['texts'] / statistics.median(seconds):,.0f} texts/s"
            rows.append((kind, name, f"{median:.1f}", f"{least:.1f}", more, ratio))
    return ("what", "side", "ms", "least", "is", "minigpt is times as fast"), rows


def describe(figures):
    """What was measured, in a sentence or two."""
    config, rows, length, _ = SIZES[figures["size"]]
    sizes = f"{config.num_hidden_layers} layers, {config.hidden_size} channels"
    if figures["part"] == "train":
        found = ", ".join(f"{row['gflop']:.1f} GFLOP with the {kind}" for kind, row in figures["rows"].items())
        return (
            f"{sizes}, {config.num_attention_heads} heads, vocabulary {config.vocab_size:,}, T={length}, B={rows}, "
            f"masked LM alone, AdamW, all cores. A step is {found}; GEMM {figures['gemm_gflops']:.0f} GFLOP/s."
        )
    mixed = figures["rows"]["mixed lengths"]
    return (
        f"A BERT of MiniLM's size ({sizes}), all cores, tokens ready made; mixed: {mixed['texts']} texts of "
        f"{mixed['tokens']:,} tokens, the longest {mixed['longest']}."
    )


def main(argv=None):
    """Print the figures and, with --json, write them -> exit code."""
    made = common.parser(__doc__)
    made.add_argument("--part", choices=("train", "embed"), default="train", help="what to measure (default: train)")
    made.add_argument("--size", choices=tuple(SIZES), default="middle", help="tiny is a smoke run (default: middle)")
    made.add_argument("--turns", type=common.count, default=9, metavar="N", help="turns of each side (default: 9)")
    args = made.parse_args(argv)
    figures = measure(args.part, args.size, args.turns)
    print(describe(figures))
    common.show(targets(figures), table(figures))
    common.write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        serve(functions(*sys.argv[2:]))
    else:
        sys.exit(guard(main, None))
