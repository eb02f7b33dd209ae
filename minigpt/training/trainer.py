"""The training loop: batches in, better parameters out, and everything written down so that it can be stopped and taken up again.

Every random choice is drawn from a generator made for its place in the run, from (seed, step, micro-batch, shard): no generator is saved, and a
run that was stopped and resumed draws the same batches and dropout masks as one that was not.
"""

import dataclasses
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minigpt import checkpoint
from minigpt.data.batches import check_length, consecutive_batches, draw_batch
from minigpt.errors import MinigptError
from minigpt.files import write_atomically
from minigpt.layers import recomputed_activations
from minigpt.machine import check_memory, check_threads, describe_settings, thread_settings, usable_threads
from minigpt.ops.loss import count_targets
from minigpt.optim import SCHEDULES, SGD, AdamW, Muon, clip_by_norm
from minigpt.optim.base import slices
from minigpt.training.config import TrainConfig
from minigpt.training.threads import Workers, candidates, measure_threads

REPORT_INTERVAL = 10  # steps between lines of metrics.jsonl
WORTH_MEASURING = 50  # steps; a shorter run takes the number of threads that should be best
MAY_CHANGE = ("steps", "eval_interval", "save_interval", "recompute")  # what a resumed run may set anew


class Diverged(MinigptError):
    """The loss or a gradient is no longer finite."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed: the step was finished and saved, and the message says how to go on."""


def make_optimizer(model, config):
    """The optimizer that a TrainConfig names, for a model."""
    if config.optimizer == "sgd":
        return SGD(model.store, config.lr, config.beta1, config.weight_decay)
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        return AdamW(model.store, config.lr, betas, weight_decay=config.weight_decay)
    return Muon(model.store, model.hidden_matrices, config.lr, config.muon_lr, newton_schulz_steps=config.newton_schulz_steps,
                betas=betas, weight_decay=config.weight_decay)  # fmt: skip


class Trainer:
    """Trains a model on a row of tokens, with checkpoints in out/last and out/best, out/metrics.jsonl and out/loss.png."""

    def __init__(self, model, train_tokens, val_tokens, config, out, tokenizer=None, data_sha256=None, threads="auto", say=print, progress=True,
                 band=None):  # fmt: skip
        """model: a GPT; train_tokens, val_tokens: integer arrays (N,); config: a TrainConfig; out: a directory.

        tokenizer and data_sha256 are saved with the run; threads: a number, or "auto" to measure which is fastest;
        say: where messages and samples go; progress: whether to draw a bar; band: what is normal for this run (a bands.Band), to compare it with.
        MinigptError for texts that are too short, tokens out of range, too many threads, or a run that would not fit into memory.
        """
        self.model, self.config, self.out, self.tokenizer = model, config, Path(out), tokenizer
        self.train_tokens, self.val_tokens = train_tokens, val_tokens
        self.data_sha256, self.say, self.progress, self.band = data_sha256, say, progress, band
        for name, tokens in (("training text", train_tokens), ("validation text", val_tokens)):
            check_length(tokens, model.config.block_size, name)
            if int(tokens.max()) >= model.config.vocab_size:
                raise MinigptError(f"{name}: token id {int(tokens.max())}, the model's vocab_size is {model.config.vocab_size}")
        check_threads(threads, config.shards)
        check_memory(training_memory(model, config, threads), f"training this model on batches of {config.batch_size}")
        self.threads = threads
        self.workers = Workers(min(usable_threads(), config.shards) if threads == "auto" else threads)
        self.optimizer = make_optimizer(model, config)
        self.gradients = [model.store.zeros_like() for _ in range(config.shards)]
        self.step, self.seconds = 0, 0.0  # steps done, and the wall-clock time they took with evaluation and saving
        self.best = math.inf
        self.val_loss = None
        self.losses = []  # of the steps since the last report

    def run(self):
        """Train to config.steps -> the validation loss at the end.

        Diverged where the loss or a gradient is not finite: names the step and the first layer, and leaves the last checkpoint as it is.
        Interrupted after Ctrl-C. MinigptError where a checkpoint can't be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        config, began, before = self.config, time.perf_counter(), self.seconds
        self.choose_threads()
        bar = tqdm(total=config.steps, initial=self.step, unit="step", disable=None if self.progress else True, dynamic_ncols=True)
        tokens = config.batch_size * config.accumulate * self.model.config.block_size
        with bar, InterruptFlag() as interrupted:
            if self.step == 0:
                self.save("last")  # so that even a run that is stopped at once can be resumed
            while self.step < config.steps:
                started = time.perf_counter()
                loss, norm, factor = self.train_step()
                rate = tokens / (time.perf_counter() - started)
                self.step += 1
                self.losses.append(loss)
                self.seconds = before + time.perf_counter() - began
                bar.set_postfix_str(f"loss {loss:.3f}, lr {self.optimizer.lr * factor:.2e}, {rate:,.0f} tokens/s", refresh=False)
                bar.update()
                last = self.step == config.steps
                evaluate = self.step % config.eval_interval == 0 or last
                if evaluate:
                    self.val_loss = self.evaluate()
                    self.seconds = before + time.perf_counter() - began
                if evaluate or self.step % REPORT_INTERVAL == 0:
                    self.report(norm, factor, self.val_loss if evaluate else None)
                if evaluate:
                    self.announce(bar)
                    if self.val_loss < self.best:
                        self.best = self.val_loss
                        self.save("best")
                if self.step % config.save_interval == 0 or last or interrupted:
                    self.save("last")
                if interrupted and not last:
                    where = f"step {self.step} of {config.steps}"
                    raise Interrupted(f"stopped and saved after {where}; the same command with --resume goes on from there")
        self.draw()
        return self.val_loss

    def choose_threads(self):
        """Settle on a number of threads, and say which and why. With "auto", time this step's gradients with each number that may be the best.

        The run is not touched: gradients are computed anew by the step that needs them, and threads change no bit of them.
        """
        settings, threads, measured = thread_settings(), self.workers.threads, ""
        if self.threads == "auto" and threads > 1 and self.config.steps - self.step >= WORTH_MEASURING:

            def work(workers):
                self.workers = workers
                self.compute_gradients()

            chosen = self.workers
            try:
                with chosen.one_blas_thread():
                    seconds = measure_threads(work, candidates(threads, self.config.shards), rounds=(self.config.steps - self.step) // 50)
            finally:
                self.workers = chosen
            threads = min(seconds, key=lambda count: seconds[count] * (1 if count == max(seconds) else 1.1))  # other programs go, the run stays
            measured = "; gradients of a step: " + ", ".join(f"{1000 * took:.3g} ms on {count}" for count, took in sorted(seconds.items()))
            if threads != chosen.threads:
                chosen.close()
                self.workers = Workers(threads)
        self.threads = threads  # measured once
        limit = min(settings.values(), default=threads)
        why = f", above what the environment allows: {describe_settings(settings)}" if threads > limit else ""
        if settings and not why:
            why = f" (environment: {describe_settings(settings)})"
        self.say(f"threads: {threads}{why}{measured}")

    def train_step(self):
        """One update of the parameters -> loss, gradient norm, factor of the learning rate."""
        with self.workers.one_blas_thread():
            loss = self.compute_gradients()
            total = self.gradients[0]
            norm = clip_by_norm(total, self.config.clip)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise Diverged(self.diagnose(loss))
            factor = SCHEDULES[self.config.schedule](self.step, self.config.steps, self.config.warmup, self.config.final_lr)
            self.optimizer.step(self.model.store, total, factor, self.workers.map)
        return loss, norm, factor

    def compute_gradients(self):
        """Loss of this step's batches; their gradient is left in gradients[0]. Shards add up in one order, whatever the threads."""
        parts = list(self.shards())
        count = sum(count_targets(targets) for *_, targets in parts)

        def work(shard):  # one gradient store a shard, and micro-batches in turn: no two threads add into the same numbers
            gradient = self.gradients[shard]
            gradient.vector[:] = 0
            return sum(
                float(self.model.add_gradients(gradient, ids, targets, self.generator(micro, s + 1), count, self.config.recompute))
                for micro, s, ids, targets in parts
                if s == shard
            )

        def add(part):
            for gradient in self.gradients[1:]:
                self.gradients[0].vector[part] += gradient.vector[part]

        loss = sum(self.workers.map(work, range(self.config.shards)))
        self.workers.map(add, slices(self.gradients[0].vector.size, self.workers.threads))
        return loss

    def shards(self):
        """The windows of this step: yields (micro-batch, shard, ids, targets)."""
        for micro in range(self.config.accumulate):
            rng = self.generator(micro, 0)
            ids, targets = draw_batch(self.train_tokens, self.config.batch_size, self.model.config.block_size, rng)
            pieces = zip(np.array_split(ids, self.config.shards), np.array_split(targets, self.config.shards))
            for shard, (shard_ids, shard_targets) in enumerate(pieces):
                yield micro, shard, shard_ids, shard_targets

    def generator(self, micro, stream):
        """The generator of one place in the run: stream 0 draws a batch, stream s + 1 is dropout in shard s."""
        return np.random.default_rng([self.config.seed, self.step, micro, stream])

    def evaluate(self):
        """Mean loss over consecutive windows of the whole validation split, without dropout."""
        rows = -(-self.config.batch_size // self.config.shards)  # as many as a thread has in a step, so that it takes no more memory than one
        return evaluate(self.model, self.val_tokens, rows, self.workers)

    def diagnose(self, loss):
        """Where the numbers of this step first went wrong, as a message."""
        where = f"step {self.step + 1}: the loss is {loss}"
        name = first_not_finite("parameter ", self.model.parameters)
        for micro, shard, ids, _ in [] if name else self.shards():
            with np.errstate(all="ignore"):
                name = first_not_finite_activation(self.model, ids, self.generator(micro, shard + 1))
            if name:
                break
        if not name:
            where = f"step {self.step + 1}: a gradient is not finite"
            reverse = {key: value for gradient in self.gradients[:1] for key, value in reversed(list(gradient.items()))}
            name = first_not_finite("gradient of ", reverse) or "the norm of the gradients overflowed"
        return f"{where}; first in {name}. {self.out / 'last'} holds the last good checkpoint; a lower learning rate may help"

    def report(self, norm, factor, val_loss):
        """Add a line to metrics.jsonl."""
        row = {"step": self.step, "seconds": round(self.seconds, 3), "train_loss": sum(self.losses) / len(self.losses)}
        if val_loss is not None:
            row["val_loss"] = val_loss
        row |= {"lr": self.optimizer.lr * factor, "gradient_norm": norm, "data_sha256": self.data_sha256}
        self.losses.clear()
        with open(self.out / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def announce(self, bar):
        """Print where the run stands, and a sample of what the model writes by now."""
        lines = [f"step {self.step}: train loss {self.metrics()[-1]['train_loss']:.4f}, validation loss {self.val_loss:.4f}, {self.seconds:.1f} s"]
        if verdict := self.judge():
            lines[0] += f"; {verdict}"
        if self.tokenizer is not None and self.step < self.config.steps:
            lines.append("  " + self.sample(120).replace("\n", "\n  "))
        with bar.external_write_mode():
            self.say("\n".join(lines))

    def judge(self):
        """Whether the validation loss, just measured, is normal, in words; None without a band that holds this step."""
        return None if self.band is None else self.band.judge(self.step, self.val_loss)

    def sample(self, length, prompt="\n", temperature=0.8):
        """Text that the model writes after a prompt; where the vocabulary lacks the prompt, after its first character."""
        try:
            ids = self.tokenizer.encode(prompt)
        except MinigptError:
            ids = np.array([0])
        return self.tokenizer.decode(self.model.generate(ids[None], length, temperature, seed=self.config.seed)[0]).strip("\n")

    def metrics(self):
        """The lines of metrics.jsonl as dicts."""
        return read_metrics(self.out / "metrics.jsonl")

    def draw(self):
        """Draw out/loss.png from metrics.jsonl, over the band where there is one."""
        from minigpt import plots

        plots.save(plots.loss_curve(self.metrics(), band=self.band).figure, self.out / "loss.png")

    def save(self, name):
        """Write the checkpoint out/last, with all that --resume needs, or out/best, the model alone."""
        damaged = first_not_finite("parameter ", self.model.parameters)
        if damaged:  # the last update blew up: a checkpoint of it would replace a good one
            raise Diverged(f"step {self.step}: {damaged} is not finite any more; {self.out / 'last'} holds the last good checkpoint")
        state = None
        if name == "last":
            values = {
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best if math.isfinite(self.best) else None,
                "losses": self.losses,
                "config": dataclasses.asdict(self.config),
                "data_sha256": self.data_sha256,
            }
            state = values, self.optimizer.state
        checkpoint.save(self.out / name, self.model, self.tokenizer, state)

    def resume(self):
        """Take up the run in out/last: parameters, optimizer, step. MinigptError naming the first setting that is not that run's."""
        directory = self.out / "last"
        saved, values = checkpoint.load(directory), checkpoint.load_state_values(directory)
        check_state(values, directory)
        check_unchanged("the text's SHA-256", values["data_sha256"], self.data_sha256, directory)
        for field, value in dataclasses.asdict(saved.config).items():
            check_unchanged(field, value, getattr(self.model.config, field), directory)
        for field, value in values["config"].items():
            if field not in MAY_CHANGE:
                check_unchanged(field, value, getattr(self.config, field), directory)
        if values["config"]["steps"] != self.config.steps:
            self.say(f"steps: {self.config.steps} in place of {values['config']['steps']}; the learning rate follows the new schedule from here")
        _, tensors = checkpoint.load_state(directory, {name: value.shape for name, value in self.optimizer.state.items()})
        self.model.store.vector[:] = saved.store.vector
        for name, value in tensors.items():
            self.optimizer.state[name][...] = value
        self.step, self.seconds, self.losses = values["step"], values["seconds"], values["losses"]
        self.best = math.inf if values["best"] is None else values["best"]
        path = self.out / "metrics.jsonl"
        kept = [row for row in read_metrics(path) if row["step"] <= self.step]  # what was reported after the checkpoint will be again
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        if self.step >= self.config.steps:
            self.val_loss = self.evaluate()


def evaluate(model, tokens, batch_size, workers):
    """Mean loss in nats over consecutive, non-overlapping windows of block_size tokens; a last incomplete window is left out.

    tokens (N,) with at least block_size + 1: MinigptError; workers: a Workers whose threads take a batch of batch_size windows each. -> float
    """
    check_length(tokens, model.config.block_size)

    def work(batch):
        return float(model.loss(*batch)) * len(batch[0])

    with workers.one_blas_thread():
        batches = list(consecutive_batches(tokens, batch_size, model.config.block_size))
        return sum(workers.map(work, batches)) / sum(len(ids) for ids, _ in batches)


def training_memory(model, config, threads="auto"):
    """A lower bound of the bytes that a step takes: weights, a gradient a shard, a moment, and the activations of the shards at work at a time.

    22 C numbers a token and layer: less than any attention, MLP and normalisation keep (measured at 6 layers of 384 channels, T=256: 24).
    Recomputed layers keep C.
    """
    c = model.config
    at_work = min(usable_threads() if threads == "auto" else threads, config.shards)
    tokens = at_work * -(-config.batch_size // config.shards) * c.block_size
    layers = c.n_layer + 22 if config.recompute else c.n_layer * 22  # in units of C numbers a token
    activations = tokens * (layers * c.n_embd + 2 * c.vocab_size)
    return model.dtype.itemsize * (model.num_parameters * (2 + config.shards) + activations)


def first_not_finite(name, value):
    """The path of the first array in a nest of caches that holds a number which is not finite, None where all are fine."""
    if isinstance(value, np.ndarray):
        return name if value.dtype.kind == "f" and not np.isfinite(value).all() else None
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not hasattr(value, "items"):
        return None
    for key, part in value.items():
        key = "h" if key == "blocks" else str(key)  # as the parameters are named
        path = first_not_finite(f"{name}.{key}" if name and not name.endswith(" ") else f"{name}{key}", part)
        if path:
            return path
    return None


def first_not_finite_activation(model, ids, rng):
    """The path of the first number of a forward pass that is not finite, None where all are fine; one block's activations at a time."""
    logits, cache = model.forward(ids, rng, recompute=True)
    name = first_not_finite("", cache._replace(blocks=[], ln_f=None, head=None))
    for i, (block, c) in enumerate(zip(model.blocks, cache.blocks)):
        name = name or first_not_finite(f"h.{i}", recomputed_activations(block, c))
    return name or first_not_finite("", {"ln_f": cache.ln_f, "head": cache.head, "logits": logits})


def check_unchanged(field, saved, given, directory):
    """MinigptError where a setting is not the one that a run was started with."""
    if saved != given:
        raise MinigptError(f"{field} is {given}, the run in {directory} was started with {saved}; resume it with that, or start in another folder")


def check_state(values, directory):
    """MinigptError where a trainer's state is missing, or lacks what a run needs to go on."""
    if values is None:
        raise MinigptError(f"{directory}: a model without a trainer's state, it can't be resumed")
    kinds = {"step": int, "seconds": int | float, "best": int | float | None, "losses": list, "config": dict, "data_sha256": str | None}
    for key, kind in kinds.items():
        if key not in values or not isinstance(values[key], kind):
            raise MinigptError(f"{directory}: trainer.json is damaged, {key} is {values.get(key)!r}")
    fields = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for field in values["config"]:
        if field not in fields:
            raise MinigptError(f"{directory}: the run has a setting {field}, which this version of minigpt does not know")
    for field, default in fields.items():  # a setting that is newer than the run had its default's effect
        if values["config"].setdefault(field, default) is dataclasses.MISSING:
            raise MinigptError(f"{directory}: trainer.json is damaged, the setting {field} is missing")


def read_metrics(path):
    """The rows of a metrics file; a last line that was cut off by a crash is left out. -> list of dicts, empty where there is no file."""
    if not os.path.exists(path):
        return []
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


class InterruptFlag:
    """True once Ctrl-C was pressed."""

    def __init__(self):
        self.previous = None
        self.pressed = False

    def __bool__(self):
        return self.pressed

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # signals can be caught there alone
            self.previous = signal.signal(signal.SIGINT, self.press)
        return self

    def press(self, *_):
        """Note the first Ctrl-C; a second one interrupts at once."""
        self.pressed = True
        signal.signal(signal.SIGINT, self.previous)

    def __exit__(self, *_):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
