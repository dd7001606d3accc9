"""The role of every weight that is trained, by which an optimiser may treat it: rows of modulation, and the rest."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from adaln.registry import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from adaln.conditioning.held_rows import OrderPart
    from adaln.conditioning.layout import Layout

ROLES: Mapping[str, str] = {
    "gate": "rows of the blocks' gates, weight and bias, and static gates",
    "scale": "of their scales",
    "shift": "of their shifts",
    "final_scale": "of the last layer's scale",
    "final_shift": "of its shift",
    "head": "the last projection",
    "backbone": "all else in the blocks: attention and MLP",
    "embedding": "all else: embedders of patches, times and labels",
}
"""Every weight has one of them."""
_EXPECTED: Mapping[str, tuple[str, int, Callable[[float], bool]]] = {
    "lr": ("a number > 0", 1, lambda number: 0 < number < inf),
    "betas": ("two numbers, 0 <= beta < 1", 2, lambda number: 0 <= number < 1),
    "weight_decay": ("a number >= 0", 1, lambda number: 0 <= number < inf),
}


def by_role(setting: str, words: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """What words like `gate=3e-4` say of a setting (lr, betas, weight_decay) by role, in the order of `ROLES`.

    `ValueError` in one line for what is no role, is named twice, or is no such number.

    >>> by_role("betas", ["head=0.9,0.99", "gate=0.8,0.95"])
    {'gate': (0.8, 0.95), 'head': (0.9, 0.99)}
    """
    expected, count, fits = _EXPECTED[setting]
    by_name = dict(word.partition("=")[::2] for word in words)
    roles = ordered_roles(f"optim.{setting}_of", [word.partition("=")[0] for word in words])
    numbers: dict[str, tuple[float, ...]] = {}
    for role in roles:
        try:
            numbers[role] = tuple(map(float, by_name[role].split(",")))
        except ValueError:
            numbers[role] = ()
        if len(numbers[role]) != count or not all(map(fits, numbers[role])):
            example = ",".join(["NUMBER"] * count)
            raise ValueError(f"optim.{setting}_of {role} is {by_name[role]!r}; expected {role}={example}, {expected}")
    return numbers


def ordered_roles(field: str, names: Sequence[str]) -> tuple[str, ...]:
    """Roles in the order of `ROLES`; `ValueError` in one line for what is none, or named twice."""
    for name in names:
        if name not in ROLES:
            raise ValueError(f"{field} names {name!r}{nearest(name, ROLES)}; expected roles: {', '.join(ROLES)}")
        if names.count(name) > 1:
            raise ValueError(f"{field} names {name} twice; expected each role once")
    return tuple(role for role in ROLES if role in names)


def roles_of(tensors: Mapping[str, "Tensor"], layout: "Layout", named: Collection[str] = ()) -> dict["OrderPart", str]:
    """Of every row of every tensor; together the parts cover each exactly once.

    `ValueError` where no weight has one of the roles that are `named`.
    """
    from adaln.conditioning.update_order import order_parts

    rows = {
        (name, site.rows.start): f"{'final_' * (site.branch == 'final')}{site.role.name.lower()}"
        for site in layout.sites
        for name in site.tensors()
    }
    whole = dict.fromkeys(layout.head, "head") | dict.fromkeys(layout.static_gates, "gate")
    own = {original: name for name, original in layout.names.items()}
    blocks = tuple(f"{block}." for block in layout.blocks)

    def role_of(part: "OrderPart") -> str:
        rest = "backbone" if own[part.tensor].startswith(blocks) else "embedding"
        return whole.get(part.tensor) or rows.get((part.tensor, part.start), rest)

    roles = {part: role_of(part) for part in order_parts(tensors, layout.sites)}
    if absent := {*named} - {*roles.values()}:
        known = ", ".join(role for role in ROLES if role in roles.values())
        raise ValueError(f"optim names {min(absent)}, which no weight of this network is; expected roles: {known}")
    return roles
