"""A study whose runs hold pictures out: judged by the loss on them as well, and in the same words as by the score."""

import json
from dataclasses import replace

import pytest

from adaln.codec import json_text
from adaln.evaluation.held_out import read_loss
from adaln.report import Table
from adaln.report.tables import unmarked
from adaln.statistics import paired_differences
from adaln.studies import Overrides, run_study
from adaln.studies.comparison_tables import judged_text, result_table
from adaln.studies.judged import Judged, changes_figure
from adaln.studies.run.costs import is_done
from helpers.in_process import InProcess
from helpers.smallest import PLAN

VALUES = {"zero": [0.50, 0.52, 0.54], "mix": [0.40, 0.43, 0.43], "plain": [0.50, 0.53, 0.53]}
JUDGED = Judged("held-out loss", "About it.", "zero", VALUES, paired_differences(VALUES, "zero"), digits=4)
PAIRED = replace(PLAN, study=replace(PLAN.study, name="held-out"), overrides=Overrides(held_out=0.02))


def test_a_row_stands_beside_the_reference_with_its_paired_change():
    table = result_table("By it", JUDGED)
    assert [row[0] for row in table.rows] == ["mix", "zero", "plain"] and table.notes[0] == "About it."
    assert [unmarked(row[1]) for row in table.rows] == ["better", "the reference", "not distinguishable"]
    assert round(table.rows[0][3].value, 6) == -0.1 and round(table.rows[2][3].value, 6) == 0
    assert judged_text(JUDGED) == (
        "By held-out loss, over 3 seeds: mix is better than zero: change -0.10000 points (-19.2 % relative);"
        " not distinguishable from zero: plain."
    )


def test_a_change_is_shown_with_every_seed_of_its_pair_the_best_first():
    [figure] = changes_figure(JUDGED)
    assert figure.categories == ["mix", "plain"] and figure.better == "below"
    [changes] = figure.groups
    assert changes.seeds[0] == pytest.approx([100 * d / 0.52 for d in (-0.10, -0.09, -0.11)])
    assert changes.values[0].value == pytest.approx(sum(changes.seeds[0]) / 3)
    alone = {"zero": [0.5], "mix": [0.4]}
    [figure] = changes_figure(replace(JUDGED, values=alone, changes=paired_differences(alone, "zero")))
    assert figure.groups[0].values == pytest.approx([-20]), "one seed has no interval"


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    return root, run_study(PAIRED, root, InProcess())[1]


@pytest.mark.slow
def test_a_study_is_judged_by_held_out_losses_beside_its_score(studied):
    root, result = studied
    row = json.loads(json_text(result.data))
    averaged, raw = row["held_out"].values()
    for judged, weights in ((averaged, "ema"), (raw, "model")):
        for label, of_row in judged["rows"].items():
            runs = [root / name for name in row["runs"][label]]
            files = [next(run.glob(f"scores/*-{weights}-*.loss.json")) for run in runs]
            assert of_row["per_seed"] == [read_loss(file).mean.value for file in files]
    section = next(section for section in result.sections if section.heading == "Held-out loss")
    assert len(section.blocks) == 2 and all(isinstance(table, Table) for table in section.blocks)
    assert sum(line.startswith("By held-out loss, ") for line in result.verdict) == 2


@pytest.mark.slow
def test_a_loss_that_is_gone_is_taken_again_and_nothing_else(studied):
    root, result = studied
    job = PAIRED.jobs()[0]
    run = job.run_in(root)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in run.path.rglob("*.*")}
    lost = next(run.path.glob("scores/*.loss.json"))
    lost.unlink()
    assert not is_done(job, root)
    assert run_study(PAIRED, root, InProcess())[1].data == result.data
    after = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in run.path.rglob("*.*")}
    assert {file for file in before if before[file] != after[file]} == {lost} and before[lost][1] == after[lost][1]


def test_runs_that_hold_nothing_out_are_judged_as_ever():
    assert not any(job.loss_steps for job in PLAN.jobs()) and all(job.loss_steps for job in PAIRED.jobs())
    with pytest.raises(ValueError, match=r"data\.held_out is 2\.0; expected a share"):
        replace(PAIRED, overrides=Overrides(held_out=2.0)).jobs()
