"""Families beside what their starts do: every family has a row of the study, and rows are what they are called."""

from adaln.conditioning import SCHEMES
from adaln.studies import SCALES, STUDIES, Overrides, Plan
from adaln.studies.questions.released import HEAD_AS_TORCH, OPTIONS, nearest_scheme, started_families


def test_the_nearest_start_of_every_family_is_a_row_of_the_study():
    nearest = {name: nearest_scheme(family.start) for name, family in started_families().items()}
    assert set(nearest.values()) <= set(OPTIONS) and len(nearest) > 80
    expected = {"DiT": "adaln-zero", "PRX": HEAD_AS_TORCH.name, "SD3": "torch-default", "PixArt": "table-normal"}
    assert {name: nearest[name] for name in expected} == expected
    assert nearest["Krea 2"] == "table-zero" and nearest["ERNIE-Image"] == "adaln-zero"


def test_every_start_that_needs_a_mechanism_is_a_row_of_a_network_that_has_it():
    assert {name for name, row in SCHEMES.items() if row.needs} <= set(OPTIONS)
    for job in Plan(STUDIES["released"], SCALES["tiny"], (0,), Overrides()).jobs():
        assert job.config.scheme.name == job.label and job.config.steps == 100 and not job.score_at
        assert all(getattr(job.config.model, name) == value for name, value in OPTIONS[job.label].items())
