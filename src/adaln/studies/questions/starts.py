"""The starts of releases held against adaLN-Zero: all of them, those of the head alone, and beside two optimisers.

All rows of a study train one network for as many steps at one learning rate. Starts that belong to a mechanism (tables,
sigmoid or static gates) are starts of other networks, and not among them.
"""

from dataclasses import replace
from functools import partial
from itertools import product

from adaln.conditioning import SCHEMES, Scheme, Start
from adaln.conditioning.distributions import Default, Normal, Xavier
from adaln.studies.compare import compare_schemes
from adaln.studies.study import Setting, Study

RELEASED = ("final-zero", "torch-default", "xavier-all", "dit-mup", "default", "gpt2-residual", "adaln", "adaln-step1")
"""`adaln schemes` says whose."""
HEADS = {
    "normal 0.02": Start(Normal(0.02)),
    "normal 0.1": Start(Normal(0.1)),
    "Xavier": Start(Xavier()),
    "torch": Start(Default(), Default()),
}
EARLY = 25_000
"""Steps of many rows over many seeds: a start shows the most while it lasts."""
ZERO = "head zero"
OPTIMISERS = {"AdamW": (), "Muon": ("backbone",), "Muon, modulation too": ("backbone", "gate", "scale", "shift")}


def with_head(name: str, start: Start) -> Scheme:
    """adaLN-Zero with another head."""
    return Scheme(f"adaln-zero, head {name}", head=start, note=f"adaLN-Zero, head {name}")


def _study(name: str, title: str, settings: list[Setting], steps: int = EARLY) -> Study:
    """Rows against the first."""
    rows = tuple(replace(setting, steps=steps) for setting in settings)
    return Study(name, title, rows, partial(compare_schemes, title, reference=settings[0].label))


RELEASED_STARTS = _study(
    "released-starts",
    "Which of the starts that releases use?",
    [Setting(name, name) for name in ("adaln-zero", "adaln-gaussian", *RELEASED)],
)
THREE_STARTS = _study(
    "three-starts",
    "Zero, Gaussian or Step1?",
    [Setting(name, name) for name in ("adaln-zero", "adaln-gaussian", "adaln-step1")],
    steps=50_000,
)
HEAD = _study(
    "head",
    "Why is the head zero?",
    [
        Setting(ZERO, SCHEMES["adaln-zero"]),
        *(Setting(f"head {name}", with_head(name, start)) for name, start in HEADS.items()),
    ],
)
OPTIMISER = _study(
    "optimiser",
    "Does the start depend on the optimiser?",
    [
        Setting(f"{scheme}, {name}", scheme, muon=roles)
        for (name, roles), scheme in product(OPTIMISERS.items(), ("adaln-zero", "adaln-gaussian", "torch-default"))
    ],
)
