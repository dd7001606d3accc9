import pytest
import torch

from adaln.conditioning import Role, UnknownLayout, find_backbone, find_head, find_sites
from adaln.conditioning.sites import LAYOUTS


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


@pytest.mark.parametrize("rows", [4, 5, 9])
def test_a_layer_of_another_chunk_count_is_refused_by_name(rows):
    # LightningDiT without shift has 4 chunks: 4 x 1152 rows would also divide by 6
    with pytest.raises(UnknownLayout, match=r"blocks\.0\.adaLN_modulation\.1\.weight.*expected 6 x 6"):
        find_sites({"blocks.0.adaLN_modulation.1.weight": torch.zeros(rows * 6, 6)})


def test_an_unknown_place_for_a_modulation_layer_is_refused_by_name():
    with pytest.raises(UnknownLayout, match=r"tower\.0\.adaLN_modulation"):
        find_sites({"tower.0.adaLN_modulation.1.weight": torch.zeros(36, 6)})


def test_head_and_backbone_leave_conditioning_and_embedders_out(any_model):
    tensors = tensors_of(any_model)
    site_names = {name for site in find_sites(tensors) for name in site.tensors()}
    backbone, head = set(find_backbone(tensors)), set(find_head(tensors))
    assert head and backbone
    assert not backbone & site_names and not head & (backbone | site_names)
    assert not any("embed" in name for name in backbone)


def test_every_layout_names_its_block():
    assert all("(?P<block>" in layout.pattern and "(?P<stage>" in layout.pattern for layout in LAYOUTS)
