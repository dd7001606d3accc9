"""Figures as PNG, PDF and SVG: the same bytes for the same data, whatever the user's matplotlib is set to."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Literal, get_args

from adaln.codec import json_text
from adaln.files import write_atomically
from adaln.report.figures import Figure, alt_text
from adaln.report.palette import DARK, LIGHT, PAGE, WIDTH, Theme, css_names

Format = Literal["png", "pdf", "svg"]
DPI = 200


def picture(figure: Figure, format: Format = "png", dark: bool = False) -> bytes:
    """The figure as a file of its own: light unless `dark`, its title above it."""
    return _render(figure, format, DARK if dark else LIGHT, titled=True)


def write_figure(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.png, .pdf, .svg, and the plotted data as `stem`.json; returns their paths."""
    contents: dict[str, bytes | str] = {format: picture(figure, format) for format in get_args(Format)}
    contents["json"] = json_text(figure) + "\n"
    # `with_suffix` would cut "std-0.001" short
    return [write_atomically(stem.with_name(f"{stem.name}.{suffix}"), data) for suffix, data in contents.items()]


def inline_svg(figure: Figure, prefix: str, width: float = WIDTH) -> str:
    """The figure for the body of a page: colours are the page's variables, ids start with `prefix`, no title."""
    svg = _render(figure, "svg", PAGE, titled=False, width=width).decode()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<[^>]+>", lambda tag: _page_tag(tag[0], prefix), svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt_text(figure))}" ', 1)


def _page_tag(tag: str, prefix: str) -> str:
    """One tag of matplotlib's SVG: page colours, ids that are unique in the page, coordinates to 1/100 pt."""
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag)
    tag = re.sub(r"#fe00\w\w\b", lambda colour: css_names()[colour[0]], tag)
    return re.sub(r' d="[^"]+"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), tag)


def _render(figure: Figure, format: Format, theme: Theme, titled: bool, width: float = WIDTH) -> bytes:
    out = io.BytesIO()
    with _style(theme):
        from adaln.report.draw import draw

        unstamped = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
        metadata = unstamped.get(format, dict.fromkeys(("Date", "Creator", "Format", "Type")))
        draw(figure, theme, titled, width).savefig(out, format=format, dpi=DPI, metadata=metadata)
    return out.getvalue()


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """matplotlib's defaults and these, for a moment: neither a user's matplotlibrc nor a notebook's style gets in."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "adaln",
                "svg.fonttype": "none",
                "font.size": 9,
                "font.family": "DejaVu Sans",
                "axes.titlesize": 9,
                "legend.fontsize": 8.5,
                "text.color": theme.ink,
                "axes.labelcolor": theme.ink,
                "text.parse_math": False,
            }
        )
        yield
