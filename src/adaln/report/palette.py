"""Colours for light, dark, and pages that are either.

The hues are Okabe and Ito's, darkened on light and lightened on dark until each stands out from its ground by a
contrast of 3:1 at least (WCAG 2.1, graphics) and apart from the others under deuteranopia and protanopia. Series differ
in marker and dash as well, so that no reader needs colour.

Source: Okabe & Ito (2008), Color Universal Design, https://jfly.uni-koeln.de/color/
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a picture; `surface` "none" is transparent."""

    surface: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    """Blue, vermillion, green, purple, orange (brown on light), sky."""


LIGHT = Theme(
    surface="#ffffff",
    ink="#1b1f24",
    muted="#59626d",
    grid="#dfe3e8",
    series=("#0068a8", "#dd6500", "#009e73", "#a83a80", "#6e4a00", "#4398dc"),
)
DARK = Theme(
    surface="#14171b",
    ink="#e8eaed",
    muted="#a2abb5",
    grid="#333a42",
    series=("#4aa3df", "#f0803c", "#2fc296", "#dd8fbc", "#e6b422", "#9ad4f5"),
)
PAGE = Theme(
    surface="none",
    ink="#fe0001",
    muted="#fe0002",
    grid="#fe0003",
    series=tuple(f"#fe001{i}" for i in range(len(LIGHT.series))),
)
"""Stand-ins, which `css_names` maps to the variables of the page."""

BETTER, WORSE = 2, 1
"""Of the series: the colours of a verdict."""
WIDTH = 6.4
"""Inches of a picture: two stand beside each other on a wide page."""
NARROW = 3.7
"""Inches of a picture for a telephone."""
MARKERS = "osD^vPX*"
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))  # type: ignore[assignment]


def css_names() -> dict[str, str]:
    """From the stand-ins of `PAGE` to `var(--name)`."""
    return {colour: f"var(--{name})" for name, colour in _named(PAGE).items()}


def css_variables(theme: Theme) -> str:
    """The declarations of a theme's variables."""
    return " ".join(f"--{name}: {colour};" for name, colour in ({"surface": theme.surface} | _named(theme)).items())


def _named(theme: Theme) -> dict[str, str]:
    series = {f"series-{i}": colour for i, colour in enumerate(theme.series)}
    return {"ink": theme.ink, "muted": theme.muted, "grid": theme.grid} | series
