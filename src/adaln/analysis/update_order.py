"""Which weights move at which iteration: Table 1 as data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpdateOrder:
    """`moves[i][k]`: whether `names[k]` has a non-zero gradient at iteration i + 1."""

    names: tuple[str, ...]
    moves: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        for row in self.moves:
            if len(row) != len(self.names):
                raise ValueError(f"a row of {len(row)} marks for {len(self.names)} names")

    @property
    def first(self) -> dict[str, int | None]:
        """The iteration (from 1) at which each weight first moves; None where it does not move in the whole table."""
        columns = zip(*self.moves, strict=True) if self.moves else [()] * len(self.names)
        return {
            name: column.index(True) + 1 if True in column else None
            for name, column in zip(self.names, columns, strict=True)
        }

    def differing(self, other: "UpdateOrder") -> tuple[str, ...]:
        """Names, present in both, that do not move at the same iterations."""
        mine, theirs = (dict(zip(o.names, zip(*o.moves, strict=True), strict=True)) for o in (self, other))
        return tuple(name for name in self.names if name in theirs and mine[name] != theirs[name])

    def __str__(self) -> str:
        """Aligned plain text, as printed in the paper."""
        rows = [("iteration", *self.names)]
        rows += [(str(i), *("yes" if moved else "-" for moved in row)) for i, row in enumerate(self.moves, start=1)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
