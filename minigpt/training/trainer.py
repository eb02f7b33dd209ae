"""The training loop: batches in, better parameters out, and everything written down so that it can
be stopped and taken up again.

Every random choice is drawn from a generator made for its place in the run, from (seed, step,
micro-batch, shard): no generator is saved, and a run that was stopped and resumed draws the same
batches and dropout masks as one that was not.
"""

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minigpt import checkpoint
from minigpt.data.batches import check_length, consecutive_batches, draw_batch
from minigpt.errors import MinigptError
from minigpt.machine import check_memory, check_threads, describe_settings, thread_settings, usable_threads
from minigpt.models import load
from minigpt.observe import first_not_finite
from minigpt.ops.loss import count_targets
from minigpt.optim import SCHEDULES, SGD, AdamW, Muon, clip_by_norm
from minigpt.optim.base import slices
from minigpt.training.diagnosis import diagnosis, first_not_finite_name
from minigpt.training.interrupt import Interrupted, StopRequest
from minigpt.training.run_files import (
    BEST,
    CHANGEABLE_SETTINGS,
    LAST,
    LOSS_CURVE,
    METRICS,
    add_metrics,
    check_state,
    check_unchanged,
    keep_metrics,
    read_metrics,
    set_aside,
)
from minigpt.training.run_lock import RunLock
from minigpt.training.threads import Workers, candidates, measure_threads

REPORT_INTERVAL = 10  # steps between lines of metrics.jsonl
WORTH_MEASURING = 50  # steps; a shorter run takes the number of threads that should be best


class Diverged(MinigptError):
    """The loss or a gradient is no longer finite."""


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
    """Trains a model on a row of tokens, with checkpoints in out/last and out/best,
    out/metrics.jsonl and out/loss.png.
    """

    def __init__(
        self,
        model,
        train_tokens,
        val_tokens,
        *,
        config,
        out,
        tokenizer=None,
        data_sha256=None,
        threads="auto",
        say=print,
        bar=True,
        band=None,
    ):
        """model: a GPT; train_tokens, val_tokens: integer arrays (N,); config: a TrainConfig; out:
        a directory.

        tokenizer and data_sha256 are saved with the run; threads: a number, or "auto" to measure
        which is fastest; say: where messages and samples go; bar: whether to draw one of progress;
        band: what is normal for this run (a bands.Band), to compare it with. MinigptError for texts
        that are too short, tokens out of range, too many threads, or a run that would not fit into
        memory.
        """
        self.model, self.config, self.out, self.tokenizer = model, config, Path(out), tokenizer
        self.train_tokens, self.val_tokens = train_tokens, val_tokens
        self.data_sha256, self.say, self.bar, self.band = data_sha256, say, bar, band
        for name, tokens in (("training text", train_tokens), ("validation text", val_tokens)):
            check_length(tokens, model.config.block_size, name)
            if int(tokens.max()) >= model.config.vocab_size:
                raise MinigptError(
                    f"{name}: token id {int(tokens.max())}, the model's vocab_size is {model.config.vocab_size}"
                )
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
        self.lock = RunLock(self.out, self.tell)
        self.begun = False  # whether the folder holds this run

    def run(self):
        """Train to config.steps -> the validation loss at the end.

        What an earlier run left in the folder is set aside first. Diverged where the loss or a
        gradient is not finite: names the step and the first layer, and leaves the last checkpoint
        as it is. Interrupted after Ctrl-C or another of STOP_SIGNALS. MinigptError where another
        run is at work in the folder, or a checkpoint can't be written.
        """
        with self.lock:
            if not self.begun:
                set_aside(self.out, self.tell)
                self.begun = True
            return self.train()

    def tell(self, message):
        """Pass on a message to `say`, which may be replaced while the trainer lives."""
        self.say(message)

    def train(self):
        """run, in a folder that is this trainer's own."""
        config, began, before = self.config, time.perf_counter(), self.seconds
        self.choose_threads()
        bar = tqdm(
            total=config.steps, initial=self.step, unit="step", disable=None if self.bar else True, dynamic_ncols=True
        )
        tokens = config.batch_size * config.accumulate * self.model.config.block_size
        with bar, StopRequest() as stop:
            if self.step == 0:
                self.save(LAST)  # so that even a run that is stopped at once can be resumed
            while self.step < config.steps:
                started = time.perf_counter()
                loss, norm, factor = self.train_step()
                rate = tokens / (time.perf_counter() - started)
                self.step += 1
                self.losses.append(loss)
                self.seconds = before + time.perf_counter() - began
                bar.set_postfix_str(
                    f"loss {loss:.3f}, lr {self.optimizer.lr * factor:.2e}, {rate:,.0f} tokens/s", refresh=False
                )
                bar.update()
                last = self.step == config.steps
                evaluate = self.step % config.eval_interval == 0 or last
                if evaluate:
                    self.val_loss = self.evaluate()
                    self.seconds = before + time.perf_counter() - began
                if evaluate or self.step % REPORT_INTERVAL == 0:
                    row = self.write_metrics(norm, factor, self.val_loss if evaluate else None)
                if evaluate:
                    self.announce(bar, row["train_loss"])
                    if self.val_loss < self.best:
                        self.best = self.val_loss
                        self.save(BEST)
                if self.step % config.save_interval == 0 or last or stop:
                    self.save(LAST)
                if stop and not last:
                    where = f"step {self.step} of {config.steps}"
                    raise Interrupted(
                        f"stopped and saved after {where}; the same command with --resume goes on from there",
                        stop.signal,
                    )
        self.draw()
        return self.val_loss

    def choose_threads(self):
        """Settle on a number of threads, and say which and why. With "auto", time this step's
        gradients with each number that may be the best.

        The run is not touched: gradients are computed anew by the step that needs them, and threads
        change no bit of them.
        """
        settings, threads, measured = thread_settings(), self.workers.threads, ""
        if self.threads == "auto" and threads > 1 and self.config.steps - self.step >= WORTH_MEASURING:

            def work(workers):
                self.workers = workers
                self.compute_gradients()

            chosen = self.workers
            try:
                with chosen.one_blas_thread():
                    seconds = measure_threads(
                        work, candidates(threads, self.config.shards), rounds=(self.config.steps - self.step) // 50
                    )
            finally:
                self.workers = chosen
            threads = min(
                seconds, key=lambda count: seconds[count] * (1 if count == max(seconds) else 1.1)
            )  # other programs go, the run stays
            measured = "; gradients of a step: " + ", ".join(
                f"{1000 * took:.3g} ms on {count}" for count, took in sorted(seconds.items())
            )
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
            factor = SCHEDULES[self.config.schedule](
                self.step, self.config.steps, self.config.warmup, self.config.final_lr
            )
            self.optimizer.step(self.model.store, total, factor, self.workers.map)
        return loss, norm, factor

    def compute_gradients(self):
        """Loss of this step's batches; their gradient is left in gradients[0]. Shards add up in one
        order, whatever the threads.
        """
        parts = list(self.shards())
        count = sum(count_targets(targets) for *_, targets in parts)

        def work(
            shard,
        ):  # one gradient store a shard, and micro-batches in turn: no two threads add into the same numbers
            gradient = self.gradients[shard]
            gradient.vector[:] = 0
            return sum(
                float(
                    self.model.add_gradients(
                        gradient, ids, targets, self.generator(micro, s + 1), count, self.config.recompute
                    )
                )
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
        """The generator of one place in the run: stream 0 draws a batch, stream s + 1 is dropout in
        shard s.
        """
        return np.random.default_rng([self.config.seed, self.step, micro, stream])

    def evaluate(self):
        """Mean loss over consecutive windows of the whole validation split, without dropout."""
        rows = -(
            -self.config.batch_size // self.config.shards
        )  # as many as a thread has in a step, so that it takes no more memory than one
        return evaluate(self.model, self.val_tokens, rows, self.workers)

    def diagnose(self, loss):
        """Where the numbers of this step first went wrong, as a message."""
        parts = list(self.shards())
        count = sum(count_targets(targets) for *_, targets in parts)
        places = (self.first_not_finite(*part, count) for part in parts)
        what = diagnosis(loss, self.model.parameters, self.gradients[0], places)
        last = self.out / LAST
        return f"step {self.step + 1}: {what}. {last} holds the last good checkpoint; a lower learning rate may help"

    def first_not_finite(self, micro, shard, ids, targets, count):
        """The place where numbers first go wrong in one shard of this step, None where nowhere."""
        gradient, rng = self.model.store.zeros_like(), self.generator(micro, shard + 1)
        return first_not_finite(lambda: self.model.add_gradients(gradient, ids, targets, rng, count, True))

    def write_metrics(self, norm, factor, val_loss):
        """Add a row to metrics.jsonl -> the row."""
        row = {"step": self.step, "seconds": round(self.seconds, 3), "train_loss": sum(self.losses) / len(self.losses)}
        if val_loss is not None:
            row["val_loss"] = val_loss
        row |= {"lr": self.optimizer.lr * factor, "gradient_norm": norm, "data_sha256": self.data_sha256}
        self.losses.clear()
        add_metrics(self.out / METRICS, row)
        return row

    def announce(self, bar, train_loss):
        """Print where the run stands, and a sample of what the model writes by now."""
        lines = [
            f"step {self.step}: train loss {train_loss:.4f}, validation loss {self.val_loss:.4f}, {self.seconds:.1f} s"
        ]
        if verdict := self.judge():
            lines[0] += f"; {verdict}"
        if self.tokenizer is not None and self.step < self.config.steps:
            lines.append("  " + self.sample(120).replace("\n", "\n  "))
        with bar.external_write_mode():
            self.say("\n".join(lines))

    def judge(self):
        """What to think of the validation loss, just measured, in words; None where there is
        nothing to say.

        That is where a band holds this step, and where a guess that gives all V tokens the same
        probability, a loss of log V, is better.
        """
        verdicts = [self.band.judge(self.step, self.val_loss)] if self.band is not None else []
        uniform = math.log(self.model.config.vocab_size)
        if self.val_loss > uniform:
            verdicts.append(
                f"above the {uniform:.4f} of a uniform guess: nothing is learnt so far, a lower learning rate may help"
            )
        return "; ".join(filter(None, verdicts)) or None

    def sample(self, length, temperature=0.8):
        """Text that the model writes from nothing, see first_ids."""
        ids = self.model.generate(first_ids(self.tokenizer)[None], length, temperature, seed=self.config.seed)
        return self.tokenizer.decode(ids[0]).strip("\n")

    def metrics(self):
        """The rows of metrics.jsonl as dicts."""
        return read_metrics(self.out / METRICS, self.tell)

    def draw(self):
        """Draw out/loss.png from metrics.jsonl, over the band where there is one."""
        from minigpt import plots

        plots.save(plots.loss_curve(self.metrics(), band=self.band).figure, self.out / LOSS_CURVE)

    def save(self, name):
        """Write the checkpoint out/last, with all that --resume needs, or out/best, the model
        alone.
        """
        damaged = first_not_finite_name(self.model.parameters)
        if damaged:  # the last update blew up: a checkpoint of it would replace a good one
            raise Diverged(
                f"step {self.step}: parameter {damaged} is not finite any more; "
                f"{self.out / LAST} holds the last good checkpoint"
            )
        state = None
        if name == LAST:
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
        """Take up the run in out/last: parameters, optimizer, step.

        MinigptError naming the first setting that is not that run's, and where another run is at
        work in the folder.
        """
        with self.lock:
            self.take_up(self.out / LAST)
            self.begun = True
        if self.step >= self.config.steps:
            self.val_loss = self.evaluate()

    def take_up(self, directory):
        """resume, from a folder that is locked."""
        saved, values = load(directory), checkpoint.load_state_values(directory)
        check_state(values, directory)
        check_unchanged("the text's SHA-256", values["data_sha256"], self.data_sha256, directory)
        for field, value in dataclasses.asdict(saved.config).items():
            check_unchanged(field, value, getattr(self.model.config, field), directory)
        for field, value in values["config"].items():
            if field not in CHANGEABLE_SETTINGS:
                check_unchanged(field, value, getattr(self.config, field), directory)
        if values["config"]["steps"] != self.config.steps:
            self.say(
                f"steps: {self.config.steps} in place of {values['config']['steps']}; the learning rate follows the new schedule from here"
            )
        _, tensors = checkpoint.load_state(
            directory, {name: value.shape for name, value in self.optimizer.state.items()}
        )
        self.model.store.vector[:] = saved.store.vector
        for name, value in tensors.items():
            self.optimizer.state[name][...] = value
        self.step, self.seconds, self.losses = values["step"], values["seconds"], values["losses"]
        self.best = math.inf if values["best"] is None else values["best"]
        keep_metrics(self.out / METRICS, self.step, self.tell)


def first_ids(tokenizer):
    """What a text begins with where no prompt is given: a new line, or the first token where the
    vocabulary has none. -> ids (N,)
    """
    try:
        return tokenizer.encode("\n")
    except MinigptError:
        return np.array([0])


def evaluate(model, tokens, batch_size, workers):
    """Mean loss in nats over consecutive, non-overlapping windows of block_size tokens; a last
    incomplete window is left out.

    tokens (N,) with at least block_size + 1: MinigptError; workers: a Workers whose threads take a
    batch of batch_size windows each. -> float
    """
    check_length(tokens, model.config.block_size)

    def work(batch):
        return float(model.loss(*batch)) * len(batch[0])

    with workers.one_blas_thread():
        batches = list(consecutive_batches(tokens, batch_size, model.config.block_size))
        return sum(workers.map(work, batches)) / sum(len(ids) for ids, _ in batches)


def training_memory(model, config, threads="auto"):
    """A lower bound of the bytes that a step takes: weights, a gradient a shard, a moment, and the
    activations of the shards at work at a time.

    22 C numbers a token and layer: less than any attention, MLP and normalisation keep (measured at
    6 layers of 384 channels, T=256: 24). Recomputed layers keep C.
    """
    c = model.config
    at_work = min(usable_threads() if threads == "auto" else threads, config.shards)
    tokens = at_work * -(-config.batch_size // config.shards) * c.block_size
    layers = c.n_layer + 22 if config.recompute else c.n_layer * 22  # in units of C numbers a token
    activations = tokens * (layers * c.n_embd + 2 * c.vocab_size)
    return model.dtype.itemsize * (model.num_parameters * (2 + config.shards) + activations)
