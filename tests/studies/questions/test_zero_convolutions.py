"""Figure 20 of ControlNets made here, under official names and under those of diffusers."""

import json
import re

import pytest
import torch

import adaln
from adaln.codec import encode
from adaln.rng import generator
from adaln.studies.questions.zero_convolutions import controlnets, draw_zero_convolutions, labels
from adaln.tensor_files import save_tensors
from helpers.command_line import data, fails, run

NAMES = {
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    **{f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(12)},
    "controlnet_mid_block": "middle_block_out.0",
}
"""diffusers -> official, in forward order."""
STD = 0.02


def controlnet(seed=0, values="laplace", std=STD):
    """Zero convolutions of one std but for their seed, under the names of diffusers, and a block's matrix."""
    rng = generator("controlnet", seed)

    def drawn(shape):
        normal = torch.randn(shape, generator=rng)
        if values == "laplace":
            return std * normal * torch.empty(shape).exponential_(generator=rng).sqrt()
        humps = torch.randint(0, 2, shape, generator=rng) * 2.0 - 1
        return std * {"normal": normal, "humps": humps + 0.2 * normal}[values]

    weights = {f"{name}.weight": drawn((24, 24, 1, 1)) for name in NAMES}
    return weights | {"conv_in.weight": torch.randn((24, 4, 3, 3), generator=rng), "conv_in.bias": torch.zeros(24)}


def official(weights, prefix="control_model."):
    return {
        prefix + NAMES.get(name.removesuffix(".weight"), name.removesuffix(".weight")) + ".weight": tensor
        for name, tensor in weights.items()
        if name.endswith(".weight")
    }


def numbers(result):
    """Without what the networks are called."""
    rows = (*result.numbers["numbers"], *result.numbers["by_convolution"])
    return [{key: value for key, value in encode(row).items() if key != "source"} for row in rows]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("canny", "depth")):
        (tmp_path / name).mkdir()
        save_tensors(tmp_path / name / "diffusion_pytorch_model.safetensors", controlnet(seed))
        torch.save(official(controlnet(seed)), tmp_path / f"control_{name}.pth")
    return tmp_path


def test_official_names_and_those_of_diffusers_are_one(files):
    torch.save(
        {
            "state_dict": official(controlnet(0))
            | {
                "model.diffusion_model.input_blocks.0.0.weight": torch.randn(8, 4, 3, 3),
                "first_stage_model.encoder.conv_in.weight": torch.randn(8, 3, 3, 3),
            }
        },
        "whole.ckpt",
    )
    save_tensors(files / "bare.safetensors", official(controlnet(0), ""))
    wanted = numbers(draw_zero_convolutions(["canny"]))
    assert [row["block"] for row in wanted[1:]] == ["condition", *(f"down {i}" for i in range(12)), "middle"]
    for same in ("control_canny.pth", "whole.ckpt", "bare.safetensors"):
        assert numbers(draw_zero_convolutions([same])) == wanted, same
    assert numbers(draw_zero_convolutions(["control_depth.pth"])) != wanted


def test_the_numbers_are_those_of_the_weights(files):
    found = draw_zero_convolutions(["canny"]).numbers
    (row,), single = found["numbers"], found["by_convolution"]
    values = torch.cat([controlnet(0)[f"{name}.weight"].flatten() for name in NAMES]).double()
    z = (values - values.mean()) / values.std(correction=0)
    assert row["moments"]["std"] == pytest.approx(float(values.std(correction=0)), rel=1e-6)
    assert row["moments"]["excess_kurtosis"] == pytest.approx(float((z**4).mean() - 3), rel=1e-5)
    assert row["moments"]["elements"] == sum(each["moments"]["elements"] for each in single) == 14 * 24 * 24


@pytest.mark.parametrize(
    ("values", "std", "words"),
    [
        ("laplace", STD, "one peak with heavier tails than a Gaussian, std 0.02, excess kurtosis +3"),
        ("normal", STD, "one peak with the tails of a Gaussian"),
        ("humps", STD, "two humps"),
        ("normal", 0.0, "still at zero, as before any training"),
    ],
)
def test_the_answer_says_what_shape_they_took(tmp_path, values, std, words):
    save_tensors(tmp_path / "net.safetensors", controlnet(0, values, std))
    result = draw_zero_convolutions([str(tmp_path / "net.safetensors")])
    assert result.verdict[0].startswith(f"Zero convolutions of net: {words}"), result.verdict


def test_a_mixture_of_stds_has_tails_that_none_of_its_convolutions_has(tmp_path):
    weights = controlnet(0, "normal")
    scaled = {name: tensor * 4.0 ** (i % 2) for i, (name, tensor) in enumerate(weights.items())}
    save_tensors(tmp_path / "net.safetensors", scaled)
    heavy, course, *_ = draw_zero_convolutions([str(tmp_path / "net.safetensors")]).verdict
    assert "heavier tails" in heavy
    assert abs(float(re.search(r"each by itself (\S+) in the middle", course)[1])) < 0.3


@pytest.mark.slow
def test_a_command_draws_a_panel_for_each_network_and_report_draws_it_again(files, capsys):
    words = ("study", "figure20", "--weights", "canny", "control_depth.pth")
    answer = data(capsys, *words)
    page, result = files / answer["report"], files / answer["result_file"]
    assert json.loads(result.read_text())["verdict"] == answer["verdict"]
    assert "adaln study figure20 --weights canny control_depth.pth" in page.read_text()
    assert {row["source"] for row in answer["numbers"]} == {"canny", "control_depth"}
    before = {file: file.read_bytes() for file in page.parent.iterdir()}
    run(capsys, *words)
    assert {file: file.read_bytes() for file in page.parent.iterdir()} == before, "the same networks, the same bytes"
    run(capsys, "report", page.parent)
    assert (page.parent / "report" / "index.html").read_text().count("control_depth") > 2


@pytest.mark.slow
def test_python_draws_the_same(files, capsys):
    finished = adaln.study("figure20", weights=["canny"], root=files / "of-python")
    assert data(capsys, "study", "figure20", "--weights", "canny")["verdict"] == finished.result.verdict
    with pytest.raises(ValueError, match="expected no --seeds"):
        adaln.study("figure20", seeds=2, weights=["canny"])


def test_a_dry_run_and_the_list_of_studies_name_it_and_write_nothing(files, capsys):
    before = {*files.rglob("*")}
    assert data(capsys, "study", "figure20", "--weights", "canny", "--dry-run")[0]["zero_convolutions"] == 14
    assert {*files.rglob("*")} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "hf:lllyasviel/sd-controlnet-canny"),
        (("canny", "canny"), "are the same file"),
        (("canny", "canny/diffusion_pytorch_model.safetensors"), "are the same file"),
        (("canny", "control_canny.pth"), "'canny' and 'control_canny.pth' hold the same zero convolutions"),
        (("canny", "unet.safetensors"), "'unet.safetensors' has no zero convolution among 2 tensors"),
        (("canny", "pair.safetensors"), "holds several ControlNets"),
        (("canny", "cut.pth"), "cut short"),
        (("canny", "cut.safetensors"), "not a complete safetensors file"),
        (("canny", "nan.safetensors"), "none of whose values is finite"),
        (("canny", "nowhere"), "'nowhere' do not exist"),
        (("hf:nothing",), "names nothing on the hub"),
        (("canny", "--seeds", "3", "--data", "x"), "expected no --seeds, no --data"),
    ],
)
def test_what_is_no_controlnet_is_one_line_and_nothing_is_written(files, capsys, words, said):
    weights = controlnet(2)
    save_tensors(files / "unet.safetensors", {k: v for k, v in weights.items() if k.startswith("conv_in")})
    save_tensors(files / "pair.safetensors", {f"nets.{i}.{k}": v.clone() for i in (0, 1) for k, v in weights.items()})
    save_tensors(files / "nan.safetensors", {name: torch.full_like(v, torch.nan) for name, v in weights.items()})
    for whole, cut in (
        ("control_canny.pth", "cut.pth"),
        ("canny/diffusion_pytorch_model.safetensors", "cut.safetensors"),
    ):
        (files / cut).write_bytes((files / whole).read_bytes()[:-5_000])
    assert said in fails(capsys, "study", "figure20", *(["--weights"] if words else []), *words)
    assert not (files / "runs").exists()


def test_other_studies_take_no_weights(capsys):
    assert "table3 trains its own weights" in fails(capsys, "study", "table3", "--weights", "canny")


def test_labels_are_what_tells_networks_apart():
    same = "diffusion_pytorch_model.fp16.safetensors"
    assert labels([f"/a/canny/{same}", f"/a/depth/controlnet/{same}"]) == ["canny", "depth"]
    assert labels(["/a/v1.1/canny.pth", "/a/v1/canny.pth"]) == ["v1.1/canny", "v1/canny"]
    assert labels(["/a/canny.pth", "/a/canny.safetensors"]) == ["/a/canny.pth", "/a/canny.safetensors"]
    assert labels(["hf:lllyasviel/sd-controlnet-seg@main", "/canny.pth"]) == ["sd-controlnet-seg", "canny"]


@pytest.mark.slow
def test_all_that_diffusers_starts_at_zero_behind_blocks_is_looked_at(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    narrow = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 4}
    narrow |= {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 16}
    sd3 = {"sample_size": 8, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
    sd3 |= dict.fromkeys(("joint_attention_dim", "caption_projection_dim", "pooled_projection_dim"), 16)
    for network in (diffusers.ControlNetModel(**narrow), diffusers.SD3ControlNetModel(**sd3)):
        network.save_pretrained(tmp_path / type(network).__name__)
        (one,) = controlnets([str(tmp_path / type(network).__name__)])
        zero = {name for name, p in network.named_parameters() if p.ndim > 1 and not p.any()}
        assert {rows.tensor for rows in one.rows} == zero - {"pos_embed_input.proj.weight"}
