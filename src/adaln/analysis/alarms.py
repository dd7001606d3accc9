"""What goes wrong with gate, scale and shift while a network trains, as rules over what was recorded of them.

Thresholds are what `docs/watch.md` says of them, with where they come from.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from adaln.analysis.groups import Group
from adaln.analysis.role_updates import Entries, Numbers, Watched, rms_by_role, shut_branches

SETTLED = 100
"""Updates before a start is no longer the reason: by then every weight of a network that starts at zero moves."""
REMEMBERED = 32
"""Records of each role in each block that rules look back at."""
STILL = 1e-7
"""Update ratio, below float32's resolution of the weights."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a rule saw, once for a role."""

    step: int
    rule: str
    role: str
    """Gate, scale or shift, or all of them (weights), or the loss."""
    text: str
    """One line: what, where, and what others did about it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One role, or its bias, in one block (the final layer stands alone) after an update."""

    step: int
    group: Group
    update_ratio: float | None
    moved: float | None
    """As of a `RoleRecord`."""
    dtype: torch.dtype
    """Of the weights."""
    has_gradient: bool
    """Whether the last update had something to follow."""
    has_slowed: bool
    """Whether its learning rate is below a hundredth of the highest; where that is not known, whether it ever moved."""
    rests: bool
    """Whether its learning rate is 0, or below that hundredth; where it is not known, whether it is yet to move."""
    shut: Sequence[str]
    """Of a gate: branches of the block that it keeps shut, its bias counted."""
    sizes: Sequence[tuple[int, float]]
    """Recorded steps, this one last, and the rms of the role at them, of a scale |1 + scale|, its bias counted."""
    open_for: int
    """Updates since it was last seen to be zero; all of the training where it never was."""

    @property
    def type_name(self) -> str:
        """Of the weights, without its package."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True, slots=True)
class Rule:
    """When to warn, what to say of what was seen, and what others did about it."""

    name: str
    holds: Callable[[Seen], bool]
    says: Callable[[Seen], str]
    advice: str


def swallowed(seen: Seen) -> bool:
    """A type of 16 bits or fewer takes the last update, made at its full rate, in less than half of the entries."""
    is_due = seen.has_gradient and not seen.rests
    return seen.dtype.itemsize <= 2 and is_due and seen.moved is not None and seen.moved < 0.5


def shut(seen: Seen) -> bool:
    """A gate whose every entry is still zero."""
    return seen.step >= SETTLED and bool(seen.shut)


def still(seen: Seen) -> bool:
    """Weights that a gradient does not move, though no schedule has ended."""
    is_stopped = seen.update_ratio is not None and seen.update_ratio < STILL and not seen.has_slowed
    return seen.step >= SETTLED and seen.has_gradient and is_stopped


def leaping(seen: Seen) -> bool:
    """An update half as large as its weights, or larger, though they have not just begun at zero."""
    return seen.open_for >= SETTLED and (seen.update_ratio or 0.0) > 0.5


def growing(seen: Seen) -> bool:
    """|1 + scale| that more than doubled three times over, each time faster than the number of updates grew."""
    is_scale = seen.group.name.endswith("scale")
    return is_scale and doublings([one for one in seen.sizes if one[0] >= SETTLED]) >= 3


def blown_up(seen: Seen) -> bool:
    """More than ten times what it was (1 where it was less), and ten times by more than the number of updates grew."""
    step, value = seen.sizes[-1] if seen.sizes else (0, 0.0)
    before = [size for size in seen.sizes if size[0] < step]
    return step >= SETTLED and any(value > 10 * max(1.0, was) * step / max(SETTLED, at) for at, was in before)


def doublings(values: Sequence[tuple[int, float]]) -> int:
    """How often, going back from the last, a value is more than twice an earlier one, and by more than its step is."""
    number, (step, value) = 0, values[-1] if values else (0, 0.0)
    for earlier, before in reversed(values):
        if value > 2 * before and value * earlier > before * step:
            number, step, value = number + 1, earlier, before
    return number


RULES = (
    Rule(
        "swallowed",
        swallowed,
        lambda seen: f"only {seen.moved:.1%} of its entries changed in the last update, stored as {seen.type_name}",
        "what is below half a unit of the stored type is lost unless float32 masters keep it: keep float32 weights"
        " under autocast",
    ),
    Rule(
        "shut",
        shut,
        lambda seen: f"every entry is still 0 after {seen.step:,} updates ({', '.join(seen.shut)})",
        "its branch learns nothing: is it in the optimiser, and does the loss reach it?",
    ),
    Rule(
        "still",
        still,
        lambda seen: f"the last update was {seen.update_ratio:.1e} of its weights, though it has a gradient",
        "the learning rate of its group, or clipping, leaves nothing of it",
    ),
    Rule(
        "leaping",
        leaping,
        lambda seen: f"the last update was {seen.update_ratio:.0%} of its weights",
        "lower the learning rate of its group, or warm up for longer",
    ),
    Rule(
        "growing",
        growing,
        lambda seen: f"|1 + scale| more than doubled three times over, to {seen.sizes[-1][1]:.2g}",
        "|1 + scale| multiplies the tokens block after block: lower its learning rate, or decay its weights",
    ),
    Rule(
        "blown up",
        blown_up,
        lambda seen: f"its rms over channels is {seen.sizes[-1][1]:.2g}, and was {min(of for _, of in seen.sizes):.2g}",
        "go back to a checkpoint before it, with a lower learning rate or a longer warmup",
    ),
)


class History:
    """What was recorded before, for the rules that look back."""

    def __init__(self) -> None:
        self.sizes: dict[Group, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._reached: set[int] = set()
        """Tensors that ever had a gradient other than zero."""
        self._moved: set[Group] = set()
        """What an update ever moved."""
        self._zero: dict[Group, int] = {}
        """The last recorded update that found it zero."""

    def seen(
        self,
        step: int,
        sites: Sequence[Watched],
        squares: Sequence[float],
        now: Entries,
        numbers: Mapping[Group, Numbers],
        rates: Mapping[int, tuple[float, float]],
    ) -> list[Seen]:
        """What the rules look at: every role and bias in its block; `squares` of gradients, entries on the CPU."""
        self._reached.update(i for i, square in enumerate(squares) if square > 0)
        self._moved.update(group for group, (ratio, *_) in numbers.items() if (ratio or 0.0) >= STILL)
        self._zero |= {
            group: step for group, (ratio, moved, _) in numbers.items() if ratio is None and moved is not None
        }
        at_rate = {i: rate >= 0.01 * highest for i, (rate, highest) in rates.items()}
        slowed = none_of(sites, at_rate, lambda group: group not in self._moved)
        stepping = {i: fast and rates[i][0] > 0 for i, fast in at_rate.items()}
        resting = none_of(sites, stepping, lambda group: step >= SETTLED or group in self._moved)
        shut, sizes = shut_branches(sites, now, self._reached), rms_by_role(sites, now)
        for group, size in sizes.items():
            self.sizes[group].append((step, size))
        moving = {w.groups[-1] for w, of_it in zip(sites, squares, strict=True) if of_it > 0 and w.values.requires_grad}
        return [
            Seen(
                step,
                group,
                *numbers[group][:2],
                watched.values.dtype,
                group in moving,
                group in slowed,
                group in resting,
                shut.get(group, ()),
                tuple(self.sizes[group]) if group in sizes else (),
                step - self._zero.get(group, 0),
            )
            for group, watched in {watched.groups[-1]: watched for watched in sites}.items()
        ]


def none_of(sites: Sequence[Watched], known: Mapping[int, bool], otherwise: Callable[[Group], bool]) -> set[Group]:
    """Groups of which no tensor is; `otherwise` answers for those that are not known."""
    groups = [watched.groups[-1] for watched in sites]
    return set(groups) - {group for i, group in enumerate(groups) if known.get(i, otherwise(group))}


def alarms(step: int, seen: Sequence[Seen]) -> list[Alarm]:
    """What the rules see at this step, one line for a role whatever the number of its blocks."""
    found = []
    for rule in RULES:
        by_role: dict[str, list[Seen]] = {}
        for one in seen:
            if rule.holds(one):
                by_role.setdefault(one.group.name, []).append(one)
        for role, those in by_role.items():
            if role.endswith(" bias") and role.removesuffix(" bias") in by_role:
                continue  # said of its role
            blocks = [one.group.block for one in those if one.group.block]
            where = f" of {blocks[0]}" + f" and {len(blocks) - 1} more blocks" * (len(blocks) > 1) if blocks else ""
            found.append(Alarm(step, rule.name, role, f"{role}{where}: {rule.says(those[-1])}; {rule.advice}"))
    return found


def not_finite(step: int, tensors: Sequence[str], earlier: Sequence[str] = ()) -> Alarm:
    """Weights, in forward order, and those that were not `earlier`, where that tells who was first."""
    name, others = (earlier or tensors)[0], len({*tensors, *earlier}) - 1
    what = f"{name} is not finite"
    if others and len(earlier) == 1:
        what = f"{name} was not finite before the {others} other tensor{'s' * (others > 1)} that no longer are"
    elif others:
        what = f"{others + 1} tensors are not finite, the first in forward order is {name}"
    return Alarm(step, "not finite", "weights", f"{what}; go back to a checkpoint before this step")


def loss_not_finite(step: int, tensors: Sequence[str] | None) -> Alarm:
    """With the weights of gate, scale and shift that are not either; None where nobody looked."""
    what = "the loss is not finite"
    if tensors:
        what += f", nor is {tensors[0]}" + f", and {len(tensors) - 1} more tensors" * (len(tensors) > 1)
    elif tensors is not None:
        what += ", though all of gate, scale and shift is"
    return Alarm(step, "not finite", "loss", f"{what}; go back to a checkpoint before this step")


def risen(step: int, loss: float) -> Alarm:
    """Of a loss that has gone back up for good."""
    text = f"the loss is {loss:.3g}, half of the last 32 above three times the largest where they were lowest"
    return Alarm(step, "risen", "loss", f"{text}; go back to a checkpoint before it, with a lower learning rate")
