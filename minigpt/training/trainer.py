"""The training loop: batches in, better parameters out, and everything written down so that it can
be stopped and taken up again.
"""

import dataclasses
import math
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minigpt import checkpoint
from minigpt.errors import MinigptError
from minigpt.machine import check_memory, check_threads, describe_settings, thread_settings, usable_threads
from minigpt.models import load
from minigpt.objectives import NextToken
from minigpt.optim import SCHEDULES, clip_by_norm
from minigpt.training.diagnosis import diagnosis, first_not_finite_name
from minigpt.training.interrupt import Interrupted, StopRequest
from minigpt.training.measures import described, measure, uniform_loss
from minigpt.training.run_files import (
    BEST,
    LAST,
    LOSS_CURVE,
    METRICS,
    add_metrics,
    check_same_run,
    keep_metrics,
    read_metrics,
    read_state,
    set_aside,
)
from minigpt.training.run_lock import RunLock
from minigpt.training.samples import sample
from minigpt.training.step import (
    compute_gradients,
    divisors_of,
    draw_parts,
    generator,
    make_optimizer,
    training_memory,
)
from minigpt.training.threads import Workers, candidates, measure_threads

REPORT_INTERVAL = 10  # steps between lines of metrics.jsonl
WORTH_MEASURING = 50  # steps; a shorter run takes the number of threads that should be best


class Diverged(MinigptError):
    """The loss or a gradient is no longer finite."""


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
        objective=None,
        tokenizer=None,
        data_sha256=None,
        val_bytes=None,
        settings=None,
        threads="auto",
        say=print,
        bar=True,
        band=None,
    ):
        """model: of any family; train_tokens, val_tokens: what the objective makes batches of,
        integer arrays (N,) or Documents; config: a TrainConfig; out: a directory.

        objective: NextToken unless given; tokenizer and data_sha256 are saved with the run;
        val_bytes: of the text of val_tokens, for losses in bits per byte; settings: what else a run
        must have in common with one that it goes on with, a dict for JSON; threads: a number, or
        "auto" to measure which is fastest; say: where messages and samples go; bar: whether to draw
        one of progress; band: what is normal for this run (a bands.Band), to compare it with.
        MinigptError for texts that are too short, tokens out of range, other ends than a model of
        two stacks has, too many threads, or a run that would not fit into memory.
        """
        self.model, self.config, self.out, self.tokenizer = model, config, Path(out), tokenizer
        self.train_tokens, self.val_tokens = train_tokens, val_tokens
        self.data_sha256, self.say, self.bar, self.band = data_sha256, say, bar, band
        self.val_bytes, self.settings = val_bytes, settings or {}
        self.objective = objective or NextToken(model.config.block_size)
        check_objective(self.objective, model.config, train_tokens, val_tokens)
        check_threads(threads, config.shards)
        memory = training_memory(model, config, self.objective.length, threads)
        check_memory(memory, f"training this model on batches of {config.batch_size}")
        self.threads = threads
        self.workers = Workers(min(usable_threads(), config.shards) if threads == "auto" else threads)
        self.optimizer = make_optimizer(model, config)
        self.gradients = [model.store.zeros_like() for _ in range(config.shards)]
        self.step, self.seconds = 0, 0.0  # steps done, and the wall-clock time they took with evaluation and saving
        self.best, self.val_loss = math.inf, None
        self.measures = {}  # what else was measured with it, see measures.measure
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
            self.set_aside()
            return self.train()

    def set_aside(self):
        """Move an earlier run out of the folder, which is this trainer's own from then on;
        `run` does so unless it was done. MinigptError as for run_files.set_aside.
        """
        with self.lock:
            if not self.begun:
                set_aside(self.out, self.tell)
                self.begun = True

    def tell(self, message):
        """Pass on a message to `say`, which may be replaced while the trainer lives."""
        self.say(message)

    def train(self):
        """run, in a folder that is this trainer's own."""
        self.choose_threads()
        config, self.began = self.config, time.perf_counter() - self.seconds
        tokens = config.batch_size * config.accumulate * self.objective.length
        options = {"total": config.steps, "initial": self.step, "unit": "step", "dynamic_ncols": True}
        with tqdm(**options, disable=None if self.bar and sys.stderr else True) as bar, StopRequest() as stop:
            if self.step == 0:
                self.save(LAST)  # so that even a run that is stopped at once can be resumed
            while self.step < config.steps:
                started = time.perf_counter()
                loss, norm, factor = self.train_step()
                rate = tokens / (time.perf_counter() - started)
                self.step += 1
                self.losses.append(loss)
                self.seconds = time.perf_counter() - self.began
                lr = self.optimizer.lr * factor
                bar.set_postfix_str(f"loss {loss:.3f}, lr {lr:.2e}, {rate:,.0f} tokens/s", refresh=False)
                bar.update()
                self.take_stock(norm, lr, bar)
                last = self.step == config.steps
                if self.step % config.save_interval == 0 or last or stop:
                    self.save(LAST)
                if stop and not last:
                    where = f"step {self.step} of {config.steps}"
                    message = f"stopped and saved after {where}; the same command with --resume goes on from there"
                    raise Interrupted(message, stop.signal)
        self.draw()
        return self.val_loss

    def take_stock(self, norm, lr, bar):
        """After a step, where it is time: evaluate, write a row of metrics, say how it goes, and
        keep the best model.
        """
        evaluating = self.step % self.config.eval_interval == 0 or self.step == self.config.steps
        if evaluating:
            self.val_loss = self.evaluate()
            if not math.isfinite(self.val_loss):
                good = f"{self.out / LAST} holds the last good checkpoint"
                raise Diverged(f"step {self.step}: the validation loss is {self.val_loss}; {good}")
            self.seconds = time.perf_counter() - self.began
        if evaluating or self.step % REPORT_INTERVAL == 0:
            row = self.write_metrics(norm, lr, self.val_loss if evaluating else None)
        if evaluating:
            self.announce(bar, row["train_loss"])
            if self.val_loss < self.best:
                self.best = self.val_loss
                self.save(BEST)

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
                    rounds = (self.config.steps - self.step) // 50
                    seconds = measure_threads(work, candidates(threads, self.config.shards), rounds=rounds)
            finally:
                self.workers = chosen
            # the largest number is given up for a clear gain only: other programs go, the run stays
            threads = min(seconds, key=lambda count: seconds[count] * (1 if count == max(seconds) else 1.1))
            times = (f"{1000 * took:.3g} ms on {count}" for count, took in sorted(seconds.items()))
            measured = f"; gradients of a step: {', '.join(times)}"
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
        with self.workers.one_blas_thread(), np.errstate(all="ignore"):  # what overflows is found below
            loss = self.compute_gradients()
            total = self.gradients[0]
            norm = clip_by_norm(total, self.config.clip)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise Diverged(self.diagnose(loss))
            c = self.config
            factor = SCHEDULES[c.schedule](self.step, c.steps, c.warmup, c.final_lr)
            self.optimizer.step(self.model.store, total, factor, self.workers.map)
        return loss, norm, factor

    def compute_gradients(self):
        """Mean loss of this step's batches; their gradient is left in gradients[0]."""
        parts, workers = self.parts(), self.workers
        return compute_gradients(self.model, parts, self.gradients, config=self.config, step=self.step, workers=workers)

    def parts(self):
        """The batches of this step, cut into shards -> list of Part."""
        return draw_parts(self.objective, self.train_tokens, self.config, self.step)

    def evaluate(self):
        """Mean loss over the objective's walk through the whole validation split, without dropout;
        what else is measured is left in `measures`.
        """
        rows = -(-self.config.batch_size // self.config.shards)  # as many as a thread has in a step: no more memory
        loss, self.measures = measure(
            self.model, self.objective, self.val_tokens, rows=rows, workers=self.workers, text_bytes=self.val_bytes
        )
        return loss

    def diagnose(self, loss):
        """Where the numbers of this step first went wrong, as a message."""
        parts = self.parts()
        counts = divisors_of(part.batch for part in parts)
        streams = (generator(self.config, self.step, part.micro, part.shard + 1) for part in parts)
        places = (self.model.first_not_finite(part.batch, rng=rng, counts=counts) for part, rng in zip(parts, streams))
        what = diagnosis(loss, self.model.parameters, self.gradients[0], places)
        last = self.out / LAST
        return f"step {self.step + 1}: {what}. {last} holds the last good checkpoint; a lower learning rate may help"

    def write_metrics(self, norm, lr, val_loss):
        """Add a row to metrics.jsonl -> the row."""
        row = {"step": self.step, "seconds": round(self.seconds, 3), "train_loss": sum(self.losses) / len(self.losses)}
        if val_loss is not None:
            row |= {"val_loss": val_loss} | self.measures
        row |= {"lr": lr, "gradient_norm": norm, "data_sha256": self.data_sha256}
        self.losses.clear()
        add_metrics(self.out / METRICS, row)
        return row

    def announce(self, bar, train_loss):
        """Print where the run stands, and a sample of what the model writes by now."""
        loss = f"validation loss {self.val_loss:.4f}{described(self.measures)}"
        lines = [f"step {self.step}: train loss {train_loss:.4f}, {loss}, {self.seconds:.1f} s"]
        if verdict := self.judge():
            lines[0] += f"; {verdict}"
        if self.tokenizer is not None and self.step < self.config.steps:
            lines.append("  " + self.sample(120).replace("\n", "\n  "))
        with bar.external_write_mode():
            self.say("\n".join(lines))

    def judge(self):
        """What to think of the validation loss, just measured, in words; None where there is
        nothing to say.

        That is where a band holds this step, and where a guess that gives all answers the same
        probability is better.
        """
        verdicts = [self.band.judge(self.step, self.val_loss)] if self.band is not None else []
        uniform = uniform_loss(self.objective, self.model.config.vocab_size)
        if self.val_loss > uniform:
            verdicts.append(
                f"above the {uniform:.4f} of a uniform guess: nothing is learnt so far, a lower learning rate may help"
            )
        return "; ".join(filter(None, verdicts)) or None

    def sample(self, length):
        """What the model writes by now, see samples.sample."""
        options = {"tokens": self.val_tokens, "length": length, "seed": self.config.seed}
        return sample(self.model, self.tokenizer, self.objective, **options)

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
            good = f"{self.out / LAST} holds the last good checkpoint"
            raise Diverged(f"step {self.step}: parameter {damaged} is not finite any more; {good}")
        state = None
        if name == LAST:
            values = {
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best if math.isfinite(self.best) else None,
                "losses": self.losses,
                "config": dataclasses.asdict(self.config),
                "data_sha256": self.data_sha256,
                "settings": self.settings | self.objective.settings,
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
        saved, state = load(directory), read_state(directory)
        before = settings_of(saved, state.config, state.data_sha256, state.settings)
        own = self.settings | self.objective.settings
        now = settings_of(self.model, self.config, self.data_sha256, own)
        check_same_run(before, now, directory)
        if (steps := state.config.steps) != self.config.steps:
            schedule = "the learning rate follows the new schedule from here"
            self.say(f"steps: {self.config.steps} in place of {steps}; {schedule}")
        _, tensors = checkpoint.load_state(directory, {name: v.shape for name, v in self.optimizer.state.items()})
        self.model.store.vector[:] = saved.store.vector
        for name, value in tensors.items():
            self.optimizer.state[name][...] = value
        self.step, self.seconds, self.losses, self.best = state.step, state.seconds, state.losses, state.best
        keep_metrics(self.out / METRICS, self.step, self.tell)


def settings_of(model, config, data_sha256, own):
    """What makes a run what it is: name -> value; own: of its objective and tokenizer."""
    values = {"the text's SHA-256": data_sha256, "model_type": model.model_type} | own
    return values | dataclasses.asdict(model.config) | dataclasses.asdict(config)


def check_objective(objective, config, train_tokens, val_tokens):
    """MinigptError for texts that an objective has no use for, and where a model of two stacks
    begins or ends what it writes with other tokens than it is taught: it would go on from what it
    has never seen, and not end.
    """
    objective.check(train_tokens, config.vocab_size, "training text")
    objective.check(val_tokens, config.vocab_size, "validation text")
    tokenizer = getattr(objective, "tokenizer", None)
    if tokenizer is None or not hasattr(config, "decoder_start_token_id"):
        return
    uses = (("decoder_start_token_id", tokenizer.pad_id, "begin with its padding token"),
            ("eos_token_id", tokenizer.eos_id, "end with its end token"))  # fmt: skip
    for name, token, what in uses:
        if (own := getattr(config, name)) != token:
            raise MinigptError(f"{name} is {own}, the tokenizer's targets {what}, which is {token}")
