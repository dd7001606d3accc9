"""Schedules and respacings against the numbers of the published code, in float64."""

import pytest
import torch

from adaln.processes import GaussianConfig
from adaln.processes.schedules import Tables, betas, kept_steps
from helpers.diffusion_goldens import gaussian, sections, tensors

SCHEDULES = sections("dit", "schedules")
KEYS = [(folder / body["file"], key) for folder, body in SCHEDULES for key in tensors(folder / body["file"])]


def same(actual, expected):
    """Equal to rounding: 1 - abar loses up to four of sixteen digits where abar is near 1."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(("file", "key"), KEYS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_stored_array_is_reproduced(file, key):
    expected = tensors(file)[key]
    match key.split("/"):
        case ["betas", schedule, steps]:
            same(betas(schedule, int(steps[1:])), expected)
        case ["base", schedule, steps, array]:
            same(getattr(Tables(betas(schedule, int(steps[1:]))), array), expected)
        case ["space_timesteps", steps, spec]:
            assert kept_steps("" if spec == "full" else spec, int(steps[1:])) == expected.tolist()
        case ["respaced", schedule, spec, array]:
            process = gaussian({"noise_schedule": schedule, "timestep_respacing": "" if spec == "full" else spec})
            if array == "timestep_map":
                steps = torch.arange(process.num_steps)
                assert torch.equal(process.model_steps(steps), expected)
            else:
                same(getattr(process.tables, array), expected)
        case _:
            pytest.fail(f"unknown kind of array {key}")


@pytest.mark.parametrize(("folder", "body"), SCHEDULES, ids=lambda _: "")
def test_respacings_that_fail_there_fail_here(folder, body):
    for asked, outcome in body["errors"].items():
        steps, spec = asked.split("/")
        if "ok" in outcome:
            assert kept_steps(spec, int(steps[1:])) == outcome["ok"]
        else:
            assert outcome["error"] == "ValueError"
            with pytest.raises(ValueError, match=r"nearest: "):
                kept_steps(spec, int(steps[1:]))


@pytest.mark.parametrize("variance", ["learned-range", "fixed-small", "fixed-large"])
def test_a_single_kept_step_works_where_the_reference_fails(variance):
    process = gaussian({"timestep_respacing": "1"})
    assert process.kept == [0]
    single = type(process)(GaussianConfig(variance=variance), process.kept)
    x = torch.randn(2, 3, 4, 4)
    output = torch.zeros(2, 3 * single.config.outputs_per_channel, 4, 4)
    t = torch.zeros(2, dtype=torch.long)
    prediction = single.predict(output, x, t)
    torch.testing.assert_close(prediction.mean, prediction.x_start)
    assert prediction.log_variance.isfinite().all()
