"""What a run's manifest says: of the machine and its versions, of the data, of the parameters."""

import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

from adaln.conditioning import Scheme, num_held
from adaln.data import Dataset, absolute_path
from adaln.data.dataset import count_classes
from adaln.version import __version__


def environment(device: torch.device) -> dict[str, Any]:
    """What a number depends on beyond the config: versions and numeric settings of this process."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "adaln": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": version("safetensors"),
        "device": accelerator,
        "num_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def describe_data(dataset: Dataset, path: str) -> dict[str, Any]:
    """The run's data, and where it lies; the fingerprint is over pixels (or moments) and labels, held out or not."""
    row = {
        "name": dataset.name,
        "path": absolute_path(path),
        "fingerprint": dataset.fingerprint,
        "num_images": len(dataset),
        "class_names": list(dataset.class_names),
        "class_counts": list(count_classes(dataset.labels, dataset.class_names).values()),
        "passed_over": list(dataset.passed_over),
        "skipped": list(dataset.skipped),
        "spec": asdict(dataset.spec),
        "latents": dataset.describe_latents(),
    }
    if dataset.split:
        labels = dataset.labels[dataset.split.held_out]
        counts = list(count_classes(labels, dataset.class_names).values())
        row["held_out"] = {"num_images": len(labels), "class_counts": counts}
    return row


def describe_parameters(model: torch.nn.Module, scheme: Scheme) -> dict[str, int]:
    """Trainable parameters of the network, and how many of them the scheme leaves to training."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = sum(p.numel() for p in trainable.values())
    return {"network": total, "trained": total - num_held(trainable, scheme)}


def _commit() -> str | None:
    """Commit of the source tree that this package runs from; None for an installed wheel."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()
