"""What goes wrong with gate, scale and shift while a network trains, as rules over what was recorded of them.

Thresholds are what `docs/watch.md` says of them, with where they come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from adaln.analysis.recorder import RoleRecord

SETTLED = 100
"""Updates before a start is no longer the reason: by then every weight of a network that starts at zero moves."""


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
    """One role in one block (or over all) as it was recorded, the newest last, and the type that its weights have."""

    history: Sequence[RoleRecord]
    dtype: torch.dtype

    @property
    def now(self) -> RoleRecord:
        return self.history[-1]

    @property
    def has_gradient(self) -> bool:
        """Whether the last update had something to follow."""
        return bool(self.now.gradient_norm)

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
    moved = seen.now.moved
    return seen.dtype.itemsize <= 2 and seen.has_gradient and moved is not None and moved < 0.5


def shut(seen: Seen) -> bool:
    """A gate whose every entry is still zero."""
    now = seen.now
    return now.group.name == "gate" and now.step >= SETTLED and now.moments.zeros == now.moments.elements > 0


def still(seen: Seen) -> bool:
    """Weights that a gradient does not move."""
    ratio = seen.now.update_ratio
    return seen.now.step >= SETTLED and seen.has_gradient and ratio is not None and ratio < 1e-7


def leaping(seen: Seen) -> bool:
    """An update half as large as its weights, or larger."""
    return seen.now.step >= SETTLED and (seen.now.update_ratio or 0.0) > 0.5


def growing(seen: Seen) -> bool:
    """Scales whose std more than doubled three times in a row, at steps that lie no farther apart than twofold."""
    last = [record for record in seen.history if record.step >= SETTLED][-4:]
    stds = [record.moments.std or 0.0 for record in last]
    near = all(later.step <= 2 * one.step for one, later in pairwise(last))
    grew = len(last) == 4 and near and all(later > 2 * one > 0 for one, later in pairwise(stds))
    return seen.now.group.name.endswith("scale") and grew


RULES = (
    Rule(
        "swallowed",
        swallowed,
        lambda seen: f"only {seen.now.moved:.1%} of its entries changed in the last update, stored as {seen.type_name}",
        "what is below half a unit of the stored type is lost: keep float32 weights under autocast",
    ),
    Rule(
        "shut",
        shut,
        lambda seen: f"every entry is still 0 after {seen.now.step:,} updates",
        "its branch learns nothing: is it in the optimiser, and does the loss reach it?",
    ),
    Rule(
        "still",
        still,
        lambda seen: f"the last update was {seen.now.update_ratio:.1e} of its weights, though it has a gradient",
        "the learning rate of its group, or clipping, leaves nothing of it",
    ),
    Rule(
        "leaping",
        leaping,
        lambda seen: f"the last update was {seen.now.update_ratio:.0%} of its weights",
        "lower the learning rate of its group, or warm up for longer",
    ),
    Rule(
        "growing",
        growing,
        lambda seen: f"its std more than doubled three times in a row, to {seen.now.moments.std:.2g}",
        "|1 + scale| multiplies the tokens block after block: lower its learning rate, or decay its weights",
    ),
)


def alarms(step: int, seen: Sequence[Seen]) -> list[Alarm]:
    """What the rules see at this step, one line for a role whatever the number of its blocks."""
    found = []
    for rule in RULES:
        by_role: dict[str, list[Seen]] = {}
        for one in seen:
            if rule.holds(one):
                by_role.setdefault(one.now.group.name, []).append(one)
        for role, those in by_role.items():
            blocks = [one.now.group.block for one in those if one.now.group.block]
            where = f" of {blocks[0]}" + f" and {len(blocks) - 1} more blocks" * (len(blocks) > 1) if blocks else ""
            found.append(Alarm(step, rule.name, role, f"{role}{where}: {rule.says(those[-1])}; {rule.advice}"))
    return found


def not_finite(step: int, tensors: Sequence[str], role: str = "weights") -> Alarm:
    """Of the tensors that are not finite, the first in forward order by its name."""
    first, more = tensors[0], f", and {len(tensors) - 1} more tensors" * (len(tensors) > 1)
    return Alarm(step, "not finite", role, f"{first} is not finite{more}; go back to a checkpoint before this step")
