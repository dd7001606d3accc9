"""Anyone's weights, opened by one function: content decides, what is no network is called what it is."""

from argparse import Namespace
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from adaln.analysis.audit import audit
from adaln.tensor_files import open_weights, shapes
from helpers.foreign import foreign
from helpers.weight_files import dit_weights as weights
from helpers.weight_files import same


def test_of_a_training_checkpoint_the_averaged_weights_are_taken_unless_the_raw_ones_are_asked_for(tmp_path):
    """As DiT saves them: with the optimiser, and the command line as an argparse Namespace."""
    raw, averaged = weights(seed=1), weights(seed=2)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))])
    saved = {"model": raw, "ema": averaged, "opt": optimizer.state_dict(), "args": Namespace(model="DiT-S/2")}
    torch.save(saved, tmp_path / "0400000.pt")
    assert same(open_weights(tmp_path / "0400000.pt").tensors, averaged)
    assert same(open_weights(tmp_path / "0400000.pt", "model").tensors, raw)
    torch.save({"state_dict": raw, "epoch": 3}, tmp_path / "other.ckpt")
    assert same(open_weights(tmp_path / "other.ckpt").tensors, raw)
    with pytest.raises(ValueError, match="no set of weights 'ema'; it has model"):
        open_weights(tmp_path / "other.ckpt", "ema")


@pytest.mark.parametrize("zipped", [True, False])
def test_bare_weights_in_either_format_of_torch_save_are_read(tmp_path, zipped):
    torch.save(weights(), tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    assert same(open_weights(tmp_path / "net.pt").tensors, weights())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("net.safetensors", b"\x20\0\0\0\0\0\0\0{", "not a complete safetensors file"),
        ("net.SAFETENSORS", b"\x80\x02}", "not a complete safetensors file"),
        ("net.safetensors", b"short", "is a text that begins 'short'"),
        ("net.pt", b"no pickle at all", "is a text that begins 'no pickle at all'"),
        ("net.pt", b"\x80\x02\xff\xfe", "no file that torch.save wrote, or a damaged one"),
        ("net.txt", b"", "is an empty file"),
        ("0_0.distcp", b"PK", "torch.distributed.checkpoint.format_utils dcp_to_torch"),
    ],
)
def test_damaged_and_foreign_files_are_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        open_weights(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["best.pth.tar", "0400000.pt.bak", "weights", "net.PT", "a.ckpt", "a.bin", "a.json", "a.safetensors"]
)
def test_content_decides_whatever_a_file_is_called(tmp_path, name):
    torch.save(weights(), tmp_path / name)
    assert same(open_weights(tmp_path / name).tensors, weights())
    save_file(weights(), tmp_path / name)
    assert same(dict(open_weights(tmp_path / name).tensors), weights())


def test_wrappers_inside_names_are_taken_out_and_float8_is_read_from_both_formats(tmp_path):
    """Exactly, as bfloat16: every value of float8 is one of bfloat16."""
    float8 = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights().items()}
    wrapped = {name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in float8.items()}
    save_file(wrapped, tmp_path / "a")
    torch.save(wrapped, tmp_path / "b")
    expected = {name: tensor.bfloat16() for name, tensor in float8.items()}
    for name in "ab":
        assert same(dict(open_weights(tmp_path / name).tensors), expected)


UNREAD = {
    "a.weight": torch.zeros(2, 2, dtype=torch.int16),
    "b.weight": torch.zeros(2, 2, dtype=torch.uint16),
    "c": torch.zeros(2, 2, dtype=torch.complex64),
    "d.weight": torch.zeros(8, 1, dtype=torch.uint8),
    "e.weight": torch.zeros(2, 2, dtype=torch.int8),
    "f.weight_scale": torch.ones(1),
    "g.weight.quant_state.bitsandbytes__nf4": torch.zeros(8, dtype=torch.uint8),
    "scaled_fp8": torch.zeros(1, dtype=torch.float8_e4m3fn),
    "h.scale_weight": torch.ones(()),
    "i.weight": torch.zeros(0),
}


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_a_tensor_that_is_no_weight_as_it_stands_is_named(tmp_path, name, save):
    save({**weights(), name: UNREAD[name]}, tmp_path / "net")
    with pytest.raises(ValueError, match=f"net.*{name}") as error:
        open_weights(tmp_path / "net")
    assert "\n" not in str(error.value)


def test_weights_times_a_factor_are_refused_with_the_weight_its_type_and_the_way_on(tmp_path):
    scaled = {**weights(), "blocks.0.attn.proj.scale_weight": torch.ones(())}
    scaled["blocks.0.attn.proj.weight"] = torch.ones(8, 8).to(torch.float8_e4m3fn)
    save_file(scaled, tmp_path / "net")
    with pytest.raises(ValueError, match=r"'blocks\.0\.attn\.proj\.weight' as \w+ times a factor\); .* in bfloat16"):
        open_weights(tmp_path / "net")


def test_what_is_not_read_may_lie_beside_the_network_that_is(tmp_path):
    packed = {"text_encoder.a.weight": torch.zeros(2, 2, dtype=torch.uint8)}
    save_file({**{f"model.{name}": tensor for name, tensor in weights().items()}, **packed}, tmp_path / "net")
    assert same(dict(open_weights(tmp_path / "net").tensors), weights())


def test_weights_with_an_adapter_beside_them_are_the_weights_and_the_answer_says_so(tmp_path):
    layer = "blocks.1.adaLN_modulation.1"
    beside = {name.replace(f"{layer}.", f"{layer}.base_layer."): tensor for name, tensor in weights().items()}
    beside |= {f"{layer}.lora_{letter}.default.weight": torch.ones(2, 2) for letter in "AB"}
    torch.save(beside, tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt")
    assert same({name: opened.tensors[name] for name in weights()}, weights())
    assert layer in opened.notes[0] and "without it" in opened.notes[0]


@pytest.mark.parametrize("save", [save_file, torch.save])
def test_numbers_without_a_dimension_beside_the_weights_are_no_hindrance_to_an_audit(tmp_path, save):
    tensors = {**weights(), "logit_scale": torch.tensor(3.0), "num_updates": torch.tensor(5)}
    save(tensors, tmp_path / "net")
    assert audit(tmp_path / "net").rows == audit(weights()).rows == audit(tensors).rows


@pytest.mark.parametrize(
    "names",
    [
        ["transformer.blocks.0.norm1.linear.lora_A.weight", "transformer.blocks.0.norm1.linear.lora_B.weight"],
        ["lora_unet_double_blocks_0_img_mod_lin.lora_down.weight", "lora_unet_double_blocks_0_img_mod_lin.alpha"],
        ["base_model.model.blocks.0.attn.lora_A.default.weight"],
    ],
)
def test_an_adapter_is_no_network(tmp_path, names):
    save_file({name: torch.ones(2, 2) for name in names}, tmp_path / "net")
    with pytest.raises(ValueError, match="is an adapter"):
        open_weights(tmp_path / "net")


def test_a_missing_file_names_the_nearest(tmp_path):
    torch.save(weights(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"do not exist \(nearest: '.*net\.pt'\)"):
        open_weights(tmp_path / "nett.pt")


def test_a_link_to_nothing_names_what_is_missing(tmp_path):
    (tmp_path / "net.pt").symlink_to(tmp_path / "gone.pt")
    with pytest.raises(ValueError, match=r"net\.pt' are a link to '.*gone\.pt', which does not exist"):
        open_weights(tmp_path / "net.pt")


def test_a_list_of_tensors_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "net.pt")
    with pytest.raises(ValueError, match="holds a list; expected tensors by name"):
        open_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("shard_size", ["10GB", "20KB"])
@pytest.mark.parametrize("inside", ["", "transformer"])
def test_a_folder_of_diffusers_is_read_from_its_safetensors_whole_or_in_shards(tmp_path, shard_size, inside):
    model = foreign("SD3.5")
    model.save_pretrained(tmp_path / inside, max_shard_size=shard_size)
    shards = list((tmp_path / inside).glob("*.safetensors"))
    assert (len(shards) > 1) == (shard_size == "20KB")
    opened = open_weights(tmp_path).tensors
    assert same(dict(opened), model.state_dict())
    assert {name: meta.shape for name, meta in shapes(opened).items()} == {n: t.shape for n, t in opened.items()}
    assert asdict(audit(opened)) == asdict(audit(model.state_dict()))


def test_a_folder_that_has_only_a_pickle_is_read_as_that_file_is(tmp_path):
    file = tmp_path / "diffusion_pytorch_model.bin"
    torch.save(weights(), file)
    opened = open_weights(tmp_path)
    assert (opened.file, opened.taken) == (file, None)
    assert same(opened.tensors, weights())


@pytest.mark.parametrize("name", ["optimizer.bin", "model.safetensors", "config.json"])
def test_a_folder_is_no_model_because_of_what_else_lies_in_it(tmp_path, name):
    """The tensors of a training state, say, or weights of who knows which network."""
    save_file(weights(), tmp_path / name)
    with pytest.raises(ValueError, match="is no run and no diffusers model") as error:
        open_weights(tmp_path)
    assert "\n" not in str(error.value)


def test_what_a_file_is_decides_its_content_where_its_name_does_not(tmp_path):
    save_file(weights(), tmp_path / "a.weights")
    torch.save({"ema": weights()}, tmp_path / "b.weights")
    assert same(dict(open_weights(tmp_path / "a.weights").tensors), weights())
    assert open_weights(tmp_path / "b.weights").taken == "ema"


@pytest.mark.parametrize("name", ["_flat_param", "blocks.0._fsdp_wrapped_module._flat_param", "blocks.0.flat_param_1"])
def test_many_weights_in_one_are_called_what_they_are(tmp_path, name):
    torch.save({**weights(), name: torch.ones(9)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"flat_param.*' is many weights in one .*save a full state_dict\(\)"):
        open_weights(tmp_path / "net.pt")


QUANTISED = ("SCB", "weight.SCB", "qweight", "weight._scale", "weight_scales", "weight_zero_point", "scales", "W_q")


@pytest.mark.parametrize("name", QUANTISED)
def test_factors_of_quantised_weights_are_known_under_every_library_s_name(tmp_path, name):
    save_file({**weights(), f"blocks.0.attn.proj.{name}": torch.ones(8)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"says that weights are stored quantised \('blocks\.0\.attn\.proj\.weight'"):
        open_weights(tmp_path / "net.safetensors")


@pytest.mark.parametrize("end", ["u", "mask"])
def test_a_weight_under_spectral_norm_or_pruning_is_no_weight_yet(tmp_path, end):
    name = "blocks.0.attn.proj.weight"
    rest = {key: tensor for key, tensor in weights().items() if key != name}
    save_file({**rest, f"{name}_orig": torch.ones(8, 8), f"{name}_{end}": torch.ones(8)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"weight_orig' is a part of a parametrised or pruned weight"):
        open_weights(tmp_path / "net.safetensors")


@pytest.mark.parametrize(("raw", "average"), [("net.", "ema."), ("net.", "net_ema."), ("model.", "ema_model.")])
@pytest.mark.parametrize("dot", ["", "_", "|"])
def test_an_average_that_is_kept_as_buffers_has_its_dots_again_whatever_it_is_called(tmp_path, raw, average, dot):
    averaged = {f"{average}{name.replace('.', dot)}": tensor for name, tensor in weights(1).items()}
    tensors = {f"{raw}{name}": tensor for name, tensor in weights().items()}
    torch.save({"state_dict": {**tensors, **averaged, f"{average}decay": torch.tensor(0.9)}}, tmp_path / "net.ckpt")
    assert same(dict(open_weights(tmp_path / "net.ckpt").tensors), weights(1))


def test_a_file_that_was_copied_as_text_is_called_so(tmp_path):
    torch.save(weights(), tmp_path / "net.pt")
    (tmp_path / "net.pt").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "net.pt").read_bytes())
    with pytest.raises(ValueError, match=r"net\.pt' is a file that was copied as text \(a byte order mark before it\)"):
        open_weights(tmp_path / "net.pt")


FACTORS = (
    *(".scale", ".scl", ".w_scale", ".scale_w", ".inv_scale", ".weightScale", ".dequant", ".alpha", ".weight.scale"),
    *("_scale", "_inv_scale", ".weight:scale", ".weight_scale_2", ".s"),
)


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("factor", FACTORS)
def test_what_may_be_the_factor_of_a_weight_in_eight_bits_is_never_left_out(tmp_path, factor, ending):
    float8 = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights().items()}
    save = save_file if ending == "safetensors" else torch.save
    save({**float8, f"blocks.0.attn.proj{factor}": torch.ones(1)}, tmp_path / f"net.{ending}")
    with pytest.raises(ValueError, match=f"blocks.0.attn.proj{factor}.*expected floating-point weights"):
        open_weights(tmp_path / f"net.{ending}")


@pytest.mark.parametrize("key", ["scales.blocks.0.attn.proj", "weight_scales.blocks.0.attn.proj.weight"])
def test_factors_under_a_name_of_their_own_are_refused_too(tmp_path, key):
    float8 = {name: tensor.to(torch.float8_e5m2) for name, tensor in weights().items()}
    save_file({**float8, key: torch.ones(1)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=f"{key}.*expected floating-point weights"):
        open_weights(tmp_path / "net.safetensors")


def test_weights_in_eight_bits_as_torchao_stores_them_are_refused(tmp_path):
    stored = {"blocks.0.attn.proj._weight_qdata": torch.ones(8, 8).to(torch.float8_e4m3fn)}
    stored["blocks.0.attn.proj._weight_scale"] = torch.ones(8, 1)
    others = {name: tensor for name, tensor in weights().items() if name != "blocks.0.attn.proj.weight"}
    save_file({**others, **stored}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"_weight_scale.*eight bits"):
        open_weights(tmp_path / "net.safetensors")


def test_scales_that_are_no_factors_stand_beside_weights_in_eight_bits(tmp_path):
    float8 = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights().items()}
    own = {"scale_shift_table": torch.ones(2, 8), "blocks.0.norm_q.scale": torch.ones(8), "logit_scale": torch.ones(())}
    save_file({**float8, **own, "blocks.0.attn.proj.bias": torch.ones(8)}, tmp_path / "net.safetensors")
    assert own.keys() <= open_weights(tmp_path / "net.safetensors").tensors.keys()
