"""Ways to condition a block: every choice has a row, and rows differ in that choice and in where it starts."""

from dataclasses import asdict, fields, replace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from adaln.models import MODELS
from adaln.models.mechanism import Mechanism
from adaln.specs import DataSpec
from adaln.studies import SCALES, STUDIES, Overrides, Plan
from adaln.studies.questions.mechanisms import REFERENCE, ROWS, Cost, cost_table
from adaln.studies.scales import as_large_as

DIGITS, LATENTS = DataSpec(1, 8, 8, 10), DataSpec(4, 32, 32, 1_000)
SIZES = {"se_ratio", "rank", "tokens_from"}
"""Of what a row chooses."""


def jobs_at(scale, study="mechanisms"):
    return Plan(STUDIES[study], SCALES[scale], (0,), Overrides()).jobs()


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_rows_are_the_scales_network_with_their_options(scale):
    ours, *others = jobs_at(scale)
    for job in others:
        options, config = ROWS[job.label].options, asdict(job.config.model)
        assert {name: value for name, value in config.items() if value != asdict(ours.config.model)[name]} == options
        assert job.config.scheme.name == ROWS[job.label].scheme
        alike = [name for name in asdict(ours.config) if name not in ("name", "model", "scheme")]
        assert all(getattr(job.config, name) == getattr(ours.config, name) for name in alike)


def test_every_choice_of_a_mechanism_has_a_row():
    shown = {(name, value) for row in ROWS.values() for name, value in row.options.items()}
    kinds = get_type_hints(Mechanism)
    for one in fields(Mechanism):
        others = get_args(kinds[one.name]) if get_origin(kinds[one.name]) is Literal else ()
        assert {(one.name, value) for value in others if value != one.default} <= shown
    assert {one.name for one in fields(Mechanism)} - SIZES == {name for name, _ in shown}


@pytest.mark.parametrize(("scale", "spec", "most"), [("tiny", DIGITS, 0.11), ("paper", LATENTS, 0.01)])
def test_operations_are_all_but_equal_and_parameters_are_not(scale, spec, most):
    costs = {job.label: job.config.model.counts(spec) for job in jobs_at(scale)}
    assert all(abs(cost.flops / costs[REFERENCE].flops - 1) < most for cost in costs.values())
    assert costs["tokens alone"].parameters < 0.72 * costs[REFERENCE].parameters


@pytest.mark.parametrize(("scale", "spec", "most"), [("tiny", DIGITS, 0.001), ("paper", LATENTS, 0.0001)])
def test_as_large_rows_have_equal_parameters_and_differ_from_the_others_by_their_mlps_alone(scale, spec, most):
    ours, *others = jobs_at(scale, "mechanisms-as-large")
    assert ours == jobs_at(scale)[0]
    for job, other in zip(others, jobs_at(scale)[1:], strict=True):
        assert abs(job.config.model.counts(spec).parameters / ours.config.model.counts(spec).parameters - 1) < most
        assert replace(job.config.model, mlp_ratio=4.0) == other.config.model
    assert max(job.config.model.mlp_ratio for job in others) > 6.5


def test_networks_whose_mlps_have_no_ratio_cannot_be_made_as_large():
    with pytest.raises(ValueError, match="expected a DiT or SiT"):
        as_large_as(MODELS["DiT-LLaMA-tiny"], {"gate": "static"})


def test_the_table_says_parameters_and_multiply_adds_beside_the_references():
    table = cost_table({REFERENCE: Cost(64, 200, 4_000_000), "no time": Cost(80, 150, 4_400_000)})
    assert [row[2:] for row in table.rows] == [[64, 200, 0, 2.0, 0], [80, 150, -25, 2.2, pytest.approx(10)]]
