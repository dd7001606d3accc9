"""What moves the weights: AdamW, and Muon for matrices, with settings by role.

Rows of one tensor that have other settings than the rest are views of it, each a parameter of the optimiser; what it
remembers of them are views of whole tensors as well, so that checkpoints are laid out alike whatever the settings.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from adaln.conditioning import Order, OrderPart, by_role, find_layout, roles_of
from adaln.config import OptimConfig
from adaln.parallel import is_sharded, own, shard_like
from adaln.types import rows_axis


@dataclass(frozen=True, slots=True)
class Settings:
    """How a part of the weights is moved."""

    lr: float
    """Before the schedule."""
    betas: tuple[float, ...]
    weight_decay: float
    is_muon: bool = False

    @property
    def memory(self) -> tuple[str, ...]:
        """What is remembered of each element."""
        return ("momentum_buffer",) if self.is_muon else ("exp_avg", "exp_avg_sq")


def usual(optim: OptimConfig) -> Settings:
    """Of what nothing else is said."""
    return Settings(optim.lr, optim.betas, optim.weight_decay)


def settings_of(
    tensors: Mapping[str, Tensor], optim: OptimConfig, lr_factors: Mapping[str, float], model: nn.Module
) -> dict[OrderPart, Settings]:
    """Of every row of every tensor; neighbouring rows that AdamW moves alike are one part.

    `ValueError` for a role that the network lacks.
    """
    whole = {name: OrderPart(name, 0, _num_rows(tensor)) for name, tensor in tensors.items()}
    lr, betas, decay = (by_role(name, getattr(optim, f"{name}_of")) for name in ("lr", "betas", "weight_decay"))
    roles = dict.fromkeys(whole.values(), "")
    if optim.roles:
        roles = roles_of(tensors, find_layout(model), optim.roles)

    def of(part: OrderPart, role: str) -> Settings:
        (rate,), (weight_decay,) = lr.get(role, (optim.lr,)), decay.get(role, (optim.weight_decay,))
        is_muon = role in optim.muon and tensors[part.tensor].ndim == 2
        return Settings(rate * lr_factors.get(part.tensor, 1.0), betas.get(role, optim.betas), weight_decay, is_muon)

    joined: dict[OrderPart, Settings] = {}
    for (name, settings), run in groupby(roles, lambda part: (part.tensor, of(part, roles[part]))):
        alike = list(run)
        for some in [[part] for part in alike] if settings.is_muon else [alike]:
            joined[OrderPart(name, some[0].start, some[-1].stop)] = settings
    return joined


def decay_of_held(order: Order, settings: Mapping[OrderPart, Settings]) -> float:
    """The largest weight decay of rows that an order holds."""
    held = [part for part, opens in order.items() if opens != 0]
    return max(
        (
            one.weight_decay
            for part, one in settings.items()
            if any(h.tensor == part.tensor and h.start < part.stop and part.start < h.stop for h in held)
        ),
        default=0.0,
    )


class RoleOptimizer:
    """AdamW and Muon as one: each part of the weights is a parameter of theirs, a view of its tensor."""

    def __init__(self, named: Mapping[str, Tensor], settings: Mapping[OrderPart, Settings]) -> None:
        self.named, self.settings = named, settings
        self.memory: dict[str, dict[str, Tensor]] = {name: {} for name in named}
        """By tensor and kind what is remembered of it, whole."""
        self.views: dict[OrderPart, Tensor] = {}
        self.counts: dict[OrderPart, Tensor] = {}
        """How many steps AdamW has made with a part."""
        for part, one in settings.items():
            tensor = named[part.tensor]
            for kind in one.memory:
                self.memory[part.tensor].setdefault(kind, torch.zeros_like(tensor, requires_grad=False))
            self.views[part] = self._part(part, tensor.detach())
            if not one.is_muon:
                self.counts[part] = torch.zeros((), device=self.views[part].device)
        self.optimizers: list[torch.optim.Optimizer] = []
        for is_muon in (False, True):
            by_settings: dict[Settings, list[Tensor]] = defaultdict(list)
            for part, view in self.views.items():
                if settings[part].is_muon == is_muon and view.numel():  # of a shard a process may hold nothing
                    by_settings[settings[part]].append(view)
            if by_settings:
                self.optimizers.append((_muon if is_muon else _adamw)(by_settings))
        self._remind()

    def _part(self, part: OrderPart, tensor: Tensor) -> Tensor:
        """What this process holds of it; of a sharded matrix that Muon moves all, which torch computes together."""
        if not (self.settings[part].is_muon and is_sharded(tensor)):
            return part.of({part.tensor: tensor})
        if (part.start, part.stop) != (0, len(tensor)):
            raise ValueError(
                f"optim.muon takes rows of {part.tensor!r}, which is sharded over processes; expected roles"
                " of whole matrices (backbone, head), or no sharding"
            )
        return tensor  # type: ignore[no-any-return]

    def _remind(self) -> None:
        """Let the optimisers' states be the views of what is remembered."""
        for optimizer in self.optimizers:
            held = {id(view) for group in optimizer.param_groups for view in group["params"]}
            for part, view in self.views.items():
                if id(view) in held:
                    kept = {
                        kind: self._part(part, self.memory[part.tensor][kind]) for kind in self.settings[part].memory
                    }
                    optimizer.state[view] = kept | ({"step": self.counts[part]} if part in self.counts else {})

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all that has a gradient, at `factor` of its learning rate."""
        for part, view in self.views.items():
            gradient = self.named[part.tensor].grad
            view.grad = None if gradient is None else self._part(part, gradient)
            if part in self.counts and gradient is not None and not view.numel():
                self.counts[part] += 1  # as the processes that hold it count
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor
            optimizer.step()
        for view in self.views.values():
            view.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """What is remembered, by `KIND/NAME` of the tensor."""
        counts = {f"step/{part.tensor}": count for part, count in self.counts.items()}
        return {f"{kind}/{name}": one for name, kinds in self.memory.items() for kind, one in kinds.items()} | counts

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave; `ValueError` where that is of other settings."""
        if saved.keys() != self.tensors().keys():
            raise ValueError(f"missing or unknown: {min(saved.keys() ^ self.tensors().keys())!r}")
        for name, kinds in self.memory.items():
            for kind, one in kinds.items():
                own(one).copy_(own(shard_like(one, saved[f"{kind}/{name}"])))
        for part, count in self.counts.items():
            count.copy_(saved[f"step/{part.tensor}"])

    def describe(self) -> list[dict[str, Any]]:
        """One entry for all that is moved alike, for a run's manifest."""
        numbers: dict[Settings, int] = defaultdict(int)
        for part, one in self.settings.items():
            tensor = self.named[part.tensor]
            numbers[one] += tensor.numel() // _num_rows(tensor) * (part.stop - part.start)
        return [{**asdict(one), "parameters": count} for one, count in numbers.items()]


def _num_rows(tensor: Tensor) -> int:
    """By its shape alone: a look at rows of a sharded tensor is one of all processes."""
    return tensor.shape[rows_axis(tensor.shape)] if tensor.ndim else 1


def _adamw(groups: Mapping[Settings, list[Tensor]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": views, "full_lr": one.lr, "betas": one.betas, "weight_decay": one.weight_decay}
            for one, views in groups.items()
        ],
        fused=True,
    )


def _muon(groups: Mapping[Settings, list[Tensor]]) -> torch.optim.Optimizer:
    """Updates as large as AdamW's (0.2 of the learning rate an element), so that a learning rate serves both."""
    return torch.optim.Muon(
        [{"params": views, "full_lr": one.lr, "weight_decay": one.weight_decay} for one, views in groups.items()],
        adjust_lr_fn="match_rms_adamw",
    )
