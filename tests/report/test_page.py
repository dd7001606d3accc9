import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from adaln.report import (
    Axis,
    Column,
    Facts,
    Histograms,
    ImageGrid,
    Lines,
    Page,
    Panel,
    Section,
    Series,
    Shown,
    Table,
    page_html,
    page_markdown,
    write_page,
    write_report,
)
from helpers.report_samples import FIGURES, PAGE, TABLE, bell

VOID = {"meta", "link", "br", "img"}
PAYLOAD = "<script>alert('&\"')</script>"


class Structure(HTMLParser):
    """Checks that tags close in order; gathers tags, ids, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def poisoned(value, key=""):
    """`value` with every text in it, but for the names of choices and formats, replaced by a script."""
    if key in ("scale", "mark", "align", "format", "better"):
        return value
    if isinstance(value, str):
        return PAYLOAD
    if is_dataclass(value):
        return replace(value, **{f.name: poisoned(getattr(value, f.name), f.name) for f in fields(value)})
    if isinstance(value, dict):
        return {PAYLOAD + name: poisoned(item) for name, item in value.items()}
    return type(value)(map(poisoned, value)) if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def page():
    return Structure(page_html(PAGE))


def test_tags_close_in_order_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20


def test_every_reference_of_the_page_has_its_target(page):
    ids = {attributes.get("id") for _, attributes in page.tags}
    targets = [v[1:] for _, a in page.tags for k, v in a.items() if k.endswith("href") and v.startswith("#")]
    clips = [clip for _, a in page.tags for clip in re.findall(r"url\(#(.+?)\)", " ".join(v or "" for v in a.values()))]
    assert {"s1", "s2", "s3"} <= set(targets)
    assert clips
    assert set(targets) | set(clips) <= ids


def test_the_page_asks_for_nothing_from_outside(page):
    for tag, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "data", "action"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page_html(PAGE)


def test_every_picture_says_what_it_shows(page):
    pictures = [a for a in page.all("svg") if a.get("role") == "img"]
    narrow = {"lines", "intervals", "histograms"}
    assert len(pictures) == len(page.all("svg")) == len(FIGURES) + len(narrow & FIGURES.keys())
    assert all(any(f.caption in a["aria-label"] for f in FIGURES.values()) for a in pictures)


def test_no_text_is_read_as_html():
    page = Structure(page_html(poisoned(PAGE)))
    assert len(page.all("script")) == 1
    assert page.text.count("alert('&\"')") > 30


def test_colours_of_inline_pictures_follow_the_theme():
    body = page_html(PAGE).split("</style>")[1]
    assert "#fe00" not in body
    assert re.findall(r"(?:fill|stroke): #\w+", body) == []
    assert {"--ink", "--muted", "--grid", "--series-0"} <= set(re.findall(r"var\((--[\w-]+)\)", body))


def test_plotted_data_are_a_table_of_the_page_and_csv():
    page = page_html(Page("T", "s", [Section("h", [FIGURES["lines"]])]))
    [link] = [a["href"] for a in Structure(page).all("a") if "download" in a]
    lines = unquote(link.removeprefix("data:text/csv;charset=utf-8,")).splitlines()
    assert len(lines) == 1 + sum(len(series.x) for series in FIGURES["lines"].series)
    assert f'<td class="left "><span>{FIGURES["lines"].series[0].name}</span>' in page
    long = replace(FIGURES["lines"], series=[Series("long", range(1, 1001), range(1, 1001))])
    assert page_html(Page("T", "s", [Section("h", [long])])).count("<tr>") == 0


def test_what_is_folded_is_closed_until_it_is_asked_for():
    page = Structure(page_html(Page("T", "answer", [Section("a", ["one"]), Section("b", ["two"], folded=True)])))
    assert list(page.all("details")) == [{}]
    assert [a["href"] for a in page.all("a")] == ["#s1", "#s2"]


def test_the_answer_is_the_headline_and_one_section_needs_no_contents():
    page = Structure(page_html(Page("T", ["It is so.", "Beware."], [Section("T", ["one"])])))
    assert "TIt is so.Beware." in page.text.replace("\n", "") and page.all("nav") == []


@pytest.mark.slow
def test_a_page_of_a_study_stays_below_three_megabytes():
    ridges = [replace(bell(1e-3 * (i + 1)), label=str(10**i)) for i in range(8)]
    panels = [Panel(f"scheme {i}", ridges) for i in range(5)]
    figures = [Histograms(role, "c", Axis("w", scale="symlog"), panels) for role in ("gate", "scale", "shift")]
    text = page_html(Page("T", "s", [Section("h", figures)]))
    assert 100_000 < len(text.encode()) < 3_000_000


@pytest.mark.slow
def test_the_same_data_give_the_same_page(tmp_path):
    assert write_page(PAGE, tmp_path / "a.html").read_bytes() == write_page(PAGE, tmp_path / "b.html").read_bytes()


@pytest.mark.slow
def test_a_report_holds_every_table_and_figure_as_files(tmp_path):
    assert write_report(PAGE, tmp_path) == tmp_path / "index.html"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2 + 3 + 4 * len(FIGURES)
    assert {"1-3-scores.csv", "1-4-loss.svg", "2-1-differences.json", "index.md"} <= set(names)
    assert all(picture in names for picture in re.findall(r"\]\(([^)]+)\)", (tmp_path / "index.md").read_text()))


def test_markdown_of_a_page_has_its_parts_in_order():
    text = page_markdown(PAGE)
    parts = [
        "# A study",
        "2.16 points",
        "`adaln study`",
        "## Scores",
        "```\nadaln study table4\n```",
        "| adaLN-Zero",
        "![Line",
    ]
    places = [text.index(part) for part in [*parts, "## Inside", "- std: 0.001"]]
    assert places == sorted(places)
    assert TABLE.title in text


@pytest.mark.parametrize("block", [TABLE, Facts("f", {"a <b>": 1}), *FIGURES.values()], ids=lambda b: type(b).__name__)
def test_a_notebook_shows_a_block_by_itself_in_colours_of_its_own(block):
    shown = block._repr_html_()
    structure = Structure(shown)
    assert block.title in structure.text
    used = set(re.findall(r"var\((--[\w-]+)\)", shown))
    assert used <= set(re.findall(r"(--[\w-]+):", shown))


@pytest.mark.slow
def test_two_figures_of_a_notebook_share_no_ids():
    ids = [
        {attributes["id"] for _, attributes in Structure(FIGURES[name]._repr_html_()).tags if "id" in attributes}
        for name in ("lines", "histograms")
    ]
    assert ids[0] and ids[1] and not ids[0] & ids[1]


class Answer(Shown):
    def blocks(self) -> Sequence[str | Table]:
        return ["A sentence with [brackets] & a sign.", Table("Numbers", [Column("a", "kg")], [[1.5]], ["a note"])]


def test_a_result_prints_its_paragraphs_and_tables():
    lines = str(Answer()).splitlines()
    assert lines[0] == "A sentence with [brackets] & a sign."
    assert [line.strip() for line in lines if line.strip()][1:] == ["Numbers", "a (kg)", "──────", "1.5", "a note"]


def test_a_notebook_shows_a_result_as_html():
    shown = Answer()._repr_html_()
    assert "<p>A sentence with [brackets] &amp; a sign.</p>" in shown
    assert '<td class="right " data-number="1.5"><span>1.5</span></td>' in shown


def test_a_page_says_where_the_values_of_histograms_and_images_lie(tmp_path):
    figures = [figure for figure in FIGURES.values() if isinstance(figure, Histograms | ImageGrid)]
    page = Page("P", ["Answer."], [Section("First", ["Prose.", *figures])])
    write_report(page, tmp_path)
    named = re.findall(r"<code>([^<]+\.json)</code>", (tmp_path / "index.html").read_text())
    assert len(named) == len(figures) > 1 and all((tmp_path / name).exists() for name in named)
    assert all(".json" not in figure._repr_html_() for figure in figures)


def test_code_in_notes_and_captions_is_shown_as_code(tmp_path):
    table = replace(TABLE, notes=["As `adaln runs` has them."])
    figure = replace(next(iter(FIGURES.values())), caption="Of `runs/a_b`, <all>.")
    page = Page("Title", [], [Section("Here", [table, figure])])
    shown = write_page(page, tmp_path / "index.html").read_text()
    assert "<p>As <code>adaln runs</code> has them.</p>" in shown
    assert "<p>Of <code>runs/a_b</code>, &lt;all&gt;.</p>" in shown
    written = page_markdown(page)
    assert "As `adaln runs` has them." in written and r"Of `runs/a_b`, \<all\>." in written


@pytest.mark.parametrize("y", [0.0, 3.25])
def test_a_curve_of_one_point_is_a_table(tmp_path, y):
    axes = Axis("step", "updates"), Axis("FID")
    series = [Series("zero", [500], [y], [y - 1], [y + 1]), Series("step1", [500, 900], [y, None])]
    page = Page("A run", "", [Section("Scores", [Lines("FID against steps", "n = 1 seed.", *axes, series)])])
    write_report(page, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if "fid" in path.name) == [
        f"1-1-fid-against-steps.{suffix}" for suffix in ("csv", "json", "md")
    ]
    for text in (page_html(page), page_markdown(page)):
        assert "<svg" not in text and ".svg" not in text and "n = 1 seed." in text and f"{y:g}" in text


def test_a_curve_of_two_points_is_drawn():
    axes = Axis("step", "updates"), Axis("FID")
    for series in ([Series("zero", [1, 2], [1.0, 2.0])], [Series("zero", [1], [1.0]), Series("step1", [2], [1.0])]):
        page = Page("A run", "", [Section("Scores", [Lines("FID against steps", "n = 1 seed.", *axes, series)])])
        assert "1-1-fid-against-steps.svg" in page_markdown(page)
