"""A search of a few trials of two updates, in this very process."""

import json
import math
from dataclasses import replace

import pytest

from adaln.conditioning import scheme
from adaln.processes import SamplerConfig
from adaln.sampling import SampleConfig
from adaln.studies.choices import Search
from adaln.studies.questions.search import Trial, _ask, _record, _study, candidate, check_search, jobs_of, run_search
from adaln.studies.questions.search_page import SearchResult, write_search
from adaln.studies.run.run_study import Unfinished
from adaln.studies.run.workers import attempt
from adaln.types import NonFinite

LOSS = Search(("gate", "scale"), objective="loss", at_once=2)


class Here:
    """A launcher that does pieces here, one after another, and remembers their names."""

    def __init__(self, fail=lambda name: None):
        self.done, self.fail = [], fail

    def run(self, pieces, watch):
        failures = {}
        for name, piece in pieces.items():
            self.done.append(name)
            failure = attempt(self.fail(name) or piece, "cpu", lambda count: None)
            if failure:
                failures[name] = failure
            watch(None)
        return failures


def fail_at(count, error):
    """The `count`-th piece, and no other, fails."""
    names = []

    def piece(device, tell):
        raise error

    def fail(name):
        names.append(name)
        return piece if len(names) == count else None

    return fail


@pytest.fixture
def base(small_config):
    return small_config(steps=2, log_every=1, checkpoint_every=2)


def search(base, num_trials, root, launcher=None, search=LOSS):
    return run_search(search, base, num_trials, root, launcher or Here())


def test_a_trial_starts_as_its_stds_say_and_all_else_as_the_base(small_config):
    found = candidate(scheme("adaln-gaussian"), {"gate": 2e-3})
    assert found.gate.weight.std == 2e-3
    assert (found.scale, found.shift) == (scheme("adaln-gaussian").scale, scheme("adaln-gaussian").shift)
    assert found.name == "adaln-gaussian+gate=0.002"


@pytest.mark.slow
def test_a_search_finds_a_start_and_writes_it_down(base, tmp_path):
    trials = search(base, 3, tmp_path, search=replace(LOSS, seeds=2))
    assert trials[0].stds == {"gate": 1e-3, "scale": 1e-3}
    assert all(1e-4 <= std <= 1e-2 for trial in trials for std in trial.stds.values())
    assert len({tuple(trial.stds.values()) for trial in trials}) == 3
    best = min(trials, key=lambda trial: sum(trial.values))
    found = SearchResult.of(replace(LOSS, seeds=2), base, trials, tmp_path)
    folder, result = write_search(found, tmp_path, "adaln search digits")
    data = json.loads((folder / "result.json").read_text())
    assert data["best"] == best.number and data["noise_over_seeds"] > 0
    assert scheme(str(folder / "best.json")) == candidate(base.scheme, best.stds)
    assert result.table.rows[0][0] == best.number and "Std of gate against loss" in (folder / "index.html").read_text()


@pytest.mark.slow
def test_started_again_or_asked_for_more_a_search_proposes_the_same_and_trains_nothing_twice(base, tmp_path):
    whole = search(base, 5, tmp_path / "whole")
    first, broken, last = Here(), Here(fail_at(1, RuntimeError("the disk is full"))), Here()
    assert search(base, 3, tmp_path / "parts", first) == whole[:3]
    with pytest.raises(Unfinished, match=r"1 of 2 runs failed, the others are kept: .*: the disk is full"):
        search(base, 5, tmp_path / "parts", broken)
    assert search(base, 5, tmp_path / "parts", last) == whole
    trained = [*first.done, *broken.done[:-1], *last.done]
    assert sorted(trained) == sorted(run for trial in whole for run in trial.runs)


@pytest.mark.slow
def test_a_run_that_diverges_ends_its_trial_only(base, tmp_path):
    trials = search(base, 3, tmp_path, Here(fail_at(2, NonFinite("the loss is not finite"))))
    assert [trial.end for trial in trials] == ["finished", "diverged", "finished"]
    assert trials[1].value == math.inf and trials[1].values == ()
    found = SearchResult.of(LOSS, base, trials, tmp_path)
    _, result = write_search(found, tmp_path, "adaln search digits")
    assert result.table.rows[-1][0] == 1 and result.data["trials"][1]["end"] == "diverged"
    with pytest.raises(ValueError, match="all 1 trials diverged"):
        SearchResult.of(LOSS, base, trials[1:2], tmp_path)


@pytest.mark.slow
def test_a_trial_worse_than_the_median_is_given_up_where_it_was_asked_for(base, tmp_path, monkeypatch):
    judged = []

    def loss(search, outcome):
        """The later a trial, the worse."""
        judged.append((outcome.job.label, outcome.job.config.steps))
        return float(outcome.job.label.removeprefix("trial "))

    monkeypatch.setattr("adaln.studies.questions.search.objective", loss)
    trials = search(base, 8, tmp_path, search=replace(LOSS, at_once=1, prune_at=(1,)))
    ends = [(trial.end, trial.step) for trial in trials]
    assert ends == [("finished", 2)] * 5 + [("pruned", 1)] * 3  # Optuna's pruner lets five trials pass
    assert judged[-4:] == [("trial 4", 2), ("trial 5", 1), ("trial 6", 1), ("trial 7", 1)]
    assert not [*tmp_path.glob(f"{trials[-1].runs[0]}/checkpoints/000000002")]
    longer = [job.run_key for job in jobs_of(LOSS, base, 0, {"gate": 1e-3}, 2)]
    assert [job.run_key for job in jobs_of(LOSS, base, 0, {"gate": 1e-3}, 1)] == longer


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"over": ()}, "over is empty; expected gate, scale, shift"),
        ({"over": ("gate", "gate")}, "over is gate, gate"),
        ({"prune_at": (2,)}, "prune_at is 2; expected a step before the last, 2"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_in_one_line(base, changes, said):
    with pytest.raises(ValueError, match=said):
        check_search(replace(LOSS, **changes), base, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"low": 1e-2}, "expected 0 < low < high"), ({"seeds": 0}, "seeds is 0"), ({"at_once": 0}, "at_once is 0")],
)
def test_bounds_and_counts_are_checked(changes, said):
    with pytest.raises(ValueError, match=said):
        Search(("gate",), **changes)


@pytest.mark.slow
def test_trials_are_judged_by_their_scores(base, tmp_path):
    few = SampleConfig(num_images=40, batch_size=40, sampler=SamplerConfig(solver="ddim", steps=2, clip=True))
    scored = Search(("shift",), seeds=2, sample=few)
    trials = search(base, 2, tmp_path, search=scored)
    found = SearchResult.of(scored, base, trials, tmp_path)
    assert found.objective == "FID-like" and "not comparable with Inception FID" in found.note
    assert all(len(trial.values) == 2 and trial.value > 0 for trial in trials)
    files = [file for name in trials[0].runs for file in (tmp_path / name / "scores").glob("*.scores.json")]
    assert [json.loads(file.read_text())["scores"]["fid"]["value"] for file in files] == list(trials[0].values)


def proposals(at_once, count=24):
    """What is proposed where the objective is the distance of the gate's std to 1e-3, whatever is trained."""
    look, study, stds = replace(LOSS, at_once=at_once), _study(), []
    for first in range(0, count, at_once):
        asked = [_ask(study, look, number) for number in range(first, first + at_once)]
        for trial, proposed in asked:
            value = abs(math.log(proposed["gate"] / 1e-3))
            _record(study, Trial(trial.number, proposed, "finished", 2, (value,), ()))
        stds += [proposed for _, proposed in asked]
    return stds


def test_trials_that_are_proposed_together_keep_away_from_each_other_and_are_the_same_every_time(monkeypatch):
    together = proposals(8)
    assert together == proposals(8) != proposals(1)
    import optuna

    sampler = optuna.samplers.TPESampler
    monkeypatch.setattr(
        optuna.samplers, "TPESampler", lambda constant_liar=False, **how: sampler(**how, constant_liar=False)
    )
    assert proposals(1)[:8] == proposals(8)[:8] and proposals(8) != together
