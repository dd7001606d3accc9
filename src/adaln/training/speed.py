"""How fast a training is: lines of speed.jsonl, and what stands beside its progress."""

import resource
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

import torch

from adaln.config import model_name
from adaln.execution import kept_rate
from adaln.models import flops
from adaln.progress import note
from adaln.runs import Run, append_record, beside
from adaln.training.ema_and_optimizer import TrainState

BACKWARD = 3
"""A training step costs about three forward passes."""
TIMED_STEPS = 2
"""After the first of a session, which may compile: they say how long all of it will take."""
LONG_SECONDS = 2 * 86_400


class Speed:
    """The clock of one session of a training; what it says reads the device, so ask it seldom."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._state: TrainState | None = None
        self._share_of_image: float | None = None

    def start(self, state: TrainState) -> None:
        """From here on."""
        self._state, self._began_at = state, state.step
        self._last = state.step, time.monotonic()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of speed.jsonl beside one of metrics.jsonl, which holds no times: killed or not, its bytes are the
        same."""
        (before, start), now = self._last, time.monotonic()
        self._last = step, now
        images = (step - before) * self.run.config.batch_size / max(now - start, 1e-9)
        row = {"step": step, "seconds": round(now - start, 3), "images_per_second": round(images, 3)}
        append_record(self.run.path / "speed.jsonl", {**row, "peak_bytes": self.peak_bytes()})

    def words(self, stage: str, steps_per_second: float) -> str:
        """Beside the progress of this training: loss and gradient of the newest step, images per second, share of what
        products of matrices reach on this machine, memory."""
        state = self._state
        if state is None or state.step == self._began_at or not stage.endswith(f"train {self.run.path.name}"):
            return ""
        rate = steps_per_second * self.run.config.batch_size
        parts = [
            f"loss {state.norms[0].item():.4f}",
            f"gradient {state.grad_norm().item():.3g}",
            f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s",
            f"{100 * rate * self.share_of_image():.2g} % of pure matmul speed",
            f"{self.peak_bytes() / 1e9:.1f} GB",
        ]
        return ", ".join(part for part in parts if not part.startswith("0 %"))

    def share_of_image(self) -> float:
        """Of this machine's products per second, what training on one image takes; 0 where that is not known."""
        if self._share_of_image is None:
            run, self._share_of_image = self.run, 0.0
            with suppress(torch.OutOfMemoryError):
                rate = kept_rate(run.config.model.hidden_size, run.config.precision, run.device)
                cores = 1 if run.device.type == "cuda" else torch.get_num_threads()
                self._share_of_image = BACKWARD * flops(run.config.model, run.spec) / (rate * cores)
        return self._share_of_image

    def peak_bytes(self) -> int:
        """The most memory that was taken so far: of the GPU, else of this process."""
        if self.run.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.run.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def say_if_long(self, state: TrainState) -> None:
        """After a few steps, once, where the rest of them takes days."""
        done = state.step - self._began_at
        if done == 1:
            self._second = time.monotonic()
        elif done == 1 + TIMED_STEPS:
            each = (time.monotonic() - self._second) / TIMED_STEPS
            seconds = each * (self.run.config.steps - state.step)
            if seconds > LONG_SECONDS:
                hint = "; --model tiny or fewer --steps try the way" if self.run.device.type == "cpu" else ""
                note(f"{seconds / 86_400:,.1f} days to go at {each:.2g} s a step{hint}")


def say_what_begins(run: Run, step: int, parameters: int) -> None:
    """Before the first step: which run, how large it is, and what it differs in from the one most like it."""
    config = run.config
    if step >= config.steps:
        return
    if step:
        note(f"going on with {run.path} at step {step:,} of {config.steps:,}")
        return
    what = f"{model_name(config.model)}, {parameters / 1e6:.3g} M parameters, {config.scheme.name}"
    note(f"new run {run.path}: {what}, {run.device}, {config.steps:,} steps of {config.batch_size} images")
    if unlike := beside(run.path, config):
        note(f"it {unlike}")
