"""What goes wrong with gate, scale and shift while a network trains, as rules over what was recorded of them.

Thresholds are what `docs/watch.md` says of them, with where they come from.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from adaln.analysis.groups import Group
from adaln.analysis.role_updates import Entries, Numbers, Watched, rms_scales, shut_branches

SETTLED = 100
"""Updates before a start is no longer the reason: by then every weight of a network that starts at zero moves."""
REMEMBERED = 32
"""Records of each role in each block that rules look back at."""


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
    shut: Sequence[str]
    """Of a gate: branches of the block that it keeps shut, its bias counted."""
    scales: Sequence[tuple[int, float]]
    """Of a scale: recorded steps, this one last, and the rms of |1 + scale| at them, its bias counted."""

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
    """A type of 16 bits or fewer takes the last update in less than half of the entries."""
    return seen.dtype.itemsize <= 2 and seen.has_gradient and seen.moved is not None and seen.moved < 0.5


def shut(seen: Seen) -> bool:
    """A gate whose every entry is still zero."""
    return seen.step >= SETTLED and bool(seen.shut)


def still(seen: Seen) -> bool:
    """Weights that a gradient does not move."""
    ratio = seen.update_ratio
    return seen.step >= SETTLED and seen.has_gradient and ratio is not None and ratio < 1e-7


def leaping(seen: Seen) -> bool:
    """An update half as large as its weights, or larger."""
    return seen.step >= SETTLED and (seen.update_ratio or 0.0) > 0.5


def growing(seen: Seen) -> bool:
    """|1 + scale| that more than doubled three times over, each time faster than the number of updates grew."""
    return doublings([one for one in seen.scales if one[0] >= SETTLED]) >= 3


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
        "what is below half a unit of the stored type is lost: keep float32 weights under autocast",
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
        lambda seen: f"|1 + scale| more than doubled three times over, to {seen.scales[-1][1]:.2g}",
        "|1 + scale| multiplies the tokens block after block: lower its learning rate, or decay its weights",
    ),
)


class History:
    """How large each scale was at recorded steps, for the rule that looks back."""

    def __init__(self) -> None:
        self.scales: dict[Group, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def seen(
        self,
        step: int,
        sites: Sequence[Watched],
        squares: Sequence[float],
        now: Entries,
        numbers: Mapping[Group, Numbers],
    ) -> list[Seen]:
        """What the rules look at: every role and bias in its block; `squares` of gradients, entries on the CPU."""
        shut, scales = shut_branches(sites, now), rms_scales(sites, now)
        for group, scale in scales.items():
            self.scales[group].append((step, scale))
        moving = {w.groups[-1] for w, of_it in zip(sites, squares, strict=True) if of_it > 0 and w.values.requires_grad}
        return [
            Seen(
                step,
                group,
                *numbers[group][:2],
                watched.values.dtype,
                group in moving,
                shut.get(group, ()),
                tuple(self.scales[group]) if group in scales else (),
            )
            for group, watched in {watched.groups[-1]: watched for watched in sites}.items()
        ]


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


def not_finite(step: int, tensors: Sequence[str], role: str = "weights") -> Alarm:
    """Of the tensors that are not finite, the first in forward order by its name."""
    first, more = tensors[0], f", and {len(tensors) - 1} more tensors" * (len(tensors) > 1)
    return Alarm(step, "not finite", role, f"{first} is not finite{more}; go back to a checkpoint before this step")
