"""How the values of one role are drawn at the start: frozen rows of data, each able to fill a tensor.

Draws are made in float32 on the CPU and copied, so a start is the same number on every device and in every dtype.
Every spread is a standard deviation, whatever the family: `Uniform(1e-3)` has std 1e-3, not bound 1e-3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, fsum, isfinite, pi, prod, sqrt
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from adaln.codec import name_kinds

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Distribution(Protocol):
    """A rule that fills rows of a tensor in place."""

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        """Fill `rows`, a slice of a tensor of shape `whole`, of a bias that of the matrix beside it, from `rng`."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Every element equals `value`; draws nothing.

    >>> import adaln
    >>> adaln.Start(adaln.Constant(1.0)).weight
    Constant(value=1.0)
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        _require_finite(self, self.value)

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        rows.fill_(self.value)


@dataclass(frozen=True, slots=True)
class _Spread:
    """What all families of one standard deviation have."""

    std: float

    def __post_init__(self) -> None:
        _require_finite(self, self.std)
        if self.std < 0:
            raise ValueError(f"std is {self.std}; expected a number >= 0")


@dataclass(frozen=True, slots=True)
class Normal(_Spread):
    """N(0, s^2) with s = std * fan_in^fan_power.

    `Normal(1, -0.5)` is PixArt's start of its per-block tables, N(0, 1/D).

    >>> import torch
    >>> rows = torch.empty(512, 512)
    >>> Normal(1, -0.5).fill_(rows, torch.Generator().manual_seed(0), rows.shape)
    >>> round(rows.std().item(), 3), round(512**-0.5, 3)
    (0.044, 0.044)
    """

    fan_power: float = 0.0

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        rows.copy_(torch.randn(rows.shape, generator=rng) * (self.std * fan_in(whole) ** self.fan_power))


@dataclass(frozen=True, slots=True)
class TruncatedNormal(_Spread):
    """A normal cut at two of its own standard deviations, scaled back to std `std`.

    >>> import torch
    >>> rows = torch.empty(512, 512)
    >>> TruncatedNormal(1e-3).fill_(rows, torch.Generator().manual_seed(0), rows.shape)
    >>> round(rows.std().item(), 4)
    0.001
    """

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        cut = torch.nn.init.trunc_normal_(torch.empty(rows.shape), a=-2.0, b=2.0, generator=rng)
        rows.copy_(cut * (self.std / 0.8796256610342398))  # std of N(0, 1) given |x| < 2


@dataclass(frozen=True, slots=True)
class Uniform(_Spread):
    """U(-b, b) with b = std * sqrt(3).

    >>> import torch
    >>> rows = torch.empty(512, 512)
    >>> Uniform(1e-3).fill_(rows, torch.Generator().manual_seed(0), rows.shape)
    >>> round(rows.std().item(), 4)
    0.001
    """

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        rows.copy_((2 * torch.rand(rows.shape, generator=rng) - 1) * (self.std * sqrt(3)))


@dataclass(frozen=True, slots=True)
class Laplace(_Spread):
    """Laplace(0, b) with b = std / sqrt(2): the heavier tails of trained conditioning weights.

    >>> import torch
    >>> rows = torch.empty(512, 512)
    >>> Laplace(1e-3).fill_(rows, torch.Generator().manual_seed(0), rows.shape)
    >>> round(rows.std().item(), 4)
    0.001
    """

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        magnitude = torch.empty(rows.shape).exponential_(generator=rng)
        rows.copy_(_random_sign(rows, rng) * magnitude * (self.std / sqrt(2)))


@dataclass(frozen=True, slots=True)
class Sign(_Spread):
    """+std or -std with equal chance: the normal's spread without its shape.

    >>> import torch
    >>> rows = torch.empty(512, 512)
    >>> Sign(1e-3).fill_(rows, torch.Generator().manual_seed(0), rows.shape)
    >>> round(rows.std().item(), 4)
    0.001
    """

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        rows.copy_(_random_sign(rows, rng) * self.std)


@dataclass(frozen=True, slots=True)
class Xavier:
    """Xavier uniform, U(-b, b) with b = sqrt(6 / (fan_out + fan_in)).

    `over="matrix"` takes fan_out from the whole fused matrix, as DiT's constructor does (b = sqrt(6/(7D)) for six
    roles); `over="slice"` from the role's own rows (b = sqrt(6/(2D)), 1.87 times wider). The paper does not say which.

    >>> import torch
    >>> shift = torch.empty(6 * 64, 64)[:64]  # a sixth of the fused matrix
    >>> Xavier().fill_(shift, torch.Generator().manual_seed(0), (6 * 64, 64))
    >>> round(shift.abs().max().item(), 3), round((6 / (7 * 64)) ** 0.5, 3)
    (0.116, 0.116)
    """

    over: Literal["matrix", "slice"] = "matrix"

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        fan_out = whole[0] if self.over == "matrix" else rows.shape[0]
        bound = sqrt(6 / (fan_out + fan_in(whole)))
        rows.copy_((2 * torch.rand(rows.shape, generator=rng) - 1) * bound)


@dataclass(frozen=True, slots=True)
class Default:
    """`factor` times what torch draws for nn.Linear and convolutions: U(-b, b) with b = 1 / sqrt(fan_in)."""

    factor: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, self.factor)

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        rows.copy_((2 * torch.rand(rows.shape, generator=rng) - 1) * (self.factor / sqrt(fan_in(whole))))


@dataclass(frozen=True, slots=True)
class PerBranch:
    """A distribution made narrower by the square root of how many branches the network adds up."""

    one: Distribution
    num_branches: int = 1
    """Of the network that is started."""

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        self.one.fill_(rows, rng, whole)
        rows.div_(sqrt(self.num_branches))


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The distribution with the quantiles `values` at `quantile_levels(len(values))`, uniform between two of them.

    Any shape that was measured, e.g. that of trained weights.

    >>> round(Quantiles((-2e-3, 0.0, 2e-3)).std, 6)  # uniform on either side of 0
    0.001155
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_finite(self, *self.values)
        if len(self.values) < 2 or list(self.values) != sorted(self.values):
            raise ValueError(f"quantiles are {list(self.values)[:4]}…; expected two or more that do not fall")

    @property
    def std(self) -> float:
        """Standard deviation of what is drawn."""
        levels = quantile_levels(len(self.values))
        bins = [(q - p, a, b) for (p, q), (a, b) in zip(pairwise(levels), pairwise(self.values), strict=True)]
        mean = fsum(share * (a + b) / 2 for share, a, b in bins)
        return sqrt(max(fsum(share * (a * a + a * b + b * b) / 3 for share, a, b in bins) - mean * mean, 0.0))

    def fill_(self, rows: "torch.Tensor", rng: "torch.Generator", whole: Sequence[int]) -> None:
        import torch

        levels = torch.tensor(quantile_levels(len(self.values)), dtype=torch.float64)
        values = torch.tensor(self.values, dtype=torch.float64)
        u = torch.rand(rows.shape, generator=rng).double()
        after = torch.searchsorted(levels, u, right=True).clamp(max=len(values) - 1)
        part = (u - levels[after - 1]) / (levels[after] - levels[after - 1])
        rows.copy_(torch.lerp(values[after - 1], values[after], part))


def fan_in(whole: Sequence[int]) -> int:
    """Inputs of one output of a linear map or convolution whose weight has this shape."""
    return prod(whole[1:]) if len(whole) > 3 else whole[-1]


def quantile_levels(count: int) -> list[float]:
    """(1 - cos(pi i / (count - 1))) / 2 for i = 0..count-1: from 0 to 1, dense at both ends, where tails are long."""
    return [(1 - cos(pi * i / (count - 1))) / 2 for i in range(count)]


DISTRIBUTIONS: Mapping[str, type] = {
    "constant": Constant,
    "normal": Normal,
    "truncated": TruncatedNormal,
    "uniform": Uniform,
    "laplace": Laplace,
    "sign": Sign,
    "quantiles": Quantiles,
    "xavier": Xavier,
    "torch": Default,
    "per-branch": PerBranch,
}
name_kinds(DISTRIBUTIONS, of=Distribution)


def std_of(distribution: Distribution, num_rows: int, whole: Sequence[int]) -> float:
    """Standard deviation of what `distribution` fills `num_rows` rows of a tensor of shape `whole` with.

    >>> round(std_of(Xavier(), 64, (384, 64)), 4), std_of(Normal(1e-3), 64, (384, 64))
    (0.0668, 0.001)
    """
    match distribution:
        case Constant():
            return 0.0
        case Normal(std, fan_power):
            return float(std * fan_in(whole) ** fan_power)
        case Xavier(over):
            return sqrt(2 / ((whole[0] if over == "matrix" else num_rows) + fan_in(whole)))
        case Default(factor):
            return factor / sqrt(3 * fan_in(whole))
        case PerBranch(one, num_branches):
            return std_of(one, num_rows, whole) / sqrt(num_branches)
        case _Spread() | Quantiles():
            return distribution.std
    raise TypeError(f"{type(distribution).__name__} has no known standard deviation")


def _require_finite(distribution: object, *values: float) -> None:
    if not all(isfinite(value) for value in values):
        raise ValueError(f"{distribution} has a number that is not finite")


def _random_sign(like: "torch.Tensor", rng: "torch.Generator") -> "torch.Tensor":
    import torch

    return torch.randint(0, 2, like.shape, generator=rng) * 2.0 - 1.0
