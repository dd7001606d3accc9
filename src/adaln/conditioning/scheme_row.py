"""One row of the table of schemes: how each role starts, and when it may move."""

from dataclasses import dataclass, field
from typing import Literal

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.conditioning.distributions import Constant, Default, Distribution, Normal
from adaln.conditioning.family import Role
from adaln.conditioning.sites import Site

ZERO = Constant(0.0)


@dataclass(frozen=True, slots=True)
class Start:
    """How a role's rows start, and the first optimiser step that may change them.

    >>> import adaln
    >>> adaln.Start(adaln.Normal(1e-3), opens=100).opens
    100
    """

    weight: Distribution = ZERO
    bias: Distribution = ZERO
    opens: int | None = 0
    """0: from the first step; k: rows are held for k steps; None: held for ever."""

    def __post_init__(self) -> None:
        if self.opens is not None and self.opens < 0:
            raise ValueError(f"opens is {self.opens}; expected a step >= 0 or null (held for ever)")


Mechanism = Literal["", "tables", "sigmoid gates", "static gates"]
"""tables: blocks share a matrix and add a table each; sigmoid gates: of the rows' value; static gates: learned ones
that no condition moves."""
Starts = Start | tuple[Start, ...]
"""One start for all blocks, or one per block in forward order."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row of the table: role x block -> start.

    >>> import adaln
    >>> mine = adaln.Scheme("mine", gate=adaln.Start(adaln.Laplace(8e-4)), note="heavier tails in the gate alone")
    >>> mine.gate.weight, mine.shift.weight
    (Laplace(std=0.0008), Constant(value=0.0))
    """

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
    embedders: Distribution | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """The matrices that embed patches and times; None leaves them."""
    static_gates: Distribution | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Learned gates that no condition moves; None leaves them."""
    needs: Mechanism = field(default="", metadata=LEFT_OUT_AT_DEFAULT)
    """What the scheme is a start of: a network without it is refused. "": any modulation."""
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
        return all(gate.weight == ZERO and gate.bias == ZERO for gate in gates) and self.static_gates in (None, ZERO)

    def at(self, site: Site) -> Start:
        """The start of a site; `ValueError` where a block-wise scheme serves another number of blocks."""
        if site.branch == "final":
            return self.final_scale if site.role is Role.SCALE else self.final_shift
        starts = {Role.GATE: self.gate, Role.SCALE: self.scale, Role.SHIFT: self.shift}[site.role]
        return starts if isinstance(starts, Start) else starts[site.depth]


def in_words(starts: Starts) -> str:
    """As the table of schemes has it: value or spread of the weights, of several starts the first."""
    if isinstance(starts, tuple):
        return f"{in_words(starts[0])}..."
    match starts:
        case Start(Constant(0.0), Constant(value), opens):
            return f"{value:g}{', held' * (opens is None)}"
        case Start(Normal(factor, power)) if power:
            return f"normal {factor:g} fan_in^{power:g}"
        case Start(Default(factor)):
            return "torch" if factor == 1 else f"torch x {factor:g}"
    kind, std = type(starts.weight).__name__, getattr(starts.weight, "std", None)
    return f"{kind.lower()} {std:.1e}" if std is not None else kind
