from collections.abc import Mapping

import numpy as np
import pytest
import torch

from adaln.analysis.fit import METHODS, ROLES, Fit, fit, rescaled, smoothed
from adaln.analysis.sketch import sketch
from adaln.conditioning import SCHEMES, Normal, Scheme, Start, initialise, save_scheme
from adaln.conditioning.schemes import load_scheme
from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.networks import DIGITS

BLOCKWISE = Scheme(
    "known",
    gate=tuple(Start(Normal(std)) for std in (1e-3, 2e-3, 4e-3, 3e-3)),
    scale=Start(Normal(1.2e-3)),
    shift=tuple(Start(Normal(std)) for std in (4e-4, 3e-4, 2e-4, 1e-4)),
)


def pilot(scheme: Scheme, seed: int = 0, model: str = "tiny") -> Mapping[str, torch.Tensor]:
    net = build(MODELS[model], DIGITS, generator("fit test"))
    initialise(net, scheme, generator("fit test", "start", seed))
    return dict(net.named_parameters())


def known_stds(scheme: Scheme, role: str, num: int) -> list[float]:
    starts = getattr(scheme, role)
    return [start.weight.std for start in (starts if isinstance(starts, tuple) else (starts,) * num)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_known_stds_are_recovered_within_their_intervals(method):
    inside = []
    for seed in range(5):
        found = fit(pilot(BLOCKWISE, seed), method, by_block=True)
        for role in ROLES:
            for estimate, std in zip(found.roles[role].measured, known_stds(BLOCKWISE, role, 4), strict=True):
                inside.append(estimate.low <= std <= estimate.high)
                assert estimate.std == pytest.approx(std, rel=0.1)
    assert np.mean(inside) > 0.88  # 60 intervals of 95 %: fewer than 53 inside has a chance of 1 in 100


@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_as_often_as_they_say(method):
    covered = []
    for seed in range(200):
        values = 1e-3 * torch.randn(2000, generator=generator("coverage", seed))
        estimate = METHODS[method](sketch(values))
        covered.append(estimate.low <= 1e-3 <= estimate.high)
    assert 0.9 <= np.mean(covered) <= 0.995


def test_one_std_per_role_pools_all_blocks():
    found = fit(pilot(SCHEMES["adaln-gaussian-v2"]))
    for role, std in (("gate", 8e-4), ("scale", 1.2e-3), ("shift", 8e-4)):
        (estimate,) = found.roles[role].measured
        assert estimate.low <= std <= estimate.high
        assert (estimate.high - estimate.low) / std < 0.02
        assert found.roles[role].stds == (estimate.std,)


def test_a_tail_moves_the_moments_but_not_the_robust_fit():
    values = torch.randn(20_000, generator=generator("tail"))
    values[:200] *= 50
    assert METHODS["moments"](sketch(values)).std > 3
    assert METHODS["robust"](sketch(values)).std == pytest.approx(1, rel=0.05)
    assert METHODS["peak"](sketch(values)).std == pytest.approx(1, rel=0.1)


def test_a_fit_is_a_scheme_that_can_be_saved_loaded_and_started_from(tmp_path):
    found = fit(pilot(BLOCKWISE), by_block=True).scheme("mine")
    save_scheme(found, tmp_path / "mine.json")
    assert load_scheme(tmp_path / "mine.json") == found
    again = fit(pilot(found, seed=9), by_block=True)
    for role in ROLES:
        np.testing.assert_allclose(again.roles[role].stds, known_stds(found, role, 4), rtol=0.06)
    assert isinstance(fit(pilot(BLOCKWISE)).scheme("one").gate, Start)


def test_smoothing_keeps_peaks_that_are_a_polynomial_and_tames_those_that_scatter():
    blocks = np.arange(28)
    peaks = 400 + 20 * blocks - 0.6 * blocks**2
    np.testing.assert_allclose(smoothed(tuple(1 / peaks), 7), 1 / peaks, rtol=1e-9)
    noise = 1 + 0.1 * torch.randn(28, generator=generator("smoothing")).numpy()
    rough = np.array(smoothed(tuple(1 / (peaks * noise)), 5)) * peaks - 1
    assert np.abs(rough).mean() < 0.7 * np.abs(1 / noise - 1).mean()


def test_smoothing_refuses_a_curve_that_falls_to_zero():
    with pytest.raises(ValueError, match="falls to zero"):
        smoothed((1.0, 1.0, 1.0, 1e-6), 7)


def test_rescaling_is_the_papers_formula():
    peaks = np.array([400.0, 500.0, 450.0])
    np.testing.assert_allclose(rescaled(tuple(1 / peaks), 8e-4), 8e-4 / (peaks / peaks.mean()), rtol=1e-12)


def test_a_base_sets_the_level_and_keeps_the_shape():
    base = {"gate": 8e-4, "scale": 1.2e-3, "shift": 8e-4}
    plain, scaled = (fit(pilot(BLOCKWISE), by_block=True, base=b).roles["gate"].stds for b in (None, base))
    ratio = np.array(scaled) / np.array(plain)
    np.testing.assert_allclose(ratio, ratio[0])
    assert 1 / np.mean(1 / np.array(scaled)) == pytest.approx(8e-4)


def test_a_unet_is_fitted_block_by_block_in_forward_order():
    found = fit(pilot(SCHEMES["adaln-gaussian"], model="U-DiT-tiny"), by_block=True)
    initialised = pilot(found.scheme("mine"), model="U-DiT-tiny")
    assert isinstance(found, Fit)
    assert len(fit(initialised, by_block=True).roles["gate"].stds) == len(found.roles["gate"].stds)


def test_of_a_network_that_lacks_a_role_the_others_are_fitted_and_the_scheme_says_so():
    tensors = {f"blocks.{i}.adaLN_modulation.1.weight": torch.randn(24, 6) for i in range(2)}
    found = fit(tensors, family="adaLN-no-gate")
    assert list(found.roles) == ["scale", "shift"] and found.scheme("mine").note.endswith("which has no gate")
    assert list(fit(tensors, family="LightningDiT-no-shift", by_block=True).roles) == ["gate", "scale"]
    with pytest.raises(ValueError, match="base names the gate, which these weights do not have: scale, shift"):
        fit(tensors, family="adaLN-no-gate", base={"gate": 1e-3})


@pytest.mark.parametrize(
    ("tensors", "by_block", "message"),
    [
        (lambda: pilot(SCHEMES["adaln-zero"]), False, "the gate of all blocks is the constant 0; expected trained"),
        (lambda: {"w": torch.ones(3)}, False, "no gate, scale or shift to fit"),
        (lambda: pilot(SCHEMES["adaln-gaussian"], model="tiny-shared"), True, "shared modulation"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(tensors, by_block, message):
    with pytest.raises(ValueError, match=message):
        fit(tensors(), by_block=by_block)


def test_weights_that_are_not_finite_are_refused_by_name():
    tensors = {name: tensor.detach().clone() for name, tensor in pilot(SCHEMES["adaln-gaussian"]).items()}
    tensors["blocks.2.adaLN_modulation.1.weight"][0, 0] = torch.nan  # rows of the shift come first
    with pytest.raises(ValueError, match=r"the shift of blocks\.2 holds 1 NaN"):
        fit(tensors, by_block=True)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match="nearest: 'moments'"):
        fit(pilot(BLOCKWISE), "moment")


def test_an_unknown_role_of_the_base_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown role 'gaet' of base \(nearest: 'gate'\); known: gate, scale, shift"):
        fit(pilot(BLOCKWISE), base={"gaet": 1.0})
