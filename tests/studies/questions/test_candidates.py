"""A start is chosen over some seeds and confirmed over others, on scores that are known."""

from itertools import product

import pytest

from adaln.codec import json_text
from adaln.studies import SCALES, Overrides, Plan
from adaln.studies.questions import candidates
from helpers.made_up import made_up

CHOOSING, CONFIRMING = (0, 1, 2, 3, 4), tuple(range(5, 20))
WOBBLE = (0.3, -0.2, 0.0, 0.1, -0.2)
LABELS = (*candidates.REFERENCES, *candidates.CANDIDATES)


def outcomes(run, labels, seeds, gains):
    """Scores of 20 less what `gains` has for a row, or a network's, moved from seed to seed, otherwise in each row."""

    def fid(model, row, label, seed):
        return 20 + seed - gains.get((model, label), gains.get(label, 0)) + WOBBLE[(seed + row) % 5]

    return [
        made_up(run, label, seed, {10: fid(model, row, label, seed)}, model)
        for model, (row, label), seed in product(candidates.NETWORKS, enumerate(labels), seeds)
    ]


def result_of(run, choosing, confirming):
    first = outcomes(run, LABELS, CHOOSING, choosing)
    best = candidates.chosen(first)
    return best, candidates.reduce([*first, *outcomes(run, (*candidates.REFERENCES, best), CONFIRMING, confirming)])


def test_what_is_better_on_other_seeds_too_is_confirmed(trained):
    best, result = result_of(trained, {"gate for 500 updates": 2}, {"gate for 500 updates": 2})
    assert best == result.data["chosen"] == "gate for 500 updates"
    yes, where = result.verdict
    assert (
        yes
        == "Yes: gate for 500 updates is better than both on 2 networks, over 15 seeds besides the 5 it was chosen on."
    )
    assert where.startswith("It is -") and where.count("(better)") == 4
    raw = result.data["scores"]["confirming"][candidates.NETWORKS[1]]
    assert {len(seeds) for seeds in raw.values()} == {15} and set(raw) == {*candidates.REFERENCES, best}
    assert len(result.table.rows) == 4 and "over the choosing seeds" in json_text(result.page(""))


@pytest.mark.parametrize("confirming", [{}, {"adaln-zero": 2, "adaln-gaussian": -2}])
def test_luck_and_a_start_that_beats_one_of_the_two_alone_are_not(trained, confirming):
    best, result = result_of(trained, {"head 0.02": 2}, confirming)
    assert best == "head 0.02"
    none, power = result.verdict
    assert none.startswith("None that these seeds confirm: head 0.02, the best of 10 over 5 seeds, is over 15 others ")
    assert power.startswith("A change of ") and "four times in five" in power


def test_chosen_is_what_helps_on_every_network_rather_than_most_on_one(trained):
    one_network = {(candidates.NETWORKS[0], "xavier-all"): 12, "gate for 500 updates": 2}
    assert candidates.chosen(outcomes(trained, LABELS, CHOOSING, one_network)) == "gate for 500 updates"


def test_further_seeds_are_new_and_only_of_the_best_and_the_references(trained):
    jobs = candidates.confirming_jobs(outcomes(trained, LABELS, CHOOSING, {"few gates open": 3}))
    assert {job.label for job in jobs} == {*candidates.REFERENCES, "few gates open"}
    assert {job.config.seed for job in jobs} == set(CONFIRMING)
    assert all(job.config.name.endswith(f"-s{job.config.seed}") for job in jobs)


def test_every_candidate_is_a_start_of_its_own():
    jobs = Plan(candidates.CANDIDATES_STUDY, SCALES["ratio"], (0,), Overrides()).jobs()
    schemes = [job.config.scheme for job in jobs if job.group == candidates.NETWORKS[0]]
    assert len({repr(scheme) for scheme in schemes}) == len(LABELS)
