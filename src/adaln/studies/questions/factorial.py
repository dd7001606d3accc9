"""Gate x zero start x update order: what each of adaLN-Zero's three parts does alone, and what only together.

gate         a conditional gate alpha = s(c) W_alpha; without it the gate is the constant 1
zero start   every block starts as the identity: the gate at zero, or without one the last matrix of the branch
order        adaLN-Zero's measured update order; without it every weight moves from the second iteration

Three cells of the eight need a choice. A gate that is exactly zero has adaLN-Zero's order by nature; without the order
it starts from N(0, 1e-4^2), so that no gradient is zero. A branch without gate cannot be shut by its gate; its last
matrix starts from N(0, 1e-5^2), with the order and without, so that the two differ in the order alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from adaln.conditioning import SCHEMES, Normal, Scheme, Start
from adaln.report import Axis, Block, Cell, Column, Group, Intervals, Matrix, Measurement, Section, Table
from adaln.statistics import Effect, factorial_effects
from adaln.studies.compare import REFERENCE, comparison_result
from adaln.studies.rows import Responses, compare, plain, room
from adaln.studies.study import Outcome, Result, Setting, Study

FACTORS = ("gate", "zero start", "order")
GATE_STD, BRANCH_END_STD = 1e-4, 1e-5
"""Nearly zero: a branch adds less than 1e-4 of the stream, yet no gradient is exactly 0."""
TITLE = "The full factorial: gate x zero start x update order"
Setup = tuple[bool, bool, bool]
"""Whether there is a gate, a zero start, the order."""

_ADALN = SCHEMES["adaln"]
_SHUT = replace(
    _ADALN, name="adaln-shut", branch_ends=Normal(BRANCH_END_STD), note="no gate, branches start nearly shut"
)
CELLS: Mapping[Setup, Scheme] = {
    (False, False, False): _ADALN,
    (False, False, True): replace(_ADALN, name="adaln-ordered", order_of="adaln-zero", note="no gate, Zero's order"),
    (False, True, False): _SHUT,
    (False, True, True): replace(_SHUT, name="adaln-shut-ordered", order_of="adaln-zero", note="no gate, Zero's order"),
    (True, False, False): SCHEMES["adaln-step1"],
    (True, False, True): SCHEMES["adaln-mix"],
    (True, True, False): Scheme(
        "adaln-zero-unordered", gate=Start(Normal(GATE_STD)), note="gate nearly zero, no order"
    ),
    (True, True, True): SCHEMES["adaln-zero"],
}


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """The eight cells against adaLN-Zero, led by main effects and interactions."""
    comparison = compare(outcomes, REFERENCE)
    responses = comparison.responses
    effects = factorial_effects({setup: responses.fid[cell.name] for setup, cell in CELLS.items()}, FACTORS)
    data = {
        "effects": [
            {"effect": e.name, "size": plain(e.size), "p_value": e.p_value, "distinguishable": e.distinguishable}
            for e in effects
        ]
    }
    section = Section("Main effects and interactions", _blocks(effects, responses))
    return comparison_result(TITLE, comparison).led_by(verdict(effects, responses.score), [section], data)


def verdict(effects: Sequence[Effect], score: str) -> list[str]:
    """The effects that are told from zero, and those that are not."""
    clear, unclear = ([e for e in effects if e.distinguishable is seen] for seen in (True, False))
    lines = [f"{e.name}: {e.size.value:+.2f} points of {score}, {_means(e)}." for e in clear]
    if unclear:
        most, names = room(e.size for e in unclear), ", ".join(e.name for e in unclear)
        lines.append(f"Not told from zero, each at most {most:.2f} points of {score} by its interval: {names}.")
    return lines


def _means(effect: Effect) -> str:
    if len(effect.factors) == 1:
        return f"averaged over the others it {'helps' if effect.size.value < 0 else 'hurts'}"
    return "so none of them can be read off the others' main effects alone"


def _blocks(effects: Sequence[Effect], responses: Responses) -> list[Block]:
    score, seeds = responses.score, responses.num_seeds
    columns = [Column("effect"), Column("size", f"points of {score}", "+.2f"), Column("p", "Bonferroni", ".2g")]
    rows: list[list[Cell]] = [[e.name, Measurement.of(e.size), e.p_value] for e in effects]
    notes = [
        f"Over {seeds} seeds, paired. A main effect is the mean {score} of the four cells with the factor minus that of"
        " the four without; below 0 the factor helps. Intervals hold for all seven together (Bonferroni)."
    ]
    caption = f"Contrasts of the mean {score} over eight cells, n = {seeds} seeds, intervals for all seven together."
    sizes = [Measurement.of(e.size) for e in effects]
    axis = Axis("effect", f"points of {score}")
    picture = Intervals("Effects", caption, axis, [e.name for e in effects], [Group(score, sizes)])
    return [Table("Effects", columns, rows, notes), picture, _cells(responses), _mapping()]


def _cells(responses: Responses) -> Matrix:
    rows = [(gate, shut) for gate in (False, True) for shut in (False, True)]
    names = [f"{'gate' if gate else 'no gate'}, {'zero start' if shut else 'open start'}" for gate, shut in rows]
    cells = [[CELLS[gate, shut, ordered].name for ordered in (False, True)] for gate, shut in rows]
    means = [[fmean(responses.fid[name]) for name in line] for line in cells]
    texts = [[f"{name.removeprefix('adaln-')}\n{fmean(responses.fid[name]):.1f}" for name in line] for line in cells]
    caption = f"Mean {responses.score} over n = {responses.num_seeds} seeds; faint is better."
    return Matrix("The eight cells", caption, names, ["no order", "order"], means, texts)


def _mapping() -> Table:
    """What every cell is."""
    words = [
        ["constant 1", "W_α"],
        ["open: gate 1 or Xavier", "shut: gate, or the branch's last matrix, at (nearly) zero"],
        ["all from iteration 2", "adaLN-Zero's"],
    ]
    rows: list[list[Cell]] = [
        [cell.name, *(words[i][on] for i, on in enumerate(setup)), cell.note] for setup, cell in CELLS.items()
    ]
    notes = [
        f"Scale and shift start at zero in all cells. Nearly zero: std {GATE_STD:g} (gate) or"
        f" {BRANCH_END_STD:g} (branch's last matrix); a gate of exactly 0 has"
        " the order by nature, since its branch gets no gradient until the gate has moved. How far a weight moves in"
        " its first step depends on the size of its gradient against Adam's ε: the order says whether, not how far."
    ]
    return Table("What the cells are", [Column("scheme"), *map(Column, FACTORS), Column("note")], rows, notes)


FACTORIAL = Study("factorial", TITLE, tuple(Setting(cell.name, cell) for cell in CELLS.values()), reduce)
