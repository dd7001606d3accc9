import re
from pathlib import Path

import pytest
import torch

import adaln
from adaln import registry
from adaln.conditioning import (
    FAMILIES,
    Family,
    Layer,
    Role,
    UnknownLayout,
    find_layout,
    find_sites,
)
from adaln.conditioning.family import chunks, name_pattern
from helpers.foreign import CONFIGS, foreign


def tensors_of(model):
    return dict(model.named_parameters())


def test_sites_partition_every_modulation_layer_exactly(any_model):
    tensors = tensors_of(any_model)
    claimed = {}
    for site in find_sites(tensors):
        for name in site.tensors():
            claimed.setdefault(name, []).append(site.rows)
    for name, slices in claimed.items():
        rows = [row for part in slices for row in range(part.start, part.stop)]
        assert sorted(rows) == list(range(tensors[name].shape[0])), name
    modulation = {name for name in tensors if "adaLN_modulation" in name or "scale_shift_table" in name}
    squeeze = modulation - claimed.keys()
    # all that is left unclaimed is the bottleneck that stands before the last matrix of the same path
    assert all(any(other.startswith(name.rsplit(".", 2)[0]) for other in claimed) for name in squeeze)


@pytest.mark.slow
def test_depth_is_the_place_in_the_forward_pass_not_the_order_of_names(any_model):
    tensors = tensors_of(any_model)
    shuffled = {name: tensors[name] for name in sorted(tensors, reverse=True)}
    assert find_sites(tensors) == find_sites(shuffled)
    called = []
    names = {site.weight or site.bias for site in find_sites(tensors)}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in any_model.named_modules()
        if f"{name}.weight" in names
    ]
    any_model(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    by_depth = dict.fromkeys(site.weight for site in find_sites(tensors) if site.weight)
    assert [f"{name}.weight" for name in called] == list(by_depth)


def test_twelve_blocks_are_not_sorted_as_text():
    tensors = {f"blocks.{i}.adaLN_modulation.1.weight": torch.zeros(12, 2) for i in range(12)}
    assert [site.block for site in find_sites(tensors)[::6]] == [f"blocks.{i}" for i in range(12)]


def test_dit_rows_are_shift_scale_gate_for_attention_then_mlp(model):
    first = [site for site in find_sites(tensors_of(model)) if site.block == "blocks.0"]
    assert [(site.branch, site.role) for site in first] == [
        (branch, role) for branch in ("attn", "mlp") for role in (Role.SHIFT, Role.SCALE, Role.GATE)
    ]
    final = find_sites(tensors_of(model))[-2:]
    assert [(site.block, site.role) for site in final] == [("final_layer", Role.SHIFT), ("final_layer", Role.SCALE)]


def test_gradients_and_partial_mappings_have_the_same_sites(model):
    tensors = tensors_of(model)
    only_modulation = {name: tensor for name, tensor in tensors.items() if "adaLN" in name}
    assert find_sites(only_modulation) == find_sites(tensors)


@pytest.mark.parametrize("rows", [5, 9])
def test_a_layer_of_another_chunk_count_is_refused_by_name(rows):
    with pytest.raises(
        UnknownLayout, match=r"blocks\.0\.adaLN_modulation\.1\.weight' has .* rows, expected 6 x 6 \(DiT"
    ):
        find_sites({"blocks.0.adaLN_modulation.1.weight": torch.zeros(rows * 6, 6)})


def test_an_unknown_place_for_a_modulation_layer_is_refused_by_name():
    with pytest.raises(UnknownLayout, match=r"tower\.0\.adaLN_modulation"):
        find_sites({"tower.0.adaLN_modulation.1.weight": torch.zeros(36, 6)})


def test_head_and_backbone_leave_conditioning_and_embedders_out(any_model):
    tensors = tensors_of(any_model)
    site_names = {name for site in find_sites(tensors) for name in site.tensors()}
    backbone, head = set(find_layout(tensors).backbone), set(find_layout(tensors).head)
    assert head and backbone
    assert not backbone & site_names and not head & (backbone | site_names)
    assert not any("embed" in name for name in backbone)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_family_says_all_that_is_asked_of_it(name):
    """Rows that parse, stages that its lines name, or why it has none; patterns that compile."""
    family = FAMILIES[name]
    assert set(family.stages) == {stage for layer in family.layers for stage in layer.stages}
    assert family.layers or family.generated_by or family.class_names
    for layer in family.layers:
        assert chunks(layer.rows)
        numbered = {"index"} if ".N." in layer.name else set()
        assert {"block", "stage"} | numbered <= set(name_pattern(layer).groupindex)
    for pattern in (*family.groups.values(), *family.paper_names.values()):
        re.compile(pattern)


def test_a_family_from_outside_is_a_row_of_words(monkeypatch):
    monkeypatch.setattr(FAMILIES, "_entries", dict(FAMILIES._entries))
    monkeypatch.setattr(registry, "_registered", {})
    layers = (
        Layer("shared_rows.*", "audio: scale shift gate(tanh)"),
        Layer("(early|late).N.role_table", "audio: scale shift gate(tanh)", "table"),
    )
    row = Family(layers, head="to_noise", inputs={"Sounds": lambda config, draw: {"x": draw.normal(config)}})
    adaln.register("family", "sounds", row)
    names = ("late.0.role_table", "early.1.role_table", "early.0.role_table")
    tensors = {name: torch.zeros(3, 8) for name in names}
    tensors |= {"to_noise.weight": torch.zeros(4, 8), "early.0.attn1.to_q.weight": torch.zeros(8, 8)}
    tensors |= {"shared_rows.1.weight": torch.zeros(24, 8)}
    for prefix in ("", "module."):
        sites = find_sites({prefix + name: tensor for name, tensor in tensors.items()})
        in_order = ["shared_rows", "early.0", "early.1", "late.0"]
        assert list(dict.fromkeys(site.block for site in sites)) == in_order
        assert [site.depth for site in sites] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        assert [(site.role, site.function) for site in sites[-2:]] == [(Role.SHIFT, ""), (Role.GATE, "tanh")]
    layout = find_layout(tensors)
    assert layout.family_name == "sounds"
    assert (layout.head, layout.backbone) == (["to_noise.weight"], ["early.0.attn1.to_q.weight"])


# The networks of diffusers


def family_of(name):
    words = {"DiT": "diffusers-DiT", "SD3.5": "SD3"}
    return words.get(name, name.removesuffix(" guided").removesuffix("-alpha").removesuffix("-sigma"))


@pytest.fixture(params=CONFIGS)
def foreign_name(request):
    return request.param


def test_sites_of_foreign_networks_partition_every_modulation_layer_exactly(foreign_name):
    tensors = tensors_of(foreign(foreign_name))
    claimed = {}
    for site in find_sites(tensors):
        for name in site.tensors():
            claimed.setdefault(name, []).extend(range(site.rows.start, site.rows.stop))
    assert all(sorted(rows) == list(range(tensors[name].shape[0])) for name, rows in claimed.items())
    looks_modulating = re.compile(
        r".*(norm\w*\.linear(_1)?|adaln_single\.linear|time_embed\.linear|proj_out_1)\.\w+|.*table"
    )
    assert set(claimed) == {
        name for name in tensors if looks_modulating.fullmatch(name) and "embedding_table" not in name
    }


def test_foreign_networks_are_told_apart_by_their_names(foreign_name):
    tensors = tensors_of(foreign(foreign_name))
    assert find_layout(tensors).family_name == family_of(foreign_name)
    assert find_sites(dict(sorted(tensors.items()))) == find_sites(tensors)


def test_heads_and_backbones_of_foreign_networks_are_found(foreign_name):
    model = foreign(foreign_name)
    tensors = tensors_of(model)
    site_names = {name for site in find_sites(tensors) for name in site.tensors()}
    head, backbone = find_layout(tensors).head, find_layout(tensors).backbone
    assert len({name.rpartition(".")[0] for name in head}) == 1  # one projection
    assert tensors[head[0]].shape[0] % model.config.in_channels == 0
    inner = {
        name for name, p in tensors.items() if re.search(r"\.\d+\.(attn|ff|feed_forward|proj_)", name) and p.ndim > 1
    }
    assert set(backbone) == inner
    assert not inner & (site_names | set(head))


# Ambiguity, wrappers, strangers


def four_chunks(width=6):
    return {
        "blocks.0.adaLN_modulation.1.weight": torch.zeros(4 * width, width),
        "final_layer.adaLN_modulation.1.weight": torch.zeros(2 * width, width),
    }


def test_four_chunks_fit_two_families_and_both_are_named():
    with pytest.raises(UnknownLayout, match="fit both 'LightningDiT-no-shift' and 'adaLN-no-gate'"):
        find_sites(four_chunks())


@pytest.mark.parametrize(
    ("family", "roles"),
    [
        ("LightningDiT-no-shift", [Role.SCALE, Role.GATE] * 2),
        ("adaLN-no-gate", [Role.SHIFT, Role.SCALE] * 2),
    ],
)
def test_naming_the_family_decides(family, roles):
    sites = find_sites(four_chunks(), family)
    assert [site.role for site in sites] == [*roles, Role.SHIFT, Role.SCALE]
    assert find_layout(four_chunks(), family).family_name == family


def test_a_named_family_that_does_not_fit_is_refused_by_its_rows():
    with pytest.raises(UnknownLayout, match=r"has 24 rows, expected 6 x 6 \(DiT\)"):
        find_sites(four_chunks(), "DiT")
    with pytest.raises(ValueError, match="nearest: 'LightningDiT-no-shift'"):
        find_sites(four_chunks(), "lightningdit-noshift")


def test_the_last_layer_alone_does_not_tell_scale_from_shift():
    tensors = {"norm_out.linear.weight": torch.zeros(12, 4), "proj_out.weight": torch.zeros(8, 6)}
    with pytest.raises(UnknownLayout, match="only the last layer is there, no layer of a block"):
        find_sites(tensors)


def test_width_comes_from_the_stream_where_the_condition_is_narrower():
    """Lumina 2 narrows c to min(D, 1024): rows over columns is not the number of chunks."""
    tensors = {
        "layers.0.norm1.linear.weight": torch.zeros(4 * 12, 6),
        "layers.0.attn.to_q.weight": torch.zeros(12, 12),
    }
    assert [site.rows for site in find_sites(tensors)] == [slice(i, i + 12) for i in range(0, 48, 12)]
    del tensors["layers.0.attn.to_q.weight"]  # then an even share of the rows
    assert [site.rows for site in find_sites(tensors)] == [slice(i, i + 12) for i in range(0, 48, 12)]


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["model.", "transformer.", "net.ema."])
@pytest.mark.parametrize("name", ["PixArt-sigma", "Lumina 2"])
def test_a_wrappers_prefix_changes_nothing_but_the_names_of_tensors(prefix, name):
    bare = tensors_of(foreign(name))
    wrapped = {prefix + key: value for key, value in bare.items()}
    assert find_layout(bare).prefix == "" and find_layout(wrapped).prefix == prefix
    assert find_layout(wrapped).family_name == find_layout(bare).family_name
    for inner, outer in zip(find_sites(bare), find_sites(wrapped), strict=True):
        assert outer.tensors() == tuple(prefix + key for key in inner.tensors())
        assert (outer.block, outer.depth, outer.role, outer.rows) == (inner.block, inner.depth, inner.role, inner.rows)
    assert find_layout(wrapped).head == [prefix + key for key in find_layout(bare).head]
    assert find_layout(wrapped).backbone == [prefix + key for key in find_layout(bare).backbone]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_network_whose_modulation_another_one_generates_is_known_and_has_no_sites(prefix):
    names = ("distilled_guidance_layer.norms.0.scale", "distilled_guidance_layer.layers.0.in_layer.weight")
    tensors = {f"{prefix}{name}": torch.zeros(4, 4) for name in (*names, "final_layer.linear.weight")}
    layout = find_layout(tensors)
    assert (layout.family_name, layout.sites, layout.unread) == ("Chroma", (), ())
    assert layout.head == [f"{prefix}final_layer.linear.weight"]


def test_own_models_are_found_behind_a_prefix(model):
    bare = tensors_of(model)
    wrapped = {f"module.{key}": value for key, value in bare.items()}
    assert [site.block for site in find_sites(wrapped)] == [site.block for site in find_sites(bare)]


def test_two_models_in_one_mapping_are_refused(model):
    both = {prefix + key: value for prefix in ("model.", "ema.") for key, value in tensors_of(model).items()}
    with pytest.raises(UnknownLayout, match=r"under 'ema\.' and 'model\.'; expected one model"):
        find_sites(both)


@pytest.mark.parametrize(
    "stranger",
    [
        "double_blocks.0.img_mod.lin.weight",  # Flux as first published
        "single_blocks.3.modulation.lin.weight",
        "joint_blocks.0.x_block.adaLN_modulation.1.weight",  # SD3 as first published
        "temporal_transformer_blocks.0.scale_shift_table",  # Latte
        "transformer_blocks.0.img_mod.1.weight",  # Qwen-Image
    ],
)
def test_a_modulation_layer_that_no_layout_knows_is_never_passed_over(stranger):
    tensors = tensors_of(foreign("PixArt-sigma")) | {stranger: torch.zeros(96, 16)}
    with pytest.raises(UnknownLayout, match=re.escape(stranger)):
        find_sites(tensors)


def test_twelve_chunks_under_a_known_name_are_refused():
    """CogView 3 and 4 keep image and context in one layer of 12 chunks under the name of six."""
    tensors = tensors_of(foreign("CogVideoX"))
    name = "transformer_blocks.0.norm1.linear.weight"
    with pytest.raises(UnknownLayout, match=re.escape(name)):
        find_sites(tensors | {name: torch.zeros(12 * 16, 12)})


def test_what_is_no_network_is_refused():
    expected = "expected a network or tensors by name"
    of_file = f"{expected} (of a file: adaln.audit(FILE))"
    for what, said in (("a.safetensors", of_file), (Path("a.safetensors"), of_file), (3, expected), (None, expected)):
        with pytest.raises(ValueError, match=f"^model is a {type(what).__name__}; {re.escape(said)}$"):
            find_layout.__wrapped__(what)  # past the check of types, which a user does not have


def test_without_modulation_layers_there_are_no_sites():
    tensors = {"conv.weight": torch.zeros(4, 4), "blocks.0.norm1.weight": torch.zeros(4)}
    assert find_sites(tensors) == [] and find_layout(tensors).family_name == ""


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda name: name.replace("blocks.0.", "blocks.0._orig_mod."),
        lambda name: re.sub(r"(blocks\.\d+)\.", r"\1._checkpoint_wrapped_module._fsdp_wrapped_module.", name),
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("linear.weight", "linear.base_layer.weight"),
        lambda name: name.replace("norm1.linear.weight", "norm1.linear.parametrizations.weight.original"),
    ],
)
def test_wrappers_inside_names_change_nothing_but_the_names_of_tensors(wrapped):
    bare = tensors_of(foreign("SD3"))
    names = {name: wrapped(name) for name in bare}
    inner, outer = find_layout(bare), find_layout({names[name]: tensor for name, tensor in bare.items()})
    assert names != dict(zip(bare, bare, strict=True))
    assert [site.block for site in outer.sites] == [site.block for site in inner.sites]
    for before, after in zip(inner.sites, outer.sites, strict=True):
        assert after.tensors()[0] == names[before.tensors()[0]]
    assert outer.head == [names[name] for name in inner.head]
