"""The paper's figures from any snapshots, and the tables beside them."""

import re
from dataclasses import replace
from math import e, log, pi

import pytest
import torch

from adaln.analysis import Group, Recorder
from adaln.analysis.fit import ROLES
from adaln.analysis.recorder import observe
from adaln.conditioning import SCHEMES, Normal, Scheme, Start, initialise
from adaln.models import DiTConfig, build
from adaln.report import Histograms, Lines
from adaln.rng import generator
from adaln.runs import Run
from adaln.tensor_files import save_tensors
from adaln.training import train
from adaln.views.distributions import (
    difference_tables,
    distributions_section,
    entropy_table,
    shape_table,
    std_over_blocks,
)
from adaln.views.figures import PAPER_FIGURES, role_histograms
from adaln.views.snapshots import open_snapshots, snapshot, snapshots_of_run
from helpers.mechanisms import EVERY_MECHANISM
from helpers.networks import DIGITS


def weights(scheme="adaln-gaussian", depth=3, width=32, seed=0):
    """The weights of a fresh small network, detached."""
    net = build(DiTConfig(width, depth, 2, 2), DIGITS, generator("figures", seed))
    initialise(net, SCHEMES[scheme] if isinstance(scheme, str) else scheme, generator("figures", "scheme", seed))
    return {name: tensor.detach() for name, tensor in net.named_parameters()}


def two_runs():
    """Two models at two steps each, with everything that any figure shows."""
    zero_convolution = {"controlnet_mid_block.weight": 1e-3 * torch.randn(32, 32, generator=generator("control"))}
    return [
        snapshot(name, step, weights(scheme, seed=step) | zero_convolution)
        for name, scheme in (("a", "adaln-gaussian"), ("b", "adaln-gaussian-v2"))
        for step in (100, 1000)
    ]


SNAPSHOTS = two_runs()


@pytest.mark.parametrize("name", PAPER_FIGURES)
def test_every_figure_shows_every_model_with_its_count_and_its_bins(name):
    figure = PAPER_FIGURES[name].draw(SNAPSHOTS)
    assert "n = " in figure.caption
    if isinstance(figure, Histograms):
        titles = [*(panel.title for panel in figure.panels), *(r.label for p in figure.panels for r in p.ridges)]
        assert all(any(re.search(rf"\b{source}\b", title) for title in titles) for source in "ab")
        assert all(sum(ridge.counts) > 0 for panel in figure.panels for ridge in panel.ridges)
    else:
        assert {"a", "b"} <= {word for series in figure.series for word in series.name.split()[:2]}


@pytest.mark.parametrize("name", PAPER_FIGURES)
def test_a_figure_says_in_one_line_what_it_did_not_find(name):
    bare = snapshot("bare", 1, {"x_embedder.proj.weight": torch.randn(8, 1, 2, 2)})
    if name == "figure18":  # the one thing that it has
        assert PAPER_FIGURES[name].draw([bare]).panels
    else:
        with pytest.raises(ValueError, match=r"bare"):
            PAPER_FIGURES[name].draw([bare])


def test_histograms_hold_every_value_that_lies_within_five_std():
    figure = PAPER_FIGURES["figure4"].draw(SNAPSHOTS)
    values = torch.cat([tensor[rows].flatten() for tensor, rows in gate_rows(SNAPSHOTS[1].tensors)])
    (panel,) = [panel for panel in figure.panels if panel.title == "a"]
    ridge = panel.ridges[1]
    inside = (values >= ridge.edges[0]) & (values < ridge.edges[-1])
    assert ridge.label == "step 1,000" and sum(ridge.counts) == int(inside.sum())
    assert ridge.note == f"std {float(values.double().std(correction=0)):.1e}"


def gate_rows(tensors):
    from adaln.conditioning import Role, find_sites

    return [(tensors[site.weight], site.rows) for site in find_sites(tensors) if site.role is Role.GATE]


@pytest.mark.slow
def test_blocks_stand_in_forward_order_though_files_sort_their_names(tmp_path):
    save_tensors(tmp_path / "deep.safetensors", weights(depth=12, width=16))
    figure = PAPER_FIGURES["figure6"].draw(open_snapshots(tmp_path / "deep.safetensors"))
    assert [panel.title for panel in figure.panels] == [f"blocks.{i}" for i in range(12)]


def test_entropy_is_that_of_a_gaussian_within_its_stated_error_and_a_gap_where_all_values_are_alike():
    snapshots = [snapshot("g", 10, weights(width=64)), snapshot("g", 0, weights("adaln-zero"))]
    figure = PAPER_FIGURES["figure5"].draw(snapshots)
    (series,) = figure.series
    assert series.y[1] is None
    found = snapshots[0].view("gate").summary.entropy
    assert series.y[0] == found.nats
    assert abs(found.nats - 0.5 * log(2 * pi * e * 1e-6)) < 4 * found.standard_error + found.bias
    assert found.estimator in figure.caption and found.bins in figure.caption


@pytest.mark.slow
def test_figure_22_recovers_known_peaks_and_adds_the_papers_polynomials_for_its_28_blocks():
    stds = [1e-3 * (1 + block / 28) for block in range(28)]
    blockwise = tuple(Start(Normal(std)) for std in stds)
    tensors = weights(
        Scheme("known", gate=blockwise, scale=blockwise, shift=blockwise), depth=28, width=128
    )  # peaks to 1 %
    figure = PAPER_FIGURES["figure22"].draw([snapshot("known", 1, tensors)])
    by_name = {series.name: series.y for series in figure.series}
    assert set(by_name) == {f"{letter} {what}" for letter in "αγβ" for what in ("measured", "smoothed", "paper")}
    mean_peak = sum(1 / std for std in stds) / 28
    for letter in "αγβ":
        assert by_name[f"{letter} smoothed"] == pytest.approx([1 / std / mean_peak for std in stds], rel=0.05)
    published = SCHEMES["adaln-gaussian-blockwise"].gate
    assert by_name["α paper"][0] / by_name["α paper"][9] == pytest.approx(
        published[9].weight.std / published[0].weight.std
    )


def test_figures_19_to_21_compare_files_without_steps():
    files = [replace(s, step=None) for s in SNAPSHOTS[::2]]
    assert [panel.title for panel in PAPER_FIGURES["figure19"].draw(files).panels] == ["label", "timestep"]
    panels = PAPER_FIGURES["figure20"].draw(files).panels
    assert [(panel.title, len(panel.ridges)) for panel in panels] == [("a", 1), ("b", 1)], "a panel for each network"
    with pytest.raises(ValueError, match=r"two sources or more, got \['a'\]"):
        PAPER_FIGURES["figure21"].draw(files[:1])


def test_tables_name_values_that_are_not_finite():
    tensors = weights()
    tensors["blocks.1.adaLN_modulation.1.weight"] = tensors["blocks.1.adaLN_modulation.1.weight"].clone()
    tensors["blocks.1.adaLN_modulation.1.weight"][:3, 0] = torch.tensor([float("nan"), float("inf"), float("nan")])
    table = shape_table([snapshot("sick", None, tensors)], "block")
    assert [note for note in table.notes if "NaN" in note] == [
        "sick: the shift of blocks.1 holds 2 NaN and 1 infinite values, which are not in these numbers."
    ]
    (row,) = [row for row in table.rows if row[:2] == ["shift", "blocks.1"]]
    assert table.title.endswith(" of sick") and row[2] == 2 * 32 * 32 - 3


def test_every_entropy_is_printed_with_its_interval_estimator_and_bins():
    table = entropy_table(SNAPSHOTS[:1], "role")
    cells = {row[0]: row[1:] for row in table.rows}
    found = SNAPSHOTS[0].view("gate").summary
    assert cells["gate"][0].value == found.entropy.nats and cells["gate"][0].low < found.entropy.nats
    assert cells["gate"][2] == found.entropy.bins
    assert any(found.entropy.estimator in note and found.histogram_entropy.bins in note for note in table.notes)


def test_differences_are_those_of_the_values_between_checkpoints_and_between_models():
    moved, apart = difference_tables(SNAPSHOTS, "role")
    first, second, other = (SNAPSHOTS[i].tensors for i in (0, 1, 3))
    head = "final_layer.linear.weight"
    assert {row[1]: row[2] for row in moved.rows if row[0] == "a"}["final head"] == 0.0  # zero in both
    (gate,) = [row for row in moved.rows if row[:2] == ["a", "gate"]]
    assert gate[2] == pytest.approx(mean_gap(first, second))
    (gate,) = [row for row in apart.rows if row[2] == "gate"]
    assert gate[3] == pytest.approx(mean_gap(second, other))
    assert moved.columns[2].name == "100 → 1,000" and head in first


def mean_gap(a, b):
    gaps = [(x[rows] - y[rows]).abs().flatten() for (x, rows), (y, _) in zip(gate_rows(a), gate_rows(b), strict=True)]
    return float(torch.cat(gaps).double().mean())


def test_models_of_other_shapes_are_looked_at_but_not_subtracted():
    snapshots = [snapshot("wide", None, weights()), snapshot("narrow", None, weights(width=16))]
    assert difference_tables(snapshots, "role") == []
    assert {row[0] for row in shape_table(snapshots, "role").rows} == {"wide", "narrow"}


@pytest.mark.parametrize("by", ["role", "block", "branch"])
def test_a_section_has_its_groups_and_no_others(by):
    section = distributions_section(SNAPSHOTS, by)
    titles = [block.title for block in section.blocks if isinstance(block, Histograms | Lines)]
    if by == "role":
        assert len(titles) == len([f for f in PAPER_FIGURES.values() if not f.by_block]) + 2  # entropies of γ and β
    else:
        assert len(titles) == {"block": len(ROLES) + 2, "branch": len(ROLES)}[by]
    assert len(set(titles)) == len(titles)


def test_std_over_blocks_is_that_of_each_block_in_forward_order_with_gaps_for_zeros():
    stds = (1e-3, 4e-3, 2e-3)
    tensors = weights(Scheme("known", gate=tuple(Start(Normal(std)) for std in stds)), width=64)
    series = {line.name: line.y for line in std_over_blocks([snapshot("known", None, tensors)]).series}
    assert series["α"] == pytest.approx(stds, rel=0.05) and series["β"] == [None] * 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from adaln.config import digits

    config = replace(
        digits(), name="small", model=DiTConfig(16, 2, 2, 2), batch_size=8, steps=8, checkpoint_every=4,
        keep_checkpoints=0, log_every=2,
    )  # fmt: skip
    torch.set_num_threads(1)
    run = Run.create(config, tmp_path_factory.mktemp("runs"))
    train(run, [Recorder(run.path / "analysis" / "roles.jsonl")])
    return run


@pytest.mark.slow
def test_a_run_is_seen_through_its_recordings_before_and_its_checkpoints_after(run):
    found = snapshots_of_run(run)
    assert [s.step for s in found] == [0, 1, 2, 4, 8]
    assert [s.tensors is not None for s in found] == [False] * 3 + [True] * 2
    assert found[0].view("gate").moments.zero_share == 1.0 and found[0].view("attention") is None
    assert Group("attention") in found[-1].views
    assert [s.step for s in snapshots_of_run(run, weights="ema")] == [4, 8]
    assert [s.step for s in snapshots_of_run(run, steps=[8, 5])] == [5, 8]


def test_a_step_that_is_not_there_is_one_line_with_those_that_are(run):
    with pytest.raises(
        ValueError, match=r"no weights at step 7; it has checkpoints at \[4, 8\] and recordings at \[0,"
    ):
        snapshots_of_run(run, steps=[7, 8])
    with pytest.raises(ValueError, match=r"recordings at none"):
        snapshots_of_run(run, steps=[2], weights="ema")


def test_a_file_that_holds_nothing_known_is_named(tmp_path):
    save_tensors(tmp_path / "other.safetensors", {"conv.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"'other' holds no values of a known group"):
        open_snapshots(tmp_path / "other.safetensors")


def test_a_role_that_no_run_has_has_no_figure_and_a_run_without_it_no_panel():
    names = (
        "DiT, shift False",
        "DiT, modulation in-context, gate static, class_tokens 2, time_tokens 1",
        "DiT, gate tanh",
    )
    recordings = {
        name: observe(0, dict(build(EVERY_MECHANISM[name], DIGITS, generator("figures")).named_parameters()))
        for name in names
    }
    panels = [
        [[panel.title for panel in figure.panels] for figure in role_histograms(kept, [0], 0)]
        for kept in ({name: recordings[name] for name in chosen} for chosen in (names[:2], names))
    ]
    assert panels == [[[names[0]], [names[0]]], [[names[0], names[2]], [names[0], names[2]], [names[2]]]]
