"""The learning rate as a function of the step alone: a longer run goes on, a resumed one needs nothing to restore."""

from math import cos, pi

from adaln.config import Schedule


def lr_factor(schedule: Schedule, step: int) -> float:
    """What the learning rate is multiplied by for the update from `step` to `step + 1`.

        warm-up   (step + 1) / warmup_steps                        while step < warmup_steps, then 1
        linear    end_factor + (1 - end_factor) (1 - p)            p from 0 at decay_start to 1 at decay_end, and on
        cosine    end_factor + (1 - end_factor) (1 + cos(pi p)) / 2

    Source: the trapezoid of Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations"; the cosine of Loshchilov and Hutter 2017, "SGDR", equation 5 without restarts.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.decay == "none":
        return 1.0
    p = (step - schedule.decay_start) / (schedule.decay_end - schedule.decay_start)
    p = min(max(p, 0.0), 1.0)
    remaining = 1 - p if schedule.decay == "linear" else (1 + cos(pi * p)) / 2
    return schedule.end_factor + (1 - schedule.end_factor) * remaining
