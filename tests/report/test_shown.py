from collections.abc import Sequence

from adaln.report import Column, Shown, Table


class Found(Shown):
    def blocks(self) -> Sequence[str | Table]:
        return ["A sentence with [brackets] & a sign.", Table("Numbers", [Column("a", "kg")], [[1.5]], ["a note"])]


def test_a_result_prints_its_paragraphs_and_tables():
    lines = str(Found()).splitlines()
    assert lines[0] == "A sentence with [brackets] & a sign."
    assert [line.strip() for line in lines if line.strip()][1:] == ["Numbers", "a (kg)", "──────", "1.5", "a note"]


def test_a_notebook_shows_them_as_html():
    html = Found()._repr_html_()
    assert "<p>A sentence with [brackets] &amp; a sign.</p>" in html
    assert '<td class="right " data-number="1.5">1.5</td>' in html
