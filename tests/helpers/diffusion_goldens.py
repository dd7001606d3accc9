"""Reading the golden index files of diffusion: settings of the reference -> our configs, and the toy models."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from adaln.processes import GaussianConfig, GaussianDiffusion, Interpolant, InterpolantConfig
from helpers.golden_files import golden_files

Case = tuple[Path, dict[str, Any]]
"""The folder and the entry of a case in its index."""


@cache
def tensors(file: Path) -> dict[str, Tensor]:
    return load_file(file)


@cache
def index(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def sections(family: str, section: str) -> list[Case]:
    """(folder, section) of every index of the family ("dit" or "sit") that has the section."""
    files = golden_files("diffusion", f"index_{family}*.json")
    assert files, f"no index_{family}*.json in the golden folders"
    return [(file.parent, index(file)[section]) for file in files if section in index(file)]


def cases(family: str, section: str, entry: str = "cases") -> list[Case]:
    """Every case of a section, its settings completed by the section's file."""
    return [
        (folder, {"file": body["file"], **case})
        for folder, body in sections(family, section)
        for case in body.get(entry, [])
    ]


def name(value: object) -> str | None:
    """Test id of a case."""
    if not isinstance(value, dict):
        return None
    return str(value.get("name") or value.get("key") or "-".join(str(v) for v in value.values() if v is not None))


def gaussian(create: dict[str, Any]) -> GaussianDiffusion:
    """The reference's `create_diffusion` arguments as our process; an unknown setting fails loudly."""
    known = {
        "timestep_respacing",
        "noise_schedule",
        "learn_sigma",
        "sigma_small",
        "predict_xstart",
        "use_kl",
        "rescale_learned_sigmas",
        "diffusion_steps",
        "classes",
    }
    assert set(create) <= known, f"unknown settings {set(create) - known}"
    classes = create.get("classes", "")
    assert classes in ("", "LossType.KL, LEARNED_RANGE, EPSILON, full 1000 linear"), classes
    rescaled = "rescaled-mse" if create.get("rescale_learned_sigmas") else "mse"
    fixed = "fixed-small" if create.get("sigma_small") else "fixed-large"
    config = GaussianConfig(
        num_steps=create.get("diffusion_steps", 1000),
        schedule=create.get("noise_schedule", "linear"),
        variance="learned-range" if create.get("learn_sigma", True) else fixed,
        prediction="x_start" if create.get("predict_xstart") else "noise",
        objective="kl" if classes else "rescaled-kl" if create.get("use_kl") else rescaled,
    )
    return GaussianDiffusion(config).respaced(create.get("timestep_respacing") or "")


def interpolant(path: str, prediction: str = "velocity", **settings: Any) -> Interpolant:
    """The reference's names as our process."""
    return Interpolant(InterpolantConfig(path=path.lower(), prediction=prediction, **settings))


def toy_fixed(x: Tensor, t: Tensor) -> Tensor:
    """The noise half of the toy: 0.5 x cos(s) + 0.1 s, s = step / 1000 in x's precision."""
    s = (t.to(x.dtype) / 1000)[:, None, None, None]
    return 0.5 * x * torch.cos(s) + 0.1 * s


def toy(x: Tensor, t: Tensor) -> Tensor:
    """The toy with learned variance: channel c of the second half is -0.5 + 0.4 c."""
    c = torch.arange(x.shape[1], dtype=x.dtype)[:, None, None]
    return torch.cat([toy_fixed(x, t), (-0.5 + 0.4 * c).expand_as(x)], 1)


TOYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"toy": toy, "toy_fixed": toy_fixed}


def toy_velocity(x: Tensor, t: Tensor) -> Tensor:
    t = t[:, None, None, None]
    return 0.6 * torch.sin(x) * torch.cos(2 * t) - 0.4 * t + 0.1 * x


def toy_noise(x: Tensor, t: Tensor) -> Tensor:
    t = t[:, None, None, None]
    return (1 + 0.3 * t) * (1 - 0.5 * t) * x + 0.1 * t * torch.sin(3 * x)


def toy_score(x: Tensor, t: Tensor) -> Tensor:
    t = t[:, None, None, None]
    return -(1 + 0.2 * t) * x + 0.1 * t * torch.cos(2 * x)


INTERPOLANT_TOYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "velocity": toy_velocity,
    "noise": toy_noise,
    "score": toy_score,
}


def tolerance(case: dict[str, Any]) -> float:
    """The specification's: twenty times the float32 run's own distance from float64, plus 1e-6."""
    return 20 * float(case["max_abs_diff_vs_float64_state"]) + 1e-6


def replay(draws: Tensor) -> Callable[[], Tensor]:
    """A `draw` that gives stored noise in order."""
    return iter(draws).__next__


def formula(text: str, x: Tensor, t: Tensor) -> Tensor:
    """Value of a function that an index writes out, e.g. "0.2*(0.5-x)*t/1000 with the mapped t"."""
    expression = re.split(r" with | \(applied", text)[0]
    value = eval(expression, {"__builtins__": {}}, {"x": x, "t": t[:, None, None, None]})
    assert isinstance(value, Tensor)
    return value


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def near(actual: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    """Equal to the rounding of a few float32 operations."""
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-6)
