"""Starts of releases, heads and optimisers: what is compared is one network at one cost."""

import pytest

from adaln.conditioning import SCHEMES
from adaln.config import to_dict
from adaln.studies import SCALES, STUDIES, Overrides, Plan
from adaln.studies.questions.starts import HEADS, OPTIMISERS, RELEASED


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("released-starts", {"scheme"}),
        ("three-starts", {"scheme"}),
        ("head", {"scheme"}),
        ("optimiser", {"scheme", "optim"}),
    ],
)
def test_rows_differ_in_what_is_asked_and_in_nothing_else(name, differs, scale):
    jobs = Plan(STUDIES[name], SCALES[scale], (0,), Overrides()).jobs()
    first, *others = (to_dict(job.config) for job in jobs)
    found = {key for other in others for key in first if first[key] != other[key]} - {"name"}
    assert found == differs
    assert len({job.label for job in jobs}) == len(jobs) and jobs[0].label.startswith(("adaln-zero", "head zero"))


def test_every_start_that_needs_no_mechanism_is_compared():
    papers = {name for name in SCHEMES if name.startswith("adaln")} | {"head-normal"}
    assert {*RELEASED} | papers >= {name for name, row in SCHEMES.items() if not row.needs}


def test_heads_and_optimisers_are_what_they_are_called():
    heads = {s.label: s.scheme.head for s in STUDIES["head"].settings}
    assert heads.pop("head zero") == SCHEMES["adaln-zero"].head
    assert list(heads.values()) == list(HEADS.values())
    of = {s.label: s.muon for s in STUDIES["optimiser"].settings}
    assert (
        of["adaln-zero, AdamW"] == ()
        and of["torch-default, Muon, modulation too"] == OPTIMISERS["Muon, modulation too"]
    )
