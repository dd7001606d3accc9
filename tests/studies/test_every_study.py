"""Every study goes its whole way at the smallest scale: two updates per run, few samples, a table and a verdict."""

import json

import pytest

from adaln.codec import json_text
from adaln.studies import SCALES, STUDIES, Overrides, Plan, run_study
from helpers.in_process import InProcess

FEW = Overrides(steps=2, num_images=40)
TOO_LONG = {"mechanisms-as-large", "ratio"}
"""Of the rows of another in other sizes; of 44 rows, whose reduction has tests of its own."""
ONCE = [pytest.param(name, marks=pytest.mark.nightly if name in TOO_LONG else pytest.mark.slow) for name in STUDIES]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One folder for all: runs that studies share are trained once."""
    return tmp_path_factory.mktemp("studies")


@pytest.mark.parametrize("name", ONCE)
def test_a_study_runs_to_its_end(name, root):
    plan = Plan(STUDIES[name], SCALES["tiny"], (0, 1), FEW)
    folder, result = run_study(plan, root, InProcess())
    assert json.loads((folder / "result.json").read_text()) == json.loads(json_text(result.data))
    assert result.data["verdict"] and result.table.rows
    assert plan.command() in (folder / "index.html").read_text()


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_jobs_at_every_scale_whose_labels_and_runs_are_distinct(name, scale):
    jobs = Plan(STUDIES[name], scale, (0, 1)).jobs()
    rows = {(job.group, job.label, job.config.seed) for job in jobs}
    assert len(rows) == len(jobs) == 2 * len(STUDIES[name].settings)
    assert all(job.config.steps in job.score_at for job in jobs if job.score_at)
