import json

import pytest

from adaln.codec import decode, json_text
from adaln.report import Facts, Marked, Measurement, Page, Section
from adaln.views.run_page import read_section, save_section, with_saved
from helpers.report_samples import FIGURES, TABLE

SECTION = Section(
    "All kinds", ["prose", TABLE, Facts("f", {"a": 1, "kind": "x"}), *(f for n, f in FIGURES.items() if n != "images")]
)


@pytest.mark.slow
def test_what_is_saved_comes_back_as_it_was_and_lies_beside_its_pictures_and_a_page(tmp_path):
    page = save_section(SECTION, tmp_path / "one")
    assert json_text(read_section(page.parent / "section.json")) == json_text(SECTION)
    names = {file.name for file in page.parent.iterdir()}
    assert {"section.json", "index.html", "index.md", "1-2-scores.csv", "1-4-loss.svg", "1-4-loss.pdf"} <= names


def test_an_infinite_end_of_an_interval_comes_back_as_a_number():
    cell = Marked(Measurement(1.5, float("-inf"), float("inf")), "warning")
    assert decode(Marked, json.loads(json_text(cell))) == cell


def test_a_page_takes_up_saved_sections_by_name_before_its_last(tmp_path):
    for name in ("b", "a"):
        save_section(Section(name, ["text"]), tmp_path / name)
    page = with_saved(Page("p", "", [Section("first", []), Section("last", [])]), tmp_path)
    assert [section.heading for section in page.sections] == ["first", "a", "b", "last"]
    assert with_saved(page, tmp_path / "nowhere") == page


@pytest.mark.parametrize("content", ["[", '{"kind": "Section"}', '{"kind": "Axis", "label": "x"}', "[]"])
def test_a_damaged_section_is_one_line(tmp_path, content):
    (tmp_path / "section.json").write_text(content)
    with pytest.raises(ValueError, match=r"section\.json"):
        read_section(tmp_path / "section.json")
