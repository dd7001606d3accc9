"""How each role starts and when it may move: a scheme is a row of a table, never a subclass; a name, or a file.

name = "mine"
[gate]
weight = {kind = "normal", std = 8e-4}
[[scale]]                                   # a list: one start per block, in forward order
weight = {kind = "laplace", std = 1e-3}

Source: PAPER section 2 (adaLN, Step1, Zero, Mix, Gaussian), A.10 (v2), A.11 (block-wise), Tables 3, 5 and 6.
"""

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from adaln.codec import LEFT_OUT_AT_DEFAULT, decode, encode
from adaln.conditioning.distributions import Constant, Distribution, Normal, Xavier
from adaln.conditioning.family import Role
from adaln.conditioning.sites import Site
from adaln.files import reading, write_atomically
from adaln.registry import Registry

ZERO = Constant(0.0)


@dataclass(frozen=True, slots=True)
class Start:
    """How a role's rows start, and the first optimiser step that may change them."""

    weight: Distribution = ZERO
    bias: Distribution = ZERO
    opens: int | None = 0
    """0: from the first step; k: rows are held for k steps; None: held for ever."""

    def __post_init__(self) -> None:
        if self.opens is not None and self.opens < 0:
            raise ValueError(f"opens is {self.opens}; expected a step >= 0 or null (held for ever)")


Starts = Start | tuple[Start, ...]
"""One start for all blocks, or one per block in forward order."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row of the table: role x block -> start."""

    name: str
    gate: Starts = Start()
    scale: Starts = Start()
    shift: Starts = Start()
    final_scale: Start = Start()
    final_shift: Start = Start()
    head: Start = Start()
    """The last projection W_f."""
    backbone: Distribution | None = None
    """Attention and MLP matrices; None leaves them as the network was built."""
    branch_ends: Distribution | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """The last matrix of every attention and MLP, drawn after `backbone`; None leaves it."""
    order_of: str | None = None
    """Replay the measured update order of this scheme (adaLN-Mix)."""
    note: str = ""
    """One line for `adaln schemes`."""

    def __post_init__(self) -> None:
        if empty := [role for role in ("gate", "scale", "shift") if getattr(self, role) == ()]:
            raise ValueError(f"{empty[0]} has no start; expected one, or one per block")

    @property
    def closes(self) -> bool:
        """Whether every gate starts at exactly zero, so that every branch is closed and every block the identity."""
        gates = (self.gate,) if isinstance(self.gate, Start) else self.gate
        return all(gate.weight == ZERO and gate.bias == ZERO for gate in gates)

    def at(self, site: Site) -> Start:
        """The start of a site; `ValueError` where a block-wise scheme serves another number of blocks."""
        if site.branch == "final":
            return self.final_scale if site.role is Role.SCALE else self.final_shift
        starts = {Role.GATE: self.gate, Role.SCALE: self.scale, Role.SHIFT: self.shift}[site.role]
        return starts if isinstance(starts, Start) else starts[site.depth]


def gaussian(gate: float, scale: float | None = None, shift: float | None = None) -> Scheme:
    """adaLN-Gaussian with these standard deviations; a missing one takes the one before it. Tables 2, 3, 7."""
    scale = gate if scale is None else scale
    shift = scale if shift is None else shift
    name = f"adaln-gaussian:{gate:g},{scale:g},{shift:g}"
    return Scheme(name, _normal(gate), _normal(scale), _normal(shift), note="A.10, Tables 2, 3 and 7")


def _normal(std: float) -> Start:
    return Start(Normal(std)) if std else Start()


def step1_gaussian(std: float) -> Scheme:
    """adaLN-Step1 with the gate from N(0, std^2): Table 3."""
    return Scheme(f"adaln-step1-gaussian:{std:g}", gate=Start(Normal(std)), note="Table 3")


def final_shift(std: float) -> Scheme:
    """adaLN-Gaussian plus W_beta_f ~ N(0, std^2): Table 5."""
    name, note = f"adaln-final-shift:{std:g}", f"final shift normal {std:g}, Table 5"
    return replace(gaussian(1e-3), name=name, final_shift=Start(Normal(std)), note=note)


def backbone(std: float) -> Scheme:
    """adaLN-Gaussian plus attention and MLP weights ~ N(0, std^2): Table 6."""
    name, note = f"adaln-backbone:{std:g}", f"attention, MLP normal {std:g}, Table 6"
    return replace(gaussian(1e-3), name=name, backbone=Normal(std), note=note)


PARAMETRIC: Registry[Callable[..., Scheme]] = Registry(
    "parametric scheme",
    {
        "adaln-gaussian": gaussian,
        "adaln-step1-gaussian": step1_gaussian,
        "adaln-final-shift": final_shift,
        "adaln-backbone": backbone,
    },
)
"""Schemes with standard deviations as parameters, written `adaln-gaussian:8e-4,1.2e-3,8e-4`."""

# A.11, highest power of the block index first, and the mean peaks over blocks that normalise them.
PEAK_ALPHA = (
    *(-2.49635921e-6, 1.24680129e-4, 1.17149262e-3, -1.70585560e-1),
    *(3.63484494, -2.94971466e1, 6.74700382e1, 4.85897902e2),
)
PEAK_GAMMA = (-2.46024908e-4, 2.39970674e-2, -8.67912602e-1, 1.45429227e1, -1.08645122e2, 4.11540316e2)
PEAK_BETA = (-1.21059796e-4, 1.09417700e-2, -3.25623123e-1, 4.15804173, -2.00345083e1, 4.20334676e2)
MEAN_PEAK_ALPHA, PRINTED_MEAN_PEAK_GAMMA, PRINTED_MEAN_PEAK_BETA = 449.9321, 444.8248, 175.0044
PUBLISHED_BLOCKS = 28


def _blockwise(reading: str, half: bool) -> Scheme:
    """A.11: std(L) = base / (P(L) / mean P) in block L, as a high histogram peak asks for a narrow start.

    The printed normalisers of gamma and beta are exchanged against their polynomials' means (175.8 and 434.0 over 28
    blocks): `consistent` uses each polynomial's own, `as-printed` the paper's equations to the letter.
    """
    peaks = (PRINTED_MEAN_PEAK_BETA, PRINTED_MEAN_PEAK_GAMMA)
    gamma_peak, beta_peak = peaks if reading == "consistent" else peaks[::-1]
    per_block = [
        tuple(Start(Normal(base * peak / _polynomial(coefficients, block))) for block in range(PUBLISHED_BLOCKS))
        for base, coefficients, peak in (
            (8e-4, PEAK_ALPHA, MEAN_PEAK_ALPHA),
            (1.2e-3, PEAK_GAMMA, gamma_peak),
            (8e-4, PEAK_BETA, beta_peak),
        )
    ]
    name = "adaln-gaussian-blockwise" + "-half" * half + ("" if reading == "consistent" else "-as-printed")
    gate: Starts = Start(Normal(8e-4)) if half else per_block[0]
    note = f"A.11 {reading}, 28 blocks"
    return Scheme(name, gate, per_block[1], per_block[2], note=note)


def _polynomial(coefficients: Sequence[float], x: float) -> float:
    """By Horner's rule, highest power first."""
    return reduce(lambda value, coefficient: value * x + coefficient, coefficients, 0.0)


_STEP1 = Scheme("adaln-step1", gate=Start(Xavier()), note="Xavier over the fused 6D x D matrix")
_ROWS = (
    Scheme("adaln", gate=Start(ZERO, Constant(1.0), opens=None), note="no gate"),
    _STEP1,
    replace(_STEP1, name="adaln-step1-slice", gate=Start(Xavier("slice")), note="Xavier over each D x D slice"),
    Scheme("adaln-zero", note="DiT's own"),
    replace(_STEP1, name="adaln-mix", order_of="adaln-zero", note="adaLN-Zero's update order"),
    replace(step1_gaussian(1e-3), name="adaln-step1-gaussian"),
    replace(gaussian(1e-3), name="adaln-gaussian", note="the paper's proposal"),
    replace(gaussian(8e-4, 1.2e-3, 8e-4), name="adaln-gaussian-v2"),
    *(_blockwise(reading, half) for half in (False, True) for reading in ("consistent", "as-printed")),
    replace(final_shift(3e-3), name="adaln-final-shift"),
    replace(backbone(0.02), name="adaln-backbone"),
)
SCHEMES: Registry[Scheme] = Registry("scheme", {row.name: row for row in _ROWS}, accepts=Scheme)


def scheme(spec: str | Path | Scheme) -> Scheme:
    """The scheme that a name, `name:std[,std,...]` or a .json or .toml file means; one that is a scheme already is it.

    Raises `ValueError` naming the nearest known scheme, or what is wrong with the parameters or the file.

    >>> import adaln
    >>> adaln.scheme("adaln-gaussian:8e-4,1.2e-3").scale.weight
    Normal(std=0.0012, fan_power=0.0)
    >>> adaln.scheme("adaln-gausian")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    adaln.registry.UnknownName: unknown scheme 'adaln-gausian' (nearest: 'adaln-gaussian'); known: adaln, ...
    """
    if isinstance(spec, Scheme):
        return spec
    if not isinstance(spec, str | Path):
        raise ValueError(f"scheme is a {type(spec).__name__}; expected a name, name:std, a file or a Scheme")
    if isinstance(spec, Path) or spec.endswith((".json", ".toml")):
        return load_scheme(Path(spec))
    name, has_parameters, parameters = spec.partition(":")
    if not has_parameters:
        return SCHEMES[spec]
    family = PARAMETRIC[name]
    try:
        stds = [float(value) for value in parameters.split(",")]
        if not all(0 <= std < float("inf") for std in stds):
            raise ValueError
        return family(*stds)
    except (ValueError, TypeError):
        count = "1 to 3 standard deviations" if name == "adaln-gaussian" else "1 standard deviation"
        raise ValueError(f"scheme {spec!r}: {name} takes {count} >= 0, e.g. '{name}:1e-3'") from None


def load_scheme(path: Path) -> Scheme:
    """Read a scheme file; `ValueError` names the file and what is wrong with it."""
    if not path.exists():
        raise ValueError(f"scheme file {str(path)!r} does not exist")
    with reading(path, "a scheme file"):
        text = path.read_text(encoding="utf-8")
        row = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(row, dict):
            raise ValueError("expected a table of roles")
        loaded = decode(Scheme, {"name": path.stem, **row})
        if loaded.order_of is not None:
            SCHEMES[loaded.order_of]  # an unknown name is an error here, not in the middle of a run
        return loaded


def save_scheme(scheme: Scheme, path: Path) -> None:
    """Write a scheme as JSON, to be used as `--scheme FILE`."""
    write_atomically(path, json.dumps(encode(scheme), indent=2) + "\n")
