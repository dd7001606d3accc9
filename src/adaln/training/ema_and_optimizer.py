"""What changes while a network trains: weights, their moving average (EMA), the optimiser, the step."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from adaln.config import OptimConfig
from adaln.execution import Precision, blocks
from adaln.files import reading
from adaln.parallel import all_reduce_mean, all_reduce_sum, fully_shard, own, shard_like
from adaln.runs import load_into
from adaln.runs.power_averages import EVERY, PREFIX, Profile
from adaln.specs import StoredType
from adaln.training.at_once import UpdateAtOnce, are_small, norms_of
from adaln.training.learning_rate import lr_factor
from adaln.training.optimizer import RoleOptimizer, settings_of, usual
from adaln.types import NonFinite


@torch.no_grad()
def store_in_bfloat16(weights: list[Tensor]) -> None:
    """Round the values, in place, to what bfloat16 holds: the memory stays as it is."""
    torch._foreach_copy_(weights, [tensor.bfloat16() for tensor in weights])


class TrainState:
    """The state of one training run; `update` makes one step of it."""

    def __init__(
        self,
        model: nn.Module,
        optim: OptimConfig,
        is_sharded: bool = False,
        precision: Precision = "float32",
        lr_factors: Mapping[str, float] | None = None,
        param_dtype: StoredType = "float32",
    ) -> None:
        """`lr_factors`: what multiplies the learning rate of the weights that it names."""
        self.model, self.rounds = model, param_dtype == "bfloat16"
        if self.rounds:
            store_in_bfloat16([*model.parameters()])
        self.ema = copy.deepcopy(model).requires_grad_(False)
        self.is_sharded = is_sharded
        for network in (self.model, self.ema) if is_sharded else ():
            fully_shard(network, blocks(network), rounded=precision == "bfloat16")
        self.step = 0
        self.optim = optim
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.trained: list[Tensor] = [own(p) for p in self.named.values()]
        self.averaged: list[Tensor] = [own(dict(self.ema.named_parameters())[name]) for name in self.named]
        self.powers = {width: [p.detach().clone() for p in self.named.values()] for width in optim.ema_widths}
        """Power-function averages by their width."""
        settings = settings_of(self.named, optim, lr_factors or {}, model)
        self.by_role = RoleOptimizer(self.named, settings) if {*settings.values()} != {usual(optim)} else None
        """What moves the weights where some have settings of their own."""
        self.optimizer = torch.optim.AdamW(
            self.named.values(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
        device = next(model.parameters()).device
        self.loss_sum = torch.zeros((), device=device)
        """Sum of the losses since the last log step; in the checkpoint, so that a resumed log is the same log."""
        self.at_once: UpdateAtOnce | None = None
        """Of small tensors, from the second step after a start on."""
        self.norms = torch.zeros(1 + len(self.named), device=device)
        """(loss, gradient norm per tensor) of the newest step, or of the first step that was not finite."""

    def update(self, loss: Tensor) -> None:
        """Clip, optimise, average, clear gradients: one step. No host-device synchronisation on an accelerator; on the
        CPU, where looking is free, a step that is not finite raises `NonFinite` before it touches the weights."""
        gradients = [own(torch.zeros_like(p) if p.grad is None else p.grad) for p in self.named.values()]
        others = [] if self.at_once else self.averaged
        is_small = not self.is_sharded and are_small([*self.trained, *others, *gradients])
        norms = norms_of(gradients) if is_small else torch.stack(torch._foreach_norm(gradients))
        if self.is_sharded:
            norms = all_reduce_sum(norms.double().square()).sqrt().float()
        norms = torch.cat([loss.detach()[None], norms])
        if norms.device.type == "cpu":
            self.norms = norms
            self.check_finite()
        else:
            self.norms = torch.where(torch.isfinite(self.norms).all(), norms, self.norms)
        self._move(gradients, is_small)
        for parameter in self.named.values():
            parameter.grad = None
        self.loss_sum += loss.detach()
        self.step += 1
        if self.step % EVERY == 0:
            for width, average in self.powers.items():
                kept = Profile(self.step, width).kept
                torch._foreach_lerp_([own(tensor) for tensor in average], self.trained, 1 - kept)

    def _move(self, gradients: list[Tensor], is_small: bool) -> None:
        """Weights and their average, by clipped gradients."""
        most, lr = self.optim.grad_clip, self.learning_rate(self.step)
        scale = (most / (self.grad_norm() + 1e-6)).clamp(max=1.0) if most else None
        if is_small and not self.rounds and all(p.grad is not None for p in self.named.values()):
            states = [self.optimizer.state[p] for p in self.named.values()] if self.at_once is None else []
            if all(states):
                self.at_once = self.at_once or UpdateAtOnce(self.averaged, states)
                self.at_once(self.trained, gradients, self.optim, lr, 1.0 if scale is None else scale.item())
                return
        if scale is not None:
            torch._foreach_mul_(gradients, scale)
        if self.by_role:
            self.by_role.step(lr_factor(self.optim.schedule, self.step))
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        if self.rounds:
            store_in_bfloat16(self.trained)
        torch._foreach_lerp_(self.averaged, self.trained, 1 - self.optim.ema_decay)

    def learning_rate(self, step: int) -> float:
        """That of the update from `step` to `step + 1`."""
        return self.optim.lr * lr_factor(self.optim.schedule, step)

    def grad_norm(self) -> Tensor:
        """Euclidean norm of the whole gradient, before clipping."""
        norm: Tensor = torch.linalg.vector_norm(self.norms[1:])
        return norm

    def check_finite(self) -> None:
        """Raise `NonFinite` naming the first tensor that went wrong: the loss, else gradients from the head backwards.

        In all processes or in none. Reads the device: on an accelerator call it at log steps and before a save.
        """
        good = torch.isfinite(all_reduce_mean(self.norms))
        if good.all():
            return
        finite = good.tolist()
        backwards = list(zip(self.named, finite[1:], strict=True))[::-1]
        bad = [name for name, good in backwards if not good]
        raise NonFinite("the loss is not finite" if not finite[0] else f"the gradient of {bad[0]!r} is not finite")

    def not_finite(self) -> str | None:
        """The first tensor to be saved that is not finite, if any: an update may overflow though its gradient did not.

        The same answer in all processes. Reads all tensors and the device, so call it before a save only.
        """
        for file, tensors in self.tensors().items():
            real = {name: own(tensor) for name, tensor in tensors.items() if tensor.is_floating_point()}
            good = all_reduce_mean(torch.stack([torch.isfinite(tensor).all() for tensor in real.values()]).float())
            for name, share in zip(real, good.tolist(), strict=True):
                if share < 1:
                    return f"{name!r} of {file}"
        return None

    def mean_loss_sum(self) -> Tensor:
        """Sum of the losses since the last log step, as all processes together see them."""
        return self.loss_sum.copy_(all_reduce_mean(self.loss_sum))

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Everything to save, by file: the model, its average, and by parameter name the optimiser's state and
        power-function averages."""
        moments = {
            f"{key}/{name}": value for name, p in self.named.items() for key, value in self.optimizer.state[p].items()
        }
        if self.by_role:
            moments = self.by_role.tensors()
        powers = {
            f"{PREFIX}{width:g}/{name}": tensor
            for width, average in self.powers.items()
            for name, tensor in zip(self.named, average, strict=True)
        }
        training = {**moments, **powers, "step": torch.tensor(self.step), "loss_sum": self.loss_sum}
        return {"model": self.model.state_dict(), "ema": self.ema.state_dict(), "training": training}

    def load(self, files: Mapping[str, Mapping[str, Tensor]], origin: str) -> None:
        """Put back what `tensors` gave; `ValueError` where it does not fit this model or is not finite."""
        load_into(self.model, files["model"], f"{origin}/model.safetensors")
        load_into(self.ema, files["ema"], f"{origin}/ema.safetensors")
        if not files["training"]:
            raise ValueError(f"{origin} has no optimiser's state, as runs of the hub; training cannot go on from it")
        with reading(Path(origin) / "training.safetensors", "the optimiser's state of this model"):
            self._load_training(dict(files["training"]))
        bad = self.not_finite()
        if bad:
            raise NonFinite(f"{origin}: {bad} is not finite; without this folder the checkpoint before it is taken")

    def _load_training(self, saved: dict[str, Tensor]) -> None:
        self.step, self.at_once = int(saved.pop("step")), None
        self.loss_sum.copy_(saved.pop("loss_sum"))
        averages = {f"{PREFIX}{width:g}": average for width, average in self.powers.items()}
        if self.by_role:
            self.by_role.load({key: saved.pop(key) for key in [*saved] if key.partition("/")[0] not in averages})
        names = {key.partition("/")[2] for key in saved if key.partition("/")[0] not in averages}
        wanted = {f"{kind}/{name}" for name in names for kind in ("step", "exp_avg", "exp_avg_sq")}
        wanted |= {f"{kind}/{name}" for name in self.named for kind in averages}
        if saved.keys() != wanted:
            raise ValueError(f"missing or unknown: {min(saved.keys() ^ wanted)!r}")
        for key, value in saved.items():
            kind, _, name = key.partition("/")
            parameter = self.named[name]
            if kind in averages:
                own(averages[kind][[*self.named].index(name)]).copy_(own(shard_like(parameter, value)))
            elif kind == "step":  # one number for the whole tensor
                self.optimizer.state[parameter][kind] = value.to(parameter.device)
            else:
                self.optimizer.state[parameter][kind] = shard_like(parameter, value)
