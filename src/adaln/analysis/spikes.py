"""How often a loss leaps: SpikeScore.

Source: OLMo-core, `StabilityMonitorCallback` (window_size 128, threshold_std 6.0): a value is a spike that lies more
than six standard deviations above the mean of the 128 before it, both over n; the score is the share of spikes.
"""

from collections.abc import Sequence

import numpy as np

WINDOW, DEVIATIONS = 128, 6.0
LEAST_STD = 1e-10
"""Below which nothing is a spike."""
CHUNK = 1 << 14


def spike_score(losses: Sequence[float], gradient_norms: Sequence[float] = ()) -> float | None:
    """Share of the steps at which the loss, or the norm of the gradient, spikes; None of fewer than 128.

    >>> spike_score([1.0, 1.1] * 100 + [9.0])
    0.004975124378109453
    """
    if len(losses) < WINDOW:
        return None
    spiked = spikes(losses)
    return float((spiked | spikes(gradient_norms) if len(gradient_norms) else spiked).mean())


def spikes(values: Sequence[float]) -> np.ndarray:
    """At which of the values there is a spike."""
    series = np.asarray(values, np.float64)
    found = np.zeros(len(series), bool)
    for start in range(WINDOW, len(series), CHUNK):
        now = series[start : start + CHUNK]
        before = np.lib.stride_tricks.sliding_window_view(series[start - WINDOW : start + len(now) - 1], WINDOW)
        std = before.std(axis=1)
        found[start : start + len(now)] = (std >= LEAST_STD) & (now > before.mean(axis=1) + DEVIATIONS * std)
    return found
