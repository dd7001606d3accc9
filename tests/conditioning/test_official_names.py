"""Official names against diffusers' names of the same networks: its own converters must carry each role to itself."""

import re

import pytest
import torch
from diffusers.loaders import single_file_utils as converters
from torch import Tensor

from adaln.conditioning import FAMILIES, find_layout
from adaln.conditioning.family import Layer, alternatives, chunks


def from_comfyui(checkpoint):
    """HunyuanVideo under Flux's words, as ComfyUI saves it."""
    official = {name.replace(".lin.", ".linear."): tensor for name, tensor in checkpoint.items()}
    return converters.convert_hunyuan_video_transformer_to_diffusers(official)


CONVERTED = {
    "Flux (BFL)": ("Flux", converters.convert_flux_transformer_checkpoint_to_diffusers),
    "Flux.2 (BFL)": ("Flux.2", converters.convert_flux2_transformer_checkpoint_to_diffusers),
    "Flux.3 (BFL)": ("Flux.3", converters.convert_flux3_transformer_checkpoint_to_diffusers),
    "HunyuanVideo (official)": ("HunyuanVideo", converters.convert_hunyuan_video_transformer_to_diffusers),
    "HunyuanVideo (ComfyUI)": ("HunyuanVideo", from_comfyui),
    "SD3 (official)": ("SD3", converters.convert_sd3_transformer_checkpoint_to_diffusers),
    "AuraFlow (official)": ("AuraFlow", converters.convert_auraflow_transformer_checkpoint_to_diffusers),
    "Mochi (official)": ("Mochi", converters.convert_mochi_transformer_checkpoint_to_diffusers),
    "Wan (official)": ("Wan", converters.convert_wan_transformer_to_diffusers),
    "Wan Animate 2 (official)": ("Wan (official)", converters.convert_wan_animate_2_transformer_to_diffusers),
    "PixArt (official)": ("Sana", converters.convert_sana_transformer_to_diffusers),
    "LTX (official)": ("LTX", converters.convert_ltx_transformer_checkpoint_to_diffusers),
    "LTX-2 (official)": ("LTX-2", converters.convert_ltx2_transformer_to_diffusers),
    "Krea 2 (official)": ("Krea 2", converters.convert_krea2_transformer_checkpoint_to_diffusers),
    "Lumina 2 (official)": ("Lumina 2", converters.convert_lumina2_to_diffusers),
    "Z-Image (ComfyUI)": ("Z-Image", converters.convert_z_image_transformer_checkpoint_to_diffusers),
    "MiniMax-H3 (official)": (
        "MiniMax-H3",
        lambda tensors: converters.convert_minimax_h3_transformer_checkpoint_to_diffusers(dict(tensors), config={}),
    ),
    "Cosmos (official)": (
        "Cosmos",
        lambda tensors: converters.convert_cosmos_transformer_checkpoint_to_diffusers(dict(tensors)),
    ),
}
NUM_BLOCKS = {"Mochi (official)": 48}
"""Where a converter counts on the released network's."""
SIGNS = {"LTX (official)": "patchify_proj.weight"}
"""What must be there besides."""
PLACES = {"Cosmos (official)": "2"}
"""Of the last matrix in its sequence, where it is not the only one."""
NUM_ROWS = 3840
"""Of the attention's matrices: a converter takes no other number."""
ZEROS = torch.zeros(1, 1).expand(7 * 3072, 1)
"""As many rows as Flux's first linear layers have in blocks of one stream, which its converter counts on."""


class Checkpoint(dict[str, Tensor]):
    """Tensors by name; what is asked for and is not there is zeros, and a name of `others`."""

    def __init__(self, tensors=()):
        super().__init__(tensors)
        self.others = set()

    def pop(self, name, *_):
        return super().pop(name) if name in self else self[name]

    def __missing__(self, name):
        self.others.add(name)
        return ZEROS


def numbered_chunks(family: str) -> Checkpoint:
    """Every modulation layer of a network of few blocks, each chunk filled with a number of its own.

    Of two lines with one name the second one is the last block's.
    """
    lines: dict[str, list[Layer]] = {}
    for layer in FAMILIES[family].layers:
        for name in alternatives(layer.name.replace("*", PLACES.get(family, "1"))):
            lines.setdefault(name, []).append(layer)
    tensors, number, num_blocks = Checkpoint(), 1, NUM_BLOCKS.get(family, 2)
    if family in SIGNS:
        tensors[SIGNS[family]] = torch.full((6, 2), -1.0)
    for pattern, (first, *_, last) in ((pattern, (layers[0], *layers)) for pattern, layers in lines.items()):
        for block in range(num_blocks) if ".N" in pattern else [0]:
            layer, name = last if block == num_blocks - 1 else first, pattern.replace(".N", f".{block}")
            numbers = torch.arange(number, number := number + len(chunks(layer.rows))).float()
            if layer.path == "table":
                tensors[name] = torch.stack([numbers, numbers], dim=1)
                continue
            tensors[f"{name}.weight"] = numbers.repeat_interleave(2)[:, None].expand(-1, 2).clone()
            if layer.width_of:
                word = layer.width_of.split()[0]
                inside = re.match(r".*?\.\d+", name)[0] if word.startswith(".") else ""
                tensors[f"{inside}{word}.weight"] = torch.full((NUM_ROWS, 2), -1.0)
    return tensors


def roles(tensors: dict[str, Tensor], family: str) -> dict[float, tuple]:
    """Branch, role and value function by the number of a chunk."""
    read = {}
    for site in find_layout(tensors, family).sites:
        (number,) = tensors[site.tensors()[0]][site.rows].unique().tolist()
        read[number] = site.branch, site.role, site.function
    return read


@pytest.mark.parametrize("official", CONVERTED)
def test_a_converter_carries_every_row_to_a_row_of_the_same_role(official):
    family, convert = CONVERTED[official]
    tensors = numbered_chunks(official)
    checkpoint = Checkpoint(tensors)
    converted = {name: tensor for name, tensor in convert(checkpoint).items() if tensor.any()}
    weights = {name: tensors.get(f"{name.removesuffix('bias')}weight", torch.zeros(4, 4)) for name in checkpoint.others}
    others = {name: torch.zeros(len(weights[name]) if name.endswith("bias") else (4, 4)) for name in checkpoint.others}
    whole = tensors | others  # with whatever else the network has
    assert find_layout(whole).family_name == official
    by_number = roles(whole, official)
    assert len(by_number) == len({number for tensor in tensors.values() for number in tensor.unique().tolist()} - {-1})
    assert roles(converted, family) == by_number


SIX, TWO = (6 * 4, 4), (2 * 4, 4)
DIT = {"blocks.0.adaLN_modulation.1": SIX, "final_layer.adaLN_modulation.1": TWO}
KEEP_NAMES = {
    "REPA": ("DiT", {**DIT, "projectors.0.0": (8, 4), "projectors.0.2": (8, 8)}),
    "DDT": ("DiT", {"blocks.0.adaLN_modulation.0": SIX, "final_layer.adaLN_modulation.0": TWO}),
    "RAE with DDT's head": ("DiT", {**DIT, "blocks.1.adaLN_modulation.1": (6 * 5, 5), "s_projector": (5, 4)}),
    "MDTv2": (
        "MDT",
        {
            "en_inblocks.0.adaLN_modulation.1": SIX,
            "en_outblocks.0.adaLN_modulation.1": SIX,
            "sideblocks.0.adaLN_modulation.1": SIX,
            "de_blocks.0.adaLN_modulation.1": SIX,
            "final_layer.adaLN_modulation.1": TWO,
        },
    ),
    "VAR": ("VAR", {"blocks.0.ada_lin.1": SIX, "head_nm.ada_lin.1": TWO}),
}
"""By the name of a network the family whose names its code keeps, and shapes of its layers."""


@pytest.mark.parametrize("name", KEEP_NAMES)
def test_a_network_that_keeps_the_names_of_another_is_read_as_that(name):
    family, shapes = KEEP_NAMES[name]
    layout = find_layout({f"{layer}.weight": torch.zeros(shape) for layer, shape in shapes.items()})
    assert layout.family_name == family and not layout.unread
    assert {site.weight for site in layout.sites} == {f"{layer}.weight" for layer in shapes if ".ada" in layer}


PUBLISHED = {
    "SkyReels-V2 (official)": {
        "time_projection.1.weight": SIX,
        "fps_projection.0.weight": (4, 4),
        "fps_projection.2.weight": SIX,
        "blocks.0.modulation": (1, 6, 4),
        "head.modulation": (1, 2, 4),
    },
    "LTX-2.3 (official)": {
        "model.diffusion_model.adaln_single.linear.weight": (9 * 8, 8),
        "model.diffusion_model.audio_adaln_single.linear.weight": (9 * 4, 4),
        "model.diffusion_model.av_ca_video_scale_shift_adaln_single.linear.weight": (4 * 8, 8),
        "model.diffusion_model.av_ca_audio_scale_shift_adaln_single.linear.weight": (4 * 4, 4),
        "model.diffusion_model.av_ca_a2v_gate_adaln_single.linear.weight": (8, 8),
        "model.diffusion_model.av_ca_v2a_gate_adaln_single.linear.weight": (4, 4),
        "model.diffusion_model.prompt_adaln_single.linear.weight": (2 * 8, 8),
        "model.diffusion_model.audio_prompt_adaln_single.linear.weight": (2 * 4, 4),
        "model.diffusion_model.transformer_blocks.0.scale_shift_table": (9, 8),
        "model.diffusion_model.transformer_blocks.0.audio_scale_shift_table": (9, 4),
        "model.diffusion_model.transformer_blocks.0.prompt_scale_shift_table": (2, 8),
        "model.diffusion_model.transformer_blocks.0.audio_prompt_scale_shift_table": (2, 4),
        "model.diffusion_model.transformer_blocks.0.scale_shift_table_a2v_ca_video": (5, 8),
        "model.diffusion_model.transformer_blocks.0.scale_shift_table_a2v_ca_audio": (5, 4),
        "model.diffusion_model.scale_shift_table": (2, 8),
        "model.diffusion_model.audio_scale_shift_table": (2, 4),
    },
    "ACE-Step 1 (official)": {
        "t_block.1.weight": SIX,
        "transformer_blocks.0.scale_shift_table": (6, 4),
        "final_layer.scale_shift_table": (2, 4),
    },
    "ACE-Step": {
        "decoder.time_embed.time_proj.weight": SIX,
        "decoder.time_embed_r.time_proj.weight": SIX,
        "decoder.layers.0.scale_shift_table": (1, 6, 4),
        "decoder.scale_shift_table": (1, 2, 4),
    },
    "Stable Audio 3 (official)": {
        "model.model.transformer.global_cond_embedder.0.weight": (4, 4),
        "model.model.transformer.global_cond_embedder.2.weight": SIX,
        "model.model.transformer.layers.0.to_scale_shift_gate": (6 * 4,),
    },
}
"""By family the modulation of files that diffusers has no converter for, as they name it."""


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_file_is_read_by_its_names(family):
    layout = find_layout({name: torch.zeros(shape) for name, shape in PUBLISHED[family].items()})
    assert layout.family_name == family
    squeezes = {name for name in PUBLISHED[family] if name.endswith(".0.weight")}
    assert {name for site in layout.sites for name in site.tensors()} == PUBLISHED[family].keys() - squeezes


def test_the_tables_of_var_have_two_leading_dimensions_of_one():
    tensors = {"shared_ada_lin.1.weight": torch.zeros(SIX), "head_nm.ada_lin.1.weight": torch.zeros(TWO)}
    sites = find_layout(tensors | {"blocks.0.ada_gss": torch.zeros(1, 1, 6, 4)}).sites
    assert [(site.bias, site.role.name) for site in sites[6:12:2]] == [
        ("blocks.0.ada_gss", role) for role in ("GATE", "SCALE", "SHIFT")
    ]
