import re

import pytest
import torch

import adaln
from adaln.conditioning import UnknownLayout, find_layout
from helpers.zoo import UNMODULATED, zoo_network


@pytest.mark.filterwarnings("ignore::FutureWarning")  # diffusers' own
@pytest.mark.parametrize("name", UNMODULATED)
def test_a_network_without_modulation_is_known_by_its_class_and_no_name_in_it_is_suspicious(name):
    model = zoo_network(name)
    layout = find_layout(model)
    assert layout.family_name and not layout.sites
    assert not find_layout(dict(model.named_parameters())).sites


def test_experts_in_one_tensor_are_of_the_backbone_and_end_a_branch():
    layout = find_layout(zoo_network("NucleusMoEImageTransformer2DModel"))
    experts = "transformer_blocks.3.img_mlp.experts."
    assert {f"{experts}gate_up_proj", f"{experts}down_proj"} <= set(layout.backbone)
    assert f"{experts}down_proj" in layout.branch_ends and f"{experts}gate_up_proj" not in layout.branch_ends


# What may be modulation is never passed over

BACKBONE = {
    f"blocks.{i}.{name}.weight": torch.zeros(rows, columns)
    for i in range(3)
    for name, rows, columns in (("attn.qkv", 48, 16), ("attn.proj", 16, 16), ("mlp.fc1", 64, 16), ("mlp.fc2", 16, 64))
}
SIX_CHUNKS = {f"blocks.{i}.adaLN_modulation.1.weight": torch.zeros(96, 16) for i in range(3)}


STRANGE = """
    style affine to_cond cond t_mlp.1 time_mlp.1 adain AdaIN.fc conditioner conditioning.1 cond_net.1 hyper gates scales
    mapper dense cond_lin film mod_x gate_msa ada norm1.linear.inner ln_1.to_out.0 some.deep.name
"""
UNMISTAKABLE = """
    blocks.0.attn.q_norm.adaln t_embedder.adaLN_modulation.1 y_embedder.film blocks.0.context_embedder.modulation
    blocks.0.emb.modulation pos_embed_film blocks.0.position_modulation blocks.0.skip_gate
"""


@pytest.mark.parametrize("name", STRANGE.split())
def test_a_blocks_matrix_of_several_widths_is_suspicious_whatever_it_is_called(name):
    strange = {f"blocks.{i}.{name}.weight": torch.zeros(96, 16) for i in range(3)}
    for known in ({}, SIX_CHUNKS):
        with pytest.raises(UnknownLayout, match=re.escape(name)):
            find_layout({**BACKBONE, **known, **strange})


@pytest.mark.parametrize("name", UNMISTAKABLE.split())
def test_innocent_words_do_not_cover_unmistakable_ones(name):
    with pytest.raises(UnknownLayout, match=re.escape(name)):
        find_layout({**BACKBONE, **SIX_CHUNKS, f"{name}.weight": torch.zeros(32, 16)})


@pytest.mark.parametrize("name", ["blocks.0.registers", "pos_embed", "blocks.1.attn.q_norm.weight", "rope.freqs"])
def test_what_every_network_has_is_not_suspicious(name):
    assert find_layout({**BACKBONE, **SIX_CHUNKS, name: torch.zeros(4, 16)}).unread == ()


def test_layers_called_after_their_roles_are_suspicious():
    with pytest.raises(UnknownLayout, match=r"blocks\.0\.shift"):
        find_layout(
            {f"blocks.{i}.{n}.weight": torch.zeros(16, 16) for i in range(2) for n in ("shift", "scale", "gate")}
        )


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_block_without_its_modulation_is_refused_by_its_number(missing):
    tensors = {**BACKBONE, **SIX_CHUNKS}
    del tensors[f"blocks.{missing}.adaLN_modulation.1.weight"]
    with pytest.raises(UnknownLayout, match=rf"blocks\.{missing}\.adaLN_modulation.* is missing"):
        find_layout(tensors)
    assert "missing" in find_layout(tensors, allow_unread=True).unread[-1]


def test_tables_that_are_missing_in_every_block_are_missed():
    tensors = dict(zoo_network("WanTransformer3DModel").named_parameters())
    with pytest.raises(UnknownLayout, match="scale_shift_table is missing in every block"):
        find_layout({name: tensor for name, tensor in tensors.items() if not re.match(r"blocks.*table", name)})


def test_a_bias_of_another_length_is_no_modulation_layers():
    with pytest.raises(UnknownLayout, match="adaLN_modulation"):
        find_layout({**BACKBONE, **SIX_CHUNKS, "blocks.1.adaLN_modulation.1.bias": torch.zeros(80)})


def test_a_vector_under_a_matrix_name_is_refused():
    with pytest.raises(UnknownLayout, match="adaLN_modulation"):
        find_layout({"blocks.0.adaLN_modulation.1.weight": torch.zeros(96)})


def test_two_networks_of_different_families_are_two_prefixes():
    flux = dict(zoo_network("FluxTransformer2DModel").named_parameters())
    both = {f"a.{name}": t for name, t in {**BACKBONE, **SIX_CHUNKS}.items()} | {f"b.{n}": t for n, t in flux.items()}
    with pytest.raises(
        UnknownLayout, match=r"stand under '[ab]\.' and '[ab]\.'; expected one model: choose by --prefix"
    ):
        find_layout(both)


def test_a_network_whose_weights_are_packed_is_refused():
    packed = torch.nn.Linear(4, 4)
    packed._packed_params = None
    with pytest.raises(UnknownLayout, match="are packed"):
        find_layout(torch.nn.Sequential(packed))


def test_a_table_that_is_a_buffer_is_refused():
    network = zoo_network("PixArtTransformer2DModel")
    table = network.scale_shift_table.detach()
    del network.scale_shift_table
    network.register_buffer("scale_shift_table", table)
    with pytest.raises(UnknownLayout, match="'scale_shift_table' is a buffer"):
        find_layout(network)
    with pytest.raises(ValueError, match="'scale_shift_table' is a buffer"):
        adaln.initialise(network, "adaln-zero")


@pytest.mark.parametrize(
    ("name", "shape"), [("blocks.0.adaLN_modulation.1.weight", ()), ("blocks.0.scale_shift_table", ())]
)
def test_a_number_under_the_name_of_a_matrix_or_a_table_is_refused(name, shape):
    with pytest.raises(UnknownLayout, match=re.escape(name)):
        find_layout({name: torch.zeros(shape)})
