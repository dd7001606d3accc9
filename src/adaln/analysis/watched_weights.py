"""The weights that a training is watched through: what is kept of them from update to update, and what else moves them.

What moves them besides the updates that are counted comes back as a line to say; "" where nothing did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor, nn

from adaln.analysis.role_updates import (
    KEPT_ENTRIES,
    Entries,
    Watched,
    entries_of,
    not_finite_in,
    parameters_in,
    wide,
)
from adaln.parallel import is_sharded, rank
from adaln.tensor_files import unwrapped


class WatchedWeights:
    """Every tensor of the modulation, found again by its name."""

    def __init__(self, sites: Sequence[Watched], parameters: Callable[[], Mapping[str, nn.Parameter]]) -> None:
        self.sites, self._parameters = sites, parameters
        own = {name: clean for clean, name in unwrapped(parameters()).items()}
        self._own_names = [own[watched.name] for watched in sites]
        self._kept: dict[int, Entries] = {}
        self._rates: dict[int, tuple[float, float]] = {}
        self._squares: dict[int, Tensor] = {}
        self._sample: list[Tensor] = []
        self._last: list[Tensor] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the first process has all of it."""
        return bool(rank()) and not self.are_sharded

    @property
    def are_sharded(self) -> bool:
        """Whether other processes hold parts of them."""
        return any(is_sharded(watched.values) for watched in self.sites)

    def is_kept(self, step: int) -> bool:
        """Whether the entries after this update are."""
        return step in self._kept

    def keep(self, step: int) -> list[Entries]:
        """The entries of now, after this update; returned before those of the updates before it, as far as kept."""
        self._kept[step] = entries_of(self.sites)
        seen = [self._kept[before] for before in takewhile(self.is_kept, (step, step - 1, step - 2))]
        self._kept = {number: entries for number, entries in self._kept.items() if step - 1 <= number <= step}
        return seen

    def follow(self, optimizers: Sequence[torch.optim.Optimizer]) -> str:
        """Take the parameters that the network has now, which are others after `load_state_dict(assign=True)`, say."""
        if not self._are_others():
            return self._retyped()
        sites, self.sites = self.sites, self._found()
        if all(one.values is other.values for one, other in zip(sites, self.sites, strict=True)):
            return ""  # wrapped, block by block say, since
        self._kept.clear()
        text = "the network has other parameters than before (load_state_dict(assign=True), say), which are watched now"
        is_lost = bool(optimizers) and not any(id(watched.values) in held_by(optimizers) for watched in self.sites)
        return text + "; the optimiser that watch was given holds the old ones" * is_lost

    def begin_again(self, step: int) -> str:
        """Before the update that follows `step`: keep what something else made of the weights meanwhile.

        Looked for in the entries themselves: what writes through `.data` leaves no other trace.
        """
        if step not in self._kept:
            return ""
        text, last = self._retyped(), self._kept.get(step)
        now = self.keep(step)[0]
        if last is None or not have_moved(list(last.alike.values()), list(now.alike.values())):
            return text
        self._kept = {step: now}
        return "weights changed between two updates (load_state_dict, say): the next is measured from there"

    def _retyped(self) -> str:
        """Drop what was kept of weights that have another type, or lie elsewhere, by now (`model.to(...)`)."""
        last = next(reversed(self._kept.values())).alike if self._kept else {}
        for site, before in ((self.sites[i], rows) for those, rows in last.items() for i in those):
            if (site.values.dtype, site.values.device) != (before.dtype, before.device):
                self._kept.clear()
                return (
                    f"weights are {site.values.dtype} on {site.values.device} now, and were {before.dtype} on"
                    f" {before.device}: the next update is measured from there"
                )
        return ""

    def see_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Before an update that is recorded: its learning rates, and the highest that is known of."""
        group_of = {id(one): group for group in optimizer.param_groups for one in group["params"]}
        for i, watched in enumerate(self.sites):
            rate = (group := group_of.get(id(watched.values), {})).get("lr")
            if isinstance(rate, float | int | Tensor):
                highest = max(float(rate), float(group.get("initial_lr", 0.0)), self._rates.get(i, (0.0, 0.0))[1])
                self._rates[i] = float(rate), highest

    def rates(self) -> dict[int, tuple[float, float]]:
        """Of each tensor of which it is known, its learning rate, and the highest that it had."""
        return dict(self._rates)

    def see_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Before a recorded update: some optimisers write into them, fused ones keep a `GradScaler`'s scale."""
        held, scale = held_by([optimizer]), getattr(optimizer, "grad_scale", None)
        for i, watched in enumerate(self.sites):
            if id(watched.values) in held and watched.values.grad is not None:
                square = watched.gradient_squares()
                self._squares[i] = square / scale.to(square.device) ** 2 if isinstance(scale, Tensor) else square

    def gradient_squares(self, is_late: bool) -> list[Tensor]:
        """Of every tensor, for its last update; what was not seen before it is there now, unless `is_late`."""
        missing = torch.tensor(-1.0)
        return [
            self._squares[i] if i in self._squares else missing if is_late else watched.gradient_squares()
            for i, watched in enumerate(self.sites)
        ]

    def drop_gradients(self) -> None:
        """After an update."""
        self._squares.clear()

    def not_finite(self) -> list[str] | None:
        """The tensors that are not finite, by their names; None where other processes hold parts of them."""
        return None if self.are_sharded else not_finite_in(self.sites)

    def sample(self) -> None:
        """Remember some entries, for `moved_by_others`."""
        self._sample = own_entries(self.sites)

    def moved_by_others(self) -> str:
        """Where no update was counted since `sample`."""
        if self._are_others() or have_moved(self._sample, own_entries(self.sites)):
            return (
                "weights change, but not by steps of the optimiser that watch was given: nothing is recorded; give it"
                " the one that steps"
            )
        return ""

    def remember(self) -> None:
        """After an update: some entries of one tensor that is trained, for `are_as_remembered`."""
        self._last = None if self.is_idle or self.are_sharded else own_entries(self._trained())

    def are_as_remembered(self) -> bool:
        """Whether they are what the last update left: no average was copied into them, say, and they are where they
        were. Not known where another process has them or parts of them."""
        try:
            are_alone = self._last is not None and not self.follow(())
        except ValueError:  # they are gone
            return False
        return are_alone and not have_moved(self._last or [], own_entries(self._trained()))

    def _trained(self) -> Sequence[Watched]:
        """The first that is."""
        return [watched for watched in self.sites if watched.values.requires_grad][:1]

    def _found(self) -> list[Watched]:
        """By their names, whatever wraps a block by now; `ValueError` where one is gone."""
        parameters = self._parameters()
        if all(one.name in parameters for one in self.sites):
            return [replace(one, values=parameters[one.name]) for one in self.sites]
        names = unwrapped(parameters)
        if gone := next((own for own in self._own_names if own not in names), None):
            raise ValueError(f"{gone!r} is no parameter of the network any more; call watch anew")
        named = [(one, names[own]) for one, own in zip(self.sites, self._own_names, strict=True)]
        return [replace(one, name=name, values=parameters[name]) for one, name in named]

    def _are_others(self) -> bool:
        parameters = self._parameters()
        return any(parameters.get(watched.name) is not watched.values for watched in self.sites)


def held_by(optimizers: Sequence[torch.optim.Optimizer]) -> set[int]:
    """Parameters, by identity."""
    return {one for optimizer in optimizers for one in parameters_in(optimizer.param_groups)}


def versions(sites: Sequence[Watched]) -> int:
    """How often operations have written into the weights; those of a fused optimiser do not count themselves."""
    return sum(version_of(site.values) for site in sites)


def version_of(tensor: Tensor | None) -> int:
    """0 of one that does not count."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version


def own_entries(sites: Sequence[Watched]) -> list[Tensor]:
    """The first entries of each tensor that lie on this process, apart from the parameter."""
    own = [site.values.detach() for site in sites]
    return [(one.to_local() if is_sharded(one) else one).flatten()[:KEPT_ENTRIES].clone() for one in own]


def have_moved(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    """Whether any entry is another, NaN being no other than NaN; waits for the device."""
    return any(
        one.shape != other.shape or not torch.allclose(wide(one), wide(other.to(one)), rtol=0, atol=0, equal_nan=True)
        for one, other in zip(before, now, strict=False)
    )
