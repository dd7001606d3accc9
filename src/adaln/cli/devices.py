"""Where a verb computes."""

import torch

from adaln.parallel import local_rank


def find_device(name: str) -> torch.device:
    """The device that a name means on this machine; `ValueError` where it is not there.

    `cuda`: under torchrun the one of this process's own number.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available.get(name.partition(":")[0], False):
        raise ValueError(f"device {name!r} is not here; available: {', '.join(k for k, v in available.items() if v)}")
    if name != "cuda":
        return torch.device(name)
    number, count = local_rank(), torch.cuda.device_count()
    if number >= count:
        raise ValueError(
            f"process {number} of this machine finds no GPU of its own; expected at most {count} processes"
        )
    return torch.device(name, number)
