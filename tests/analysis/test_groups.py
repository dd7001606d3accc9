from collections import Counter

import pytest
import torch

from adaln.analysis.groups import Group, grouped_rows
from adaln.conditioning import Role, find_sites
from adaln.conditioning.family import GROUPS
from adaln.models import MODELS, build
from adaln.types import DataSpec

SPEC = DataSpec(channels=4, height=16, width=16, num_classes=10)
SMALL = [name for name in MODELS if "tiny" in name]


def parameters_of(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(build(MODELS[name], SPEC, torch.Generator()).named_parameters())


@pytest.mark.parametrize("name", SMALL)
def test_role_groups_hold_every_row_of_every_site_once_for_all_blocks_and_once_per_block(name):
    tensors = parameters_of(name)
    expected = sum(tensors[t][site.rows].numel() for site in find_sites(tensors) for t in site.tensors())
    roles = {
        f"{final}{role.name.lower()}{kind}"
        for role in Role
        for final in ("", "final ")
        for kind in ("", " bias", " table")
    }
    rows: Counter[str] = Counter()
    for piece in grouped_rows(tensors):
        for group in piece.groups:
            if group.name in roles:
                span = "all" if group.block is None else "block" if group.branch is None else "branch"
                rows[span] += tensors[piece.tensor][piece.rows].numel()
    final = sum(tensors[t].numel() for t in tensors if t.startswith("final_layer.adaLN"))
    assert rows["all"] == expected
    assert rows["block"] == expected - final


@pytest.mark.parametrize("name", SMALL)
def test_every_module_that_the_paper_shows_is_found_in_every_family(name):
    found = {group.name for piece in grouped_rows(parameters_of(name)) for group in piece.groups}
    assert set(GROUPS) - {"ControlNet zero convolution"} <= found


@pytest.mark.parametrize("name", SMALL)
def test_no_matrix_of_attention_or_mlp_is_forgotten_or_counted_twice(name):
    tensors = parameters_of(name)
    counted = Counter(piece.tensor for piece in grouped_rows(tensors) if piece.groups[0].name in GROUPS)
    assert set(counted.values()) == {1}
    matrices = {n for n, t in tensors.items() if t.ndim >= 2 and n.endswith("weight") and (".attn" in n or ".mlp" in n)}
    assert {n for n in matrices - counted.keys() if "dwconv" not in n and "downsampler" not in n} == set()


def test_zero_convolutions_of_both_controlnet_layouts_are_found():
    names = ["controlnet_down_blocks.3.weight", "controlnet_mid_block.weight", "control_model.zero_convs.2.0.weight"]
    tensors = {name: torch.zeros(4, 4, 1, 1) for name in names}
    assert sorted(p.tensor for p in grouped_rows(tensors)) == sorted(names)
    assert {p.groups for p in grouped_rows(tensors)} == {(Group("ControlNet zero convolution"),)}


def test_modules_are_found_under_the_names_of_diffusers():
    names = {
        "transformer_blocks.0.attn1.to_q.weight": "attention",
        "transformer_blocks.0.attn1.to_out.0.weight": "attention",
        "transformer_blocks.0.attn.add_q_proj.weight": "attention",
        "transformer_blocks.0.attn.to_add_out.weight": "attention",
        "transformer_blocks.0.ff.net.0.proj.weight": "MLP fc1",
        "transformer_blocks.0.ff_context.net.2.weight": "MLP fc2",
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1.weight": "timestep embedder",
        "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight": "label embedder",
        "pos_embed.proj.weight": "patch embedder",
    }
    found = {piece.tensor: piece.groups[0].name for piece in grouped_rows({name: torch.zeros(2, 2) for name in names})}
    assert found == names


def test_tables_of_a_shared_modulation_are_kept_apart_from_matrices():
    names = {group.name for piece in grouped_rows(parameters_of("tiny-shared")) for group in piece.groups}
    assert {"gate", "gate bias", "gate table"} <= names


@pytest.mark.parametrize("name", SMALL)
def test_the_last_projection_is_a_group_of_its_own(name):
    found = [piece.tensor for piece in grouped_rows(parameters_of(name)) if piece.groups == (Group("final head"),)]
    assert found in (["final_layer.linear.weight"], ["final_layer.out_proj.weight"])
