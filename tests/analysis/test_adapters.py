"""LoRA files: which modulation layers they touch, and by how much per role."""

import json

import pytest
import torch
from safetensors.torch import save_file

from adaln.analysis.adapters import audit_adapter
from adaln.cli.auditing import audit_verb
from adaln.rng import generator
from helpers.weight_files import dit_weights

D, RANK = 8, 2


def pair(rows=6 * D, columns=D, rank=RANK, seed=0):
    """A and B of an update."""
    rng = generator("adapters", rows, columns, rank, seed)
    return torch.randn(rank, columns, generator=rng), torch.randn(rows, rank, generator=rng)


A, B = pair()
SPELLINGS = {
    "peft": ("base_model.model.transformer_blocks.0.norm1.linear", "lora_A.weight", "lora_B.weight"),
    "peft with its adapter": (
        "base_model.model.blocks.3.adaLN_modulation.1",
        "lora_A.default.weight",
        "lora_B.default.weight",
    ),
    "diffusers": ("transformer.transformer_blocks.0.norm1.linear", "lora_A.weight", "lora_B.weight"),
    "diffusers before peft": ("transformer.transformer_blocks.0.norm1.linear", "lora.down.weight", "lora.up.weight"),
    "ComfyUI": ("diffusion_model.double_blocks.0.img_mod.lin", "lora_A.weight", "lora_B.weight"),
    "ComfyUI with downs": ("diffusion_model.double_blocks.0.txt_mod.lin", "lora_down.weight", "lora_up.weight"),
    "kohya": ("lora_unet_double_blocks_0_img_mod_lin", "lora_down.weight", "lora_up.weight"),
    "kohya of DiT": ("lora_unet_blocks_0_adaLN_modulation_1", "lora_down.weight", "lora_up.weight"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("alpha", [None, 4.0])
def test_the_update_of_each_role_has_the_norm_of_its_rows(tmp_path, spelling, alpha):
    layer, down, up = SPELLINGS[spelling]
    tensors = {f"{layer}.{down}": A, f"{layer}.{up}": B}
    if alpha is not None:
        tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "lora.safetensors")
    found = audit_adapter(tmp_path / "lora.safetensors")
    update = (1.0 if alpha is None else alpha / RANK) * (B @ A)
    shift, scale, gate = (torch.cat([update[i * D :][:D], update[(i + 3) * D :][:D]]).norm().item() for i in range(3))
    [touched] = found.layers
    assert (touched.rank, touched.alpha, touched.shape) == (RANK, alpha, (6 * D, D))
    assert touched.norm == pytest.approx(update.norm().item(), rel=1e-5)
    assert found.by_role == pytest.approx({"shift": shift, "scale": scale, "gate": gate}, rel=1e-5)
    assert found.families and not found.unread


def test_layers_of_one_role_add_up_and_others_are_counted_only(tmp_path):
    tensors = {}
    for block in range(3):
        a, b = pair(seed=block)
        tensors |= {
            f"blocks.{block}.adaLN_modulation.1.lora_A.weight": a,
            f"blocks.{block}.adaLN_modulation.1.lora_B.weight": b,
        }
        a, b = pair(rows=3 * D, seed=block)
        tensors |= {f"blocks.{block}.attn.qkv.lora_A.weight": a, f"blocks.{block}.attn.qkv.lora_B.weight": b}
    save_file(tensors, tmp_path / "lora.safetensors")
    found = audit_adapter(tmp_path / "lora.safetensors")
    assert (found.num_layers, len(found.layers)) == (6, 3)
    gates = [layer.by_role["gate"] for layer in found.layers]
    assert found.by_role["gate"] == pytest.approx(sum(gate**2 for gate in gates) ** 0.5)


def test_layers_that_several_families_call_so_are_read_by_what_else_the_file_holds(tmp_path):
    """Wide as the condition it is Flux's and its kin's; of another width CogVideoX's or CogView's, which differ."""
    tensors = {}
    for layer, rows in (("transformer_blocks.0.norm1.linear", 6), ("single_transformer_blocks.0.norm.linear", 3)):
        a, b = pair(rows=rows * D)
        tensors |= {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
    save_file(tensors, tmp_path / "flux.safetensors")
    found = audit_adapter(tmp_path / "flux.safetensors")
    assert "Flux" in found.families and "SD3" not in found.families and found.by_role
    a, b = pair(rows=12 * D, columns=3)
    layer = "transformer_blocks.0.norm1.linear"
    save_file({f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}, tmp_path / "cogview.safetensors")
    found = audit_adapter(tmp_path / "cogview.safetensors")
    assert len(found.families) > 1 and not found.by_role and found.layers[0].norm > 0


def test_a_modulation_layer_of_no_known_family_is_given_as_a_whole(tmp_path):
    a, b = pair(rows=5 * D)
    save_file(
        {"net.0.my_modulation.lora_A.weight": a, "net.0.my_modulation.lora_B.weight": b}, tmp_path / "lora.safetensors"
    )
    found = audit_adapter(tmp_path / "lora.safetensors")
    assert found.layers[0].norm == pytest.approx((b @ a).norm().item()) and not found.by_role and not found.families
    assert "of no known family" in str(found)


def test_alpha_of_peft_stands_in_the_config_beside_the_file(tmp_path):
    tensors = {"blocks.0.adaLN_modulation.1.lora_A.weight": A, "blocks.0.adaLN_modulation.1.lora_B.weight": B}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 6}))
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        assert audit_adapter(path).layers[0].norm == pytest.approx(3 * (B @ A).norm().item())


def test_what_is_no_low_rank_pair_is_named(tmp_path):
    tensors = {
        "blocks.0.attn.qkv.lora_A.weight": A,
        "blocks.0.attn.qkv.lora_B.weight": B,
        "blocks.0.mlp.lokr_w1": A + 1,
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    assert audit_adapter(tmp_path / "lora.safetensors").unread == ("lokr_w1",)


PAIR = {"lora_A.weight": A, "lora_B.weight": B}
UNREAD = {
    "a whole matrix": ({"weight": B @ A}, "weight"),
    "a whole matrix under PEFT's name": ({"modules_to_save.default.weight": B @ A}, "modules_to_save.default.weight"),
    "LoHa": ({f"hada_w{i}_{side}": A for i in (1, 2) for side in "ab"}, "hada_w1_a"),
    "LoKr": ({"lokr_w1": A, "lokr_w2": A}, "lokr_w1"),
    "DoRA": ({**PAIR, "lora_magnitude_vector": B[:, 0]}, "lora_magnitude_vector"),
    "A without B": ({"lora_A.weight": A}, "lora_A.weight"),
    "B without A": ({"lora_B.weight": B}, "lora_B.weight"),
    "A and B of two ranks": ({"lora_A.weight": A, "lora_B.weight": B.repeat(1, 2)}, "lora_A.weight"),
    "A that is a vector": ({"lora_A.weight": A[0], "lora_B.weight": B}, "lora_A.weight"),
    "a rank of 0": ({"lora_A.weight": A[:0], "lora_B.weight": B[:, :0]}, "lora_A.weight"),
}


@pytest.mark.parametrize("kind", UNREAD)
@pytest.mark.parametrize("layer", ["transformer.blocks.0.adaLN_modulation.1", "lora_unet_blocks_0_adaLN_modulation_1"])
def test_what_changes_modulation_and_is_not_read_is_named(tmp_path, kind, layer):
    tensors, named = UNREAD[kind]
    others = {f"blocks.{i}.attn.qkv.{part}": tensor for i in range(2) for part, tensor in PAIR.items()}
    together = others | {f"{layer}.{part}": tensor for part, tensor in tensors.items()}
    save_file({name: tensor.clone() for name, tensor in together.items()}, tmp_path / "lora.safetensors")
    found = audit_adapter(tmp_path / "lora.safetensors")
    assert f"{layer}.{named}" in found.unread_modulation and named in found.unread
    assert found.num_layers == 3 and len(found.layers) == (kind == "DoRA")
    assert f"warning: modulation is changed by what is not read: {layer}." in str(found)
    assert "no modulation layer" not in str(found)


def test_pairs_that_are_shaped_like_convolutions_are_read(tmp_path):
    tensors = {"lora_down.weight": A[:, :, None, None], "lora_up.weight": B[:, :, None, None]}
    layer = "lora_unet_blocks_0_adaLN_modulation_1"
    save_file({f"{layer}.{part}": tensor for part, tensor in tensors.items()}, tmp_path / "lora.safetensors")
    found = audit_adapter(tmp_path / "lora.safetensors")
    assert found.layers[0].norm == pytest.approx((B @ A).norm().item()) and found.by_role and not found.unread


def test_a_tensor_of_an_adapter_that_cannot_be_read_is_named(tmp_path):
    torch.save({"x.lora_A.weight": A.to_sparse(), "x.lora_B.weight": B}, tmp_path / "lora.pt")
    with pytest.raises(ValueError, match=r"'x\.lora_A\.weight' is of type float32, layout sparse_coo"):
        audit_adapter(tmp_path / "lora.pt")


def test_a_config_of_another_kind_of_adapter_is_no_error(tmp_path):
    save_file(
        {"blocks.0.attn.qkv.lokr_w1": A, "blocks.0.attn.qkv.lokr_w2": A + 1}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LOKR", "alpha": 4}))
    found = audit_adapter(tmp_path)
    assert found.num_layers == 1 and found.unread == ("lokr_w1", "lokr_w2") and "no modulation layer" in str(found)


@pytest.mark.parametrize(
    "words",
    [
        ["--precision", "bf16"],
        ["--step", "3"],
        ["--family", "DiT"],
        ["--weights", "ema"],
        ["--prefix", "blocks."],
        ["--allow-unread"],
    ],
)
def test_what_is_said_of_a_network_is_refused_of_an_adapter(tmp_path, words):
    save_file({f"blocks.0.adaLN_modulation.1.{part}": tensor for part, tensor in PAIR.items()}, tmp_path / "a")
    with pytest.raises(ValueError, match=f"{words[0]} is for networks; .* is an adapter"):
        audit_verb([str(tmp_path / "a"), *words])


def test_a_network_is_no_adapter(tmp_path):
    save_file(dit_weights(), tmp_path / "net.safetensors")
    assert audit_adapter(tmp_path / "net.safetensors") is None


def test_the_command_answers_for_an_adapter(tmp_path, capsys):
    torch.save({"x.attn.to_q.lora_A.weight": A, "x.attn.to_q.lora_B.weight": B}, tmp_path / "lora.pt")
    audit_verb([str(tmp_path / "lora.pt")]).show()
    assert "an adapter (LoRA) of 1 layers, which touches no modulation layer" in capsys.readouterr().out
    save_file(
        {"blocks.0.adaLN_modulation.1.lora_A.weight": A, "blocks.0.adaLN_modulation.1.lora_B.weight": B}, tmp_path / "a"
    )
    answer = audit_verb([str(tmp_path / "a")])
    answer.show()
    told = capsys.readouterr().out
    assert "1 of them modulation layers" in told and "Update by role" in told
    assert answer.data["by_role"].keys() == {"gate", "scale", "shift"}
