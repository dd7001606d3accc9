import csv
import json

import pytest
from rich.console import Console

from adaln.codec import json_text
from adaln.report import Column, Marked, Measurement, Table, TerminalTable, csv_text, markdown, write_table
from helpers.report_samples import TABLE


def on_terminal(table, width=120):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(TerminalTable(table))
    return capture.get()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"table 'T': row 1 has 1 cells; expected 2"):
        Table("T", [Column("a"), Column("b")], [[1, 2], [1]])


def test_a_reversed_interval_is_refused():
    with pytest.raises(ValueError, match=r"\[3, 1\] is reversed"):
        Measurement(2, 3, 1)


@pytest.mark.parametrize("render", [on_terminal, markdown])
def test_text_forms_show_values_intervals_gaps_and_marks(render):
    text = render(TABLE).replace("\\", "")
    for shown in ("17.86 [17.50, 18.20]", "–", "NaN !", "∞", "-10.8", "FID (lower is better)", "95 % bootstrap"):
        assert shown in text


def test_numbers_stand_right_and_words_left():
    assert TABLE.aligns() == ["left", "right", "right", "right"]
    assert "| :--- | ---: | ---: | ---: |" in markdown(TABLE)


def test_markup_in_a_cell_is_text_on_the_terminal():
    assert "[bold red]x[/]" in on_terminal(Table("T", [Column("a")], [["[bold red]x[/]"]]))


def test_markdown_signs_in_a_cell_stay_in_their_cell():
    rows = markdown(Table("T", [Column("a"), Column("b")], [["x|y\nz", "*b* `c` <i>"]])).splitlines()
    assert rows[-1] == r"| x\|y z | \*b\* \`c\` \<i\> |"


def test_best_is_bold_and_muted_italic_in_markdown():
    text = markdown(Table("T", [Column("a")], [[Marked(1)], [Marked(2, "muted")], [Marked("x", "differs")]]))
    assert text.splitlines()[-3:] == ["| **1** |", "| *2* |", "| x ≠ |"]


def test_csv_keeps_full_precision_and_gives_intervals_columns_of_their_own():
    table = Table("T", [Column("m", format=".1f"), Column("k")], [[Measurement(1 / 3, 0.1, 2), None], [7.5, "a,b"]])
    heading, first, second = csv.reader(csv_text(table).splitlines())
    assert heading == ["m", "m low", "m high", "k"]
    assert [float(x) for x in first[:3]] == [1 / 3, 0.1, 2]
    assert second == ["7.5", "", "", "a,b"]


def test_json_is_strict_and_names_what_it_lacks():
    data = json.loads(json_text(TABLE), parse_constant=pytest.fail)
    assert data["rows"][0][1] == {"kind": "Measurement", "value": 20.02, "low": 19.6, "high": 20.5}
    assert data["rows"][2][1]["value"] == "nan"
    assert data["rows"][2][3] == "inf"
    assert data["rows"][0][3] is None


def test_an_empty_table_renders_everywhere(tmp_path):
    empty = Table("T", [Column("a")], [])
    assert "a" in on_terminal(empty)
    assert [path.name for path in write_table(empty, tmp_path / "v0.1")] == ["v0.1.md", "v0.1.csv", "v0.1.json"]
