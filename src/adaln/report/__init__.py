"""Plain data -> what people look at: terminal, Markdown, CSV, JSON, PNG, PDF, SVG, one self-contained HTML page."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.report.figures import Axis as Axis
    from adaln.report.figures import Block as Block
    from adaln.report.figures import Command as Command
    from adaln.report.figures import Facts as Facts
    from adaln.report.figures import Figure as Figure
    from adaln.report.figures import Group as Group
    from adaln.report.figures import Histograms as Histograms
    from adaln.report.figures import ImageGrid as ImageGrid
    from adaln.report.figures import Intervals as Intervals
    from adaln.report.figures import Lines as Lines
    from adaln.report.figures import Matrix as Matrix
    from adaln.report.figures import Page as Page
    from adaln.report.figures import Panel as Panel
    from adaln.report.figures import Ridge as Ridge
    from adaln.report.figures import Section as Section
    from adaln.report.figures import Series as Series
    from adaln.report.html import Shown as Shown
    from adaln.report.html import page_html as page_html
    from adaln.report.html import write_page as write_page
    from adaln.report.html import write_report as write_report
    from adaln.report.html import write_table as write_table
    from adaln.report.pictures import picture as picture
    from adaln.report.pictures import write_figure as write_figure
    from adaln.report.tables import Cell as Cell
    from adaln.report.tables import Column as Column
    from adaln.report.tables import Mark as Mark
    from adaln.report.tables import Marked as Marked
    from adaln.report.tables import Measurement as Measurement
    from adaln.report.tables import Table as Table
    from adaln.report.terminal import TerminalTable as TerminalTable
    from adaln.report.terminal import show as show
    from adaln.report.text import csv_text as csv_text
    from adaln.report.text import markdown as markdown
    from adaln.report.text import page_markdown as page_markdown

__getattr__, __all__ = lazily(__name__)
