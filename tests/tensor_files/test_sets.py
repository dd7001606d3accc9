"""Which of a checkpoint's sets is read, whatever trainers call them, and what is said of the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from adaln.tensor_files import open_weights
from adaln.tensor_files.sets import MODULATION, kind_of
from helpers.weight_files import dit_weights as weights
from helpers.weight_files import same, under

RAW, AVERAGED = weights(1), weights(2)
SCALARS = {"initted": torch.tensor([True]), "step": torch.tensor(7)}
OPTIMISER = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))]).state_dict()

TWO_SETS = {
    "DiT": {"model": RAW, "ema": AVERAGED, "opt": OPTIMISER},
    "timm": {"state_dict": RAW, "state_dict_ema": under("module.", AVERAGED), "arch": "x", "optimizer": OPTIMISER},
    "model_ema": {"model": under("module.", RAW), "model_ema": AVERAGED, "scaler": {"scale": torch.ones(3)}},
    "ema_state_dict": {"model_state_dict": RAW, "ema_state_dict": AVERAGED, "rng_state": torch.zeros(9).byte()},
    "ema_model": {"net": RAW, "ema_model": under("_orig_mod.", AVERAGED)},
    "decay in the name": {"model": RAW, "ema_0.9999": AVERAGED},
    "params_ema": {"params": RAW, "params_ema": AVERAGED},
    "swa": {"model_state": RAW, "swa_model": {**under("module.", AVERAGED), "n_averaged": torch.tensor(3)}},
    "ema-pytorch": {**under("online_model.", RAW), **under("ema_model.", AVERAGED), **SCALARS},
    "ema-pytorch in a key": {"ema": {**under("online_model.", RAW), **under("ema_model.", AVERAGED), **SCALARS}},
    "prefixes": {**under("model.", RAW), **under("ema.", AVERAGED)},
    "ema beside bare names": {**RAW, **under("ema.", AVERAGED)},
    "nested": {"state_dict": {"model": RAW, "ema": AVERAGED}, "epoch": 3},
    "wrapped dictionaries": {"checkpoint": {"weights": {"net": RAW, "net_ema": AVERAGED}}},
    "Lightning": {"state_dict": {**under("model.", RAW), **under("ema_model.", AVERAGED)}, "loops": {}},
    "latent diffusion": {
        "state_dict": {
            **under("model.diffusion_model.", RAW),
            **under("model_ema.", {f"diffusion_model{name.replace('.', '')}": t for name, t in AVERAGED.items()}),
            "model_ema.decay": torch.tensor(0.999),
            "model_ema.num_updates": torch.tensor(3),
        }
    },
    "latent diffusion without a name between": {
        "state_dict": {
            **under("model.", RAW),
            **under("model_ema.", {name.replace(".", ""): t for name, t in AVERAGED.items()}),
            "model_ema.decay": torch.tensor(0.999),
            "model_ema.num_updates": torch.tensor(3),
        }
    },
    "capitals": {"Model": RAW, "EMA": {"decay": 0.9, "shadow": AVERAGED}},
    "a callback's": {
        "state_dict": under("model.", RAW),
        "callbacks": {"EMA": {"ema_weights": under("model.", AVERAGED)}},
    },
    "a list's": {"model": [RAW], "ema": [AVERAGED]},
    "an engine's": {"module": RAW, "ema": {"decay": 0.9, "module": AVERAGED}},
}


@pytest.mark.parametrize("spelling", TWO_SETS)
def test_the_averaged_set_is_found_under_every_name_and_the_raw_one_can_be_asked_for(tmp_path, spelling):
    torch.save(TWO_SETS[spelling], tmp_path / "net.pt")
    opened, averaged, raw = (open_weights(tmp_path / "net.pt", wanted) for wanted in (None, "ema", "model"))
    assert same(opened.tensors, AVERAGED) and same(averaged.tensors, AVERAGED) and same(raw.tensors, RAW)
    assert (opened.taken, averaged.taken, raw.taken) == ("ema", "ema", "model")
    assert len(opened.notes) == 1 and "the averaged weights" in opened.notes[0] and "also holds" in opened.notes[0]
    assert "the raw weights" in raw.notes[0]


AVERAGES = st.sampled_from(["ema", "emas", "ewa", "swa", "avg", "average", "averaged", "averaging", "shadow", "polyak"])
BESIDE = st.sampled_from(
    ["model", "net", "params", "weights", "state_dict", "module", "dit", "student", "0_9999", "1", "exp_moving", "best"]
)


@given(AVERAGES, st.lists(BESIDE, max_size=2), st.lists(BESIDE, max_size=2), st.sampled_from("snake-. CP"))
def test_an_average_is_one_in_every_case_and_with_every_separator(average, before, behind, style):
    words = "_".join([*before, average, *behind]).split("_")
    capital = [words[0] if style == "C" else words[0].capitalize(), *(word.capitalize() for word in words[1:])]
    spelled = "".join(capital) if style in "CP" else ("_" if style in "snake" else style).join(words)
    assert kind_of(spelled) == "ema"
    if average == "ema":
        assert kind_of(spelled.replace("ema", "EMA").replace("Ema", "EMA")) == "ema"


@given(AVERAGES, st.sampled_from(["model", "net", "params", "weights", "state_dict", "dit"]))
def test_an_average_may_be_glued_to_what_it_is_of(average, network):
    assert kind_of(average + network) == kind_of(network + average) == kind_of(f"{average.upper()}{network}") == "ema"


@pytest.mark.parametrize(
    "word",
    [
        "gemma",
        "schema",
        "semantic",
        "embeddings_matrix",
        "cinema",
        "avgpool",
        "swap",
        "shadowless",
        "remapped",
        "demand",
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "non_ema",
        "no_ema",
        "params_without_ema",
    ],
)
def test_what_only_looks_like_an_average_is_none(word):
    assert kind_of(word) != "ema" != kind_of(word.upper())


@pytest.mark.parametrize("word", ["target", "slow", "mean_teacher", "momentum_encoder"])
def test_a_second_network_that_no_word_explains_is_no_reason_to_take_the_first(tmp_path, word):
    torch.save({"model": RAW, word: AVERAGED}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"networks stand under 'model\.' and '{word}\.'; expected one of them"):
        open_weights(tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt", "model").tensors, RAW)
    assert same(open_weights(tmp_path / "net.pt", prefix=word).tensors, AVERAGED)


def test_a_module_that_takes_averages_and_a_decay_are_no_sets(tmp_path):
    network = {**RAW, "avg_pool.weight": torch.ones(2)}
    torch.save({"model": network, "ema": {"decay": torch.tensor(0.9)}}, tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt").tensors, network)


@pytest.mark.parametrize("spelling", ["ema-pytorch", "prefixes", "ema beside bare names"])
def test_safetensors_hold_sets_by_prefixes(tmp_path, spelling):
    save_file(TWO_SETS[spelling], tmp_path / "net.safetensors")
    assert same(dict(open_weights(tmp_path / "net.safetensors").tensors), AVERAGED)
    assert same(dict(open_weights(tmp_path / "net.safetensors", "model").tensors), RAW)


ONE_SET = {
    "bare": ({**RAW}, None),
    "wrapped": (under("module.module.", RAW), None),
    "under a name": (under("my_net.", RAW), None),
    "DeepSpeed": ({"module": RAW, "optimizer": None, "dp_world_size": 8}, "model"),
    "model": ({"model": RAW}, "model"),
    "average of torch": ({**under("module.", RAW), "n_averaged": torch.tensor(5)}, "ema"),
    "average alone": ({**under("ema_model.", RAW), **SCALARS}, "ema"),
    "ComfyUI": (under("model.diffusion_model.", RAW), None),
    "Lightning": ({"state_dict": under("model.net._orig_mod.", RAW)}, "model"),
    "under names that nobody knows": ({"checkpoint": {"foo": RAW}}, "model"),
    "modules that are called like sets": ({**RAW, "transformer.w.x": torch.ones(2), "net.y": torch.ones(2)}, None),
}


@pytest.mark.parametrize("spelling", ONE_SET)
def test_a_single_set_is_read_without_a_word(tmp_path, spelling):
    saved, taken = ONE_SET[spelling]
    torch.save(saved, tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt")
    extra = {name: saved[name] for name in ("transformer.w.x", "net.y") if name in saved}
    assert same(opened.tensors, {**RAW, **extra}) and opened.taken == taken and not opened.notes


def test_an_optimiser_beside_the_weights_is_none_of_them(tmp_path):
    moments = {f"{name}.exp_avg": tensor for name, tensor in RAW.items()}
    for saved in (
        {"model": RAW, "optimizer": {"exp_avg": AVERAGED}},
        {**under("model.", RAW), **under("optimizer.state.", moments)},
        {**under("app.model.", RAW), **under("app.optim.state.", moments)},
        {"foo": RAW, "metrics": {"loss": torch.ones(5)}},
    ):
        torch.save(saved, tmp_path / "net.pt")
        assert same(open_weights(tmp_path / "net.pt").tensors, RAW)


def test_sets_that_no_word_tells_apart_and_several_averages_are_refused_by_name(tmp_path):
    for saved in ({"foo": RAW, "bar": AVERAGED}, {"model": RAW, "ema_0.99": AVERAGED, "ema_0.9999": RAW}):
        torch.save(saved, tmp_path / "net.pt")
        with pytest.raises(ValueError, match=r"networks stand under .* and .*; expected one of them as --prefix"):
            open_weights(tmp_path / "net.pt")


def test_a_tree_of_modules_as_dictionaries_is_one_network(tmp_path):
    tree = {}
    for name, tensor in RAW.items():
        *path, last = name.split(".")
        inner = tree
        for word in path:
            inner = inner.setdefault(word, {})
        inner[last] = tensor
    torch.save(tree, tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt").tensors, RAW)


def test_an_average_of_a_part_of_the_network_is_not_taken_for_the_whole(tmp_path):
    part = {name: tensor for name, tensor in AVERAGED.items() if "blocks.1" not in name}
    torch.save({"model": RAW, "ema": part}, tmp_path / "net.pt")
    with pytest.raises(
        ValueError, match=r"'ema\.' hold 3 modulation tensors of 5: a part of the network; --weights model"
    ):
        open_weights(tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt", "model").tensors, RAW)


def test_an_average_that_lacks_what_does_not_modulate_says_so(tmp_path):
    lost = next(name for name in RAW if not MODULATION.search(name) and name.endswith("weight"))
    part = {name: tensor for name, tensor in AVERAGED.items() if name != lost}
    torch.save({"model": RAW, "ema": part}, tmp_path / "net.pt")
    said = f"the averaged weights lack 1 of the tensors under 'model.', e.g. {lost!r}"
    assert said in open_weights(tmp_path / "net.pt").notes
    torch.save({"model": RAW, "ema": AVERAGED}, tmp_path / "whole.pt")
    assert not any("lack" in note for note in open_weights(tmp_path / "whole.pt").notes)


def test_a_set_that_is_not_there_is_not_taken_for_another(tmp_path):
    torch.save({"model": RAW}, tmp_path / "one.pt")
    torch.save(RAW, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="has no set of weights 'ema'; it has model"):
        open_weights(tmp_path / "one.pt", "ema")
    with pytest.raises(ValueError, match="has no set of weights 'ema'; it has one set only"):
        open_weights(tmp_path / "bare.pt", "ema")


@pytest.mark.parametrize("wanted", ["ema", "model"])
def test_a_student_beside_its_teacher_is_no_set_and_both_are_named(tmp_path, wanted):
    save_file({**under("student.", RAW), **under("teacher.", AVERAGED)}, tmp_path / "net.safetensors")
    opened = open_weights(tmp_path / "net.safetensors")
    assert same(dict(opened.tensors), RAW) and "'teacher.'" in opened.notes[0]
    with pytest.raises(
        ValueError, match=r"one set only, under 'student\.', and beside it 'teacher\.': --prefix chooses"
    ):
        open_weights(tmp_path / "net.safetensors", wanted)


@pytest.mark.parametrize("key", ["ema_params", "shadow_params"])
@pytest.mark.parametrize("nested", [True, False])
def test_an_average_without_names_is_refused_by_its_key_and_the_raw_weights_are_offered(tmp_path, key, nested):
    average = {key: list(AVERAGED.values()), "decay": 0.999}
    torch.save({"model": RAW, **({"ema": average} if nested else average)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=f"list without names, '.*{key}', not readable; --weights model"):
        open_weights(tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt", "model")
    assert same(opened.tensors, RAW) and key in opened.notes[0]
    torch.save(average, tmp_path / "alone.pt")
    with pytest.raises(ValueError, match=f"list without names, '{key}'"):
        open_weights(tmp_path / "alone.pt")


VAE = {"encoder.conv_in.weight": torch.ones(2, 2), "decoder.conv_out.weight": torch.ones(2, 2)}
TEXT = {f"encoder.block.{i}.layer.weight": torch.ones(2, 2) for i in range(2)}
TOGETHER = {
    "ComfyUI": {**under("model.diffusion_model.", RAW), **under("first_stage_model.", VAE)},
    "three": {**under("model.diffusion_model.", RAW), **under("vae.", VAE), **under("text_encoders.t5.", TEXT)},
    "names that nobody knows": {**under("model.", RAW), **under("tokens_model.", TEXT)},
    "a VAE with modulation": {
        **under("model.diffusion_model.", RAW),
        **under("vae.", {**VAE, "decoder.up.0.scale_shift_table": torch.ones(2, 2)}),
    },
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_of_several_networks_in_one_file_the_one_with_modulation_is_read_and_the_others_are_named(tmp_path, kind):
    save_file(TOGETHER[kind], tmp_path / "net.safetensors")
    opened = open_weights(tmp_path / "net.safetensors")
    assert same(dict(opened.tensors), RAW)
    others = {name.partition(".")[0] for name in TOGETHER[kind]} - {"model"}
    assert all(repr(f"{other}.") in opened.notes[0] for other in others)


def test_a_prefix_chooses_and_two_networks_with_modulation_are_refused_without_one(tmp_path):
    both = {**under("low_noise_model.", RAW), **under("high_noise_model.", AVERAGED)}
    save_file(both, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"'high_noise_model\.' and 'low_noise_model\.'.*--prefix"):
        open_weights(tmp_path / "net.safetensors")
    for prefix in ("low_noise_model.", "low_noise_model"):
        assert same(dict(open_weights(tmp_path / "net.safetensors", prefix=prefix).tensors), RAW)
    with pytest.raises(ValueError, match=r"no name begins with the prefix 'low_nois' \(nearest: 'low_noise_model\.'\)"):
        open_weights(tmp_path / "net.safetensors", prefix="low_nois")


def test_a_prefix_reaches_into_dictionaries(tmp_path):
    torch.save(TWO_SETS["DiT"], tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt", prefix="model.")
    assert same(opened.tensors, RAW) and opened.taken == "model"
