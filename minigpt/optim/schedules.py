"""Learning-rate schedules: functions of the step to a factor of the peak rate, between 0 and 1."""

import math


def warm_up(step, warmup):
    """Linear warm-up: from 1 / (warmup + 1) at step 0 to 1 at step `warmup`."""
    return min(1.0, (step + 1) / (warmup + 1))


def progress(step, steps, warmup):
    """How far step is on the way from the end of the warm-up (0) to the last step (1)."""
    return min(1.0, max(0.0, (step - warmup) / max(1, steps - 1 - warmup)))


def cosine(step, steps, warmup=0, final=0.1):
    """Warm-up, then half a cosine down to `final` at the last step (Loshchilov and Hutter 2016,
    arXiv:1608.03983, eq. 5).

        factor = final + (1 - final) * (1 + cos(pi * progress)) / 2
    """
    return warm_up(step, warmup) * (final + (1 - final) * (1 + math.cos(math.pi * progress(step, steps, warmup))) / 2)


def linear(step, steps, warmup=0, final=0.1):
    """Warm-up, then a straight line down to `final` at the last step: factor = 1 - (1 - final) *
    progress.
    """
    return warm_up(step, warmup) * (1 - (1 - final) * progress(step, steps, warmup))


def constant(step, steps, warmup=0, final=0.1):
    """Warm-up, then 1."""
    return warm_up(step, warmup)


SCHEDULES = {"cosine": cosine, "linear": linear, "constant": constant}
