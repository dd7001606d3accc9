"""Values and updates of roles against what numpy and whole tensors say."""

import pytest
import torch

from adaln.analysis import role_updates
from adaln.analysis.role_updates import entries_of, numbers_of, places, records, updates_by_role, watched_sites
from adaln.conditioning import find_layout, find_sites, initialise
from adaln.models import MODELS, DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS


def network(scheme="adaln-gaussian", config=None, spec=DIGITS):
    net = build(config or DiTConfig(16, 2, 2, 4), spec, generator("role updates"))
    initialise(net, scheme)
    return net


def recorded(net, change):
    """Records of the roles before and after two changes, the newest ones, by group name over all blocks."""
    sites = watched_sites(net, find_layout(net))
    seen = [entries_of(sites)]
    for _ in range(2):
        with torch.no_grad():
            for parameter in net.parameters():
                change(parameter)
        seen.insert(0, entries_of(sites))
    squares = [float(one.gradient_squares()) for one in sites]
    found = records(2, sites, squares, seen[0], numbers_of(sites, seen))
    return {record.group.name: record for record in found if record.group.block is None}


def rows(net, role, bias=False):
    """All entries of a role, or of its biases, in one."""
    tensors = dict(net.named_parameters())
    sites = [site for site in find_sites(net) if site.role.name == role and site.branch != "final"]
    return torch.cat(
        [tensors[site.bias if bias else site.weight][site.rows].detach().double().flatten() for site in sites]
    )


def noise(parameter):
    parameter.add_(1e-2 * torch.randn(parameter.shape, generator=generator("noise", parameter.numel())))


def test_biases_are_recorded_as_weights_are():
    net = network("adaln")
    before = rows(net, "GATE", bias=True)
    found = recorded(net, noise)
    assert list(found)[:3] == ["shift", "scale", "gate"]
    found = found["gate bias"]
    after = rows(net, "GATE", bias=True)
    update = (after - before) / 2  # twice the same
    assert found.moments.mean == pytest.approx(float(after.mean())) and found.moments.mean == pytest.approx(1, abs=0.1)
    assert found.moments.std == pytest.approx(float(after.std(correction=0)))
    assert found.update_ratio == pytest.approx(float(update.norm() / (before + update).norm()), rel=1e-4)
    assert (found.moved, found.cosine) == (1.0, pytest.approx(1.0, rel=1e-4))


def test_frozen_tensors_leave_the_gradient_of_the_others():
    net = network()
    for name, parameter in net.named_parameters():
        if name.endswith("bias") and "adaLN" in name:
            parameter.requires_grad_(False)
        else:
            parameter.grad = torch.ones_like(parameter)
    found = recorded(net, noise)
    assert found["gate"].gradient_norm == pytest.approx(rows(net, "GATE").numel() ** 0.5)
    assert found["gate bias"].gradient_norm is None


def test_float64_weights_are_compared_as_they_are():
    net = network().double()
    found = recorded(net, lambda parameter: parameter.mul_(1 + 1e-12))
    assert found["gate"].moved == 1.0
    assert found["gate"].update_ratio == pytest.approx(1e-12, rel=1e-3)


def test_sites_of_unlike_width_count_by_all_their_entries(monkeypatch):
    monkeypatch.setattr(role_updates, "KEPT_ENTRIES", 256)
    net = network("torch-default", MODELS["U-DiT-tiny"])
    before = rows(net, "GATE")
    found = recorded(net, lambda parameter: parameter.add_(1e-3))["gate"]
    after = rows(net, "GATE")
    assert found.moments.elements < after.numel() / 2  # the widths weigh 64 to 1
    assert found.moments.std == pytest.approx(float(after.std()), rel=0.02)
    assert found.update_ratio == pytest.approx(float(1e-3 * before.numel() ** 0.5 / before.norm()), rel=0.02)
    assert found.histogram.elements == found.moments.elements


@pytest.mark.parametrize(("rows", "width", "kept"), [(0, 8, 2), (1, 5, 3), (12, 8, 2), (16, 64, 4), (1152, 1152, 2)])
def test_as_many_of_every_channel_and_column_are_kept(rows, width, kept):
    at = places(rows, width, kept, torch.device("cpu"))
    assert len(set(at.tolist())) == rows * kept
    assert (at // width).bincount(minlength=rows).tolist() == [kept] * rows
    columns = (at % width).bincount(minlength=width)
    assert not rows or columns.max() - columns.min() <= 1


def test_channels_that_differ_count_alike():
    net = network(config=DiTConfig(64, 1, 2, 4))
    spread = torch.exp(0.7 * torch.randn(64, 1, generator=generator("channels")))
    with torch.no_grad():
        for _, matrix in (pair for pair in net.named_parameters() if pair[1].shape == (6 * 64, 64)):
            matrix.copy_(spread.repeat(6, 1) * torch.randn(6 * 64, 64, generator=generator("entries")))
    sites = watched_sites(net, find_layout(net))
    kept = [entries for site, entries in zip(sites, entries_of(sites).each(), strict=True) if site.width > 1]
    assert kept[0].numel() == 64 * 32 < 64 * 64
    assert float(kept[0].std() / rows(net, "SHIFT").std()) == pytest.approx(1, abs=0.05)


def test_one_channel_alone_is_seen(monkeypatch):
    monkeypatch.setattr(role_updates, "KEPT_ENTRIES", 16)  # one of each row
    net = network()

    def change(parameter):
        if parameter.shape == (96, 16):
            parameter[32 + 5] += 1.0  # of the first branch's gate

    found = recorded(net, change)["gate"]
    assert found.moments.elements == 4 * 16
    assert found.moved == pytest.approx(2 / 64) and found.moments.high > 1.9


def test_entries_beyond_what_float32_counts_are_counted():
    before = {name: tensor.detach().clone() for name, tensor in network().named_parameters()}
    before["blocks.0.mlp.fc1.weight"] = torch.ones(40_000_001)
    after = before | {"blocks.0.mlp.fc1.weight": torch.full((40_000_001,), 2.0)}
    _, moved, _ = updates_by_role(before, after)["backbone"]
    assert moved == pytest.approx(1.0, rel=1e-3)  # the other few thousand did not move
