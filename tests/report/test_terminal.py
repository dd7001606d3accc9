"""Tables on terminals of every width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from adaln.report import Column, Measurement, Table, show
from adaln.report.tables import marked_text, pairs
from helpers.report_samples import TABLE

WORDS = st.text("abcé[]-0123456789./", min_size=1, max_size=14)
PROSE = st.lists(WORDS, max_size=12).map(" ".join)
NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6), st.just(Measurement(17.861, -10.5, 1822.2)))


COLUMN = st.tuples(PROSE, PROSE, st.one_of(st.just(PROSE), st.just(NUMBERS)))
PARTS = st.lists(COLUMN, min_size=1, max_size=9).flatmap(
    lambda columns: st.tuples(
        st.just([(name or "a", unit) for name, unit, _ in columns]),
        st.lists(st.tuples(*(st.none() | cells for _, _, cells in columns)), max_size=6),
        PROSE,
        PROSE,
    )
)


def table_of(parts):
    columns, rows, title, note = parts
    rows = [[f"row{i}", *cells[1:]] for i, cells in enumerate(rows)]
    return Table(title, [Column(name, unit, ".2f") for name, unit in columns], rows, [note])


def on_terminal(blocks, width):
    console = Console(width=width, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        show(blocks, console, width)
    return capture.get()


@given(PARTS, st.integers(20, 220))
def test_at_every_width_no_word_is_broken_and_no_cell_is_lost(parts, width):
    table = table_of(parts)
    text = on_terminal([table], width)
    words, lines = text.replace(";", " ").split(), [" ".join(line.split()) for line in text.splitlines()]
    for row in table.rows:
        for cell, column in pairs(table, row):
            shown = marked_text(cell, column)
            if isinstance(cell, str):
                assert all(word in words or f"{word}:" in words for word in shown.split()), (shown, text)
            elif cell is not None:
                assert any(shown in line for line in lines), (shown, text)
    for note in (table.title, *table.notes):
        assert all(word in words for word in note.split())


@given(PARTS, st.integers(60, 220))
def test_lines_are_no_longer_than_the_terminal_but_for_a_word_or_number_that_is(parts, width):
    table = table_of(parts)
    longest = max([len(word) for word in on_terminal([table], 10_000).split()] + [len("1 [-10.50, 1822.20] !")])
    assert all(len(line.rstrip()) <= max(width, longest + 5) for line in on_terminal([table], width).splitlines())


@pytest.mark.parametrize(("width", "is_beside"), [(200, True), (120, True), (80, True), (30, False), (10, False)])
def test_columns_stand_beside_each_other_where_they_fit_and_below_each_other_where_not(width, is_beside):
    text = on_terminal([TABLE], width)
    assert ("─" in text, "broken\n" in text) == (is_beside, not is_beside)


LISTED = Table(
    "Runs",
    [
        Column("run"),
        Column("state", spare=1),
        Column("of", format=",d", spare=3),
        Column("age", align="right", spare=2),
    ],
    [["digits-0123456789", "finished", 2000, "1 h"], ["digits-9876543210", "in training", 500, "12 min"]],
)


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (80, ["run", "state", "of", "age"], ""),
        (39, ["run", "state", "age"], "of"),
        (31, ["run", "state"], "of, age"),
        (19, ["run"], "state, of, age"),
    ],
)
def test_spare_columns_go_one_after_the_other_where_a_terminal_is_narrow(width, shown, left_out):
    text = on_terminal([LISTED], width)
    assert text.splitlines()[2].split() == shown and "─" in text
    words = " ".join(text.split())
    assert f"Too narrow for: {left_out}." in words if left_out else "Too narrow" not in words


@pytest.mark.parametrize("width", range(12, 80, 3))
def test_an_amount_with_its_unit_stays_whole(width):
    text = on_terminal([LISTED], width)
    assert "12 min" in text or "age" not in text or "Too narrow for" in text


def test_a_paragraph_is_folded_between_words_and_a_command_stays_a_line():
    prose, command = "one two three four five six seven", "go on with: adaln train digits --seed 1 --steps 100"
    assert on_terminal([prose, command], 20).splitlines() == ["one two three four", "five six seven", command]
