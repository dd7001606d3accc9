"""Table 1 on every network: not only some but every part of one name opens at the same iteration."""

from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from adaln.analysis.paper_names import paper_names
from adaln.conditioning import SCHEMES, measure_order
from adaln.models import MODELS, ModelConfig, UDiTConfig, build
from adaln.processes import PROCESSES
from adaln.rng import generator
from helpers.networks import DIGITS

TABLE_1 = {"W_f": 1, "W_pat": 2, "W_gf": 2, "W_bf": 2, "W_a1": 2, "W_a2": 2} | dict.fromkeys(
    ["W_ffm", "W_att", "W_g1", "W_b1", "W_g2", "W_b2", "timestep embedder", "label embedder"], 3
)
"""First iteration at which each weight moves under adaLN-Zero; the embedders are ours."""
BEYOND_TABLE_1 = {"U-DiT-tiny": {"other": 2}, "tiny-SE": {"other": 3}, "SiT-tiny-SE": {"other": 3}}
"""Convolutions on U-DiT's residual path, past all gates; the squeeze behind a map that starts at zero."""


def measured(config: ModelConfig) -> dict[str, set[int | None]]:
    """{the paper's name: iterations at which its parts open}."""
    process = PROCESSES["ddpm" if config.outputs_per_channel == 2 else "linear-velocity"].build()
    model = build(config, DIGITS, generator("order"))
    x, y = torch.randn(8, 1, 8, 8, generator=generator("x")), torch.arange(8)

    def loss(m, i):
        return process.loss(m, x, y, *process.draw(x.shape, generator("loss", i))).mean()

    order = measure_order(model, SCHEMES["adaln-zero"], loss)
    names, found = paper_names(dict(model.named_parameters())), defaultdict(set)
    for part, opens in order.items():
        found[names[part]].add(None if opens is None else opens + 1)
    return dict(found)


@pytest.mark.parametrize("name", [name for name in MODELS if "tiny" in name])
def test_every_block_level_and_unit_follows_table_1(name: str):
    expected = TABLE_1 | BEYOND_TABLE_1.get(name, {})
    assert measured(MODELS[name]) == {weight: {iteration} for weight, iteration in expected.items()}


@pytest.mark.slow
@pytest.mark.parametrize("config", [replace(MODELS["tiny"], depth=28), UDiTConfig(16, 4)], ids=["DiT", "U-DiT"])
def test_networks_of_published_depth_follow_it_too(config: ModelConfig):
    expected = TABLE_1 | (BEYOND_TABLE_1["U-DiT-tiny"] if isinstance(config, UDiTConfig) else {})
    assert measured(config) == {weight: {iteration} for weight, iteration in expected.items()}
