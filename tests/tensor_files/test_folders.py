"""Folders and indexes: the whole network or a refusal, whatever variant, however many shards."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from adaln.tensor_files import open_adapter, open_weights
from helpers.foreign import foreign
from helpers.weight_files import dit_weights as weights
from helpers.weight_files import same

STEM = "diffusion_pytorch_model"


def write_shards(folder, ending="safetensors", variant="", seed=0):
    """The weights in three shards with their index, as diffusers names them."""
    tensors, folder_of = weights(seed), {}
    folder.mkdir(exist_ok=True)
    for number in range(3):
        name = f"{STEM}{variant}-{number + 1:05}-of-00003.{ending}"
        part = dict(list(tensors.items())[number::3])
        (save_file if ending == "safetensors" else torch.save)(part, folder / name)
        folder_of |= dict.fromkeys(part, name)
    index = folder / f"{STEM}.{ending}.index{variant}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": folder_of}))
    return index


def opened(path, *wanted):
    found = open_weights(path, *wanted)
    return dict(found.tensors), found.notes


@pytest.mark.parametrize("shard_size", ["10GB", "20KB"])
def test_what_diffusers_saves_as_a_variant_is_read_whole(tmp_path, shard_size):
    model = foreign("SD3.5").half()
    model.save_pretrained(tmp_path, variant="fp16", max_shard_size=shard_size)
    found = open_weights(tmp_path)
    assert same(dict(found.tensors), model.state_dict()) and not found.notes
    assert ".fp16." in found.file.name


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("variant", ["", ".fp16", ".bf16", ".ema"])
def test_shards_are_read_by_the_folder_and_by_the_index_and_one_of_them_is_not_the_whole(tmp_path, ending, variant):
    index = write_shards(tmp_path, ending, variant)
    assert same(opened(tmp_path)[0], weights()) and same(opened(index)[0], weights())
    for shard in tmp_path.glob(f"*of-00003*.{ending}"):
        with pytest.raises(ValueError, match=f"is one of 3 shards, not the whole; expected the index '.*{index.name}'"):
            open_weights(shard)
    index.unlink()
    with pytest.raises(ValueError, match=r"has shards like .*, but no index"):
        open_weights(tmp_path)
    with pytest.raises(ValueError, match=r"is one of 3 shards.*expected its index"):
        open_weights(shard)


@pytest.mark.parametrize("name", ["net.1of2.safetensors", "net_1_of_2.safetensors", "net-part1of2.safetensors"])
def test_a_part_by_its_name_is_not_the_whole_however_it_is_numbered(tmp_path, name):
    save_file(weights(), tmp_path / name)
    with pytest.raises(ValueError, match="is one of 2 shards, not the whole"):
        open_weights(tmp_path / name)


def test_a_lone_shard_of_one_is_the_whole(tmp_path):
    save_file(weights(), tmp_path / "model-00001-of-00001.safetensors")
    assert same(opened(tmp_path / "model-00001-of-00001.safetensors")[0], weights())


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_a_shard_that_is_lost_cut_short_or_holds_less_than_the_index_says_is_named(tmp_path, ending):
    index = write_shards(tmp_path / "whole", ending)
    second = f"{STEM}-00002-of-00003.{ending}"
    for damage in ("lost", "cut", "less"):
        shutil.copytree(tmp_path / "whole", tmp_path / damage)
    (tmp_path / "lost" / second).unlink()
    (tmp_path / "cut" / second).write_bytes((tmp_path / "whole" / second).read_bytes()[:300])
    (save_file if ending == "safetensors" else torch.save)({"other": torch.ones(2)}, tmp_path / "less" / second)
    with pytest.raises(ValueError, match=f"{index.name}' lists shards that are missing beside it: {second}"):
        open_weights(tmp_path / "lost")
    with pytest.raises(ValueError, match=f"{second}' is .*(not a complete safetensors file|cut short)"):
        open_weights(tmp_path / "cut")
    with pytest.raises(ValueError, match=f"says that {second} holds '.*', which it does not"):
        open_weights(tmp_path / "less")


def test_an_index_of_nothing_and_a_json_file_that_is_no_index_are_refused(tmp_path):
    for name, content, said in (
        ("a.json", {"weight_map": {}}, "lists no tensor"),
        ("b.json", {"error": "not found"}, "a JSON text that begins"),
        ("c.json", {"weight_map": [1]}, "is not the index of a sharded model"),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        with pytest.raises(ValueError, match=said):
            open_weights(tmp_path / name)


def test_of_two_variants_the_plain_one_is_read_and_the_other_is_named(tmp_path):
    save_file(weights(1), tmp_path / f"{STEM}.safetensors")
    for variant in ("fp16", "non_ema"):
        save_file(weights(2), tmp_path / f"{STEM}.{variant}.safetensors")
    tensors, notes = opened(tmp_path)
    assert same(tensors, weights(1))
    assert "fp16" in notes[0] and "non_ema" in notes[0] and "not read" in notes[0]
    assert same(opened(tmp_path, "model")[0], weights(2))
    write_shards(tmp_path, variant=".ema", seed=3)
    assert same(opened(tmp_path, "ema")[0], weights(3)) and open_weights(tmp_path, "ema").taken == "ema"
    assert same(opened(tmp_path)[0], weights(1))


def test_of_several_names_of_weights_diffusers_own_comes_first_and_others_are_named_or_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file(weights(1), tmp_path / f"{STEM}.fp16.safetensors")
    save_file(weights(2), tmp_path / "model.safetensors")
    tensors, notes = opened(tmp_path)
    assert same(tensors, weights(1)) and "beside it and not read: model.safetensors" in notes[0]
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    save_file(weights(1), tmp_path / "step_1.safetensors")
    assert same(opened(tmp_path)[0], weights(1))
    save_file(weights(2), tmp_path / "step_2.safetensors")
    with pytest.raises(ValueError, match=r"holds step_1\.safetensors, step_2\.safetensors; expected one of them"):
        open_weights(tmp_path)


def test_an_index_of_fewer_shards_than_their_names_say_is_refused(tmp_path):
    index = write_shards(tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"] = {n: shard for n, shard in content["weight_map"].items() if "-00002-" not in shard}
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"lists 2 of 3 shards: a part of the network"):
        open_weights(tmp_path)


def test_safetensors_come_before_pickles_and_a_pipeline_is_read_by_its_transformer(tmp_path):
    (tmp_path / "transformer").mkdir()
    torch.save(weights(1), tmp_path / "transformer" / f"{STEM}.bin")
    assert same(opened(tmp_path)[0], weights(1))
    save_file(weights(2), tmp_path / "transformer" / f"{STEM}.safetensors")
    assert same(opened(tmp_path)[0], weights(2))
    shutil.copytree(tmp_path / "transformer", tmp_path / "transformer_2")
    tensors, notes = opened(tmp_path)
    assert same(tensors, weights(2)) and any("transformer_2" in note for note in notes)


def test_what_several_processes_saved_is_said_how_to_put_together(tmp_path):
    (tmp_path / "fsdp").mkdir()
    (tmp_path / "fsdp" / "__0_0.distcp").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"python -m torch\.distributed\.checkpoint\.format_utils dcp_to_torch .*fsdp"):
        open_weights(tmp_path / "fsdp")
    step = tmp_path / "deepspeed" / "global_step10"
    step.mkdir(parents=True)
    torch.save({"module": weights()}, step / "mp_rank_00_model_states.pt")
    with pytest.raises(ValueError, match=r"run the zero_to_fp32\.py .*or name '.*mp_rank_00_model_states\.pt'"):
        open_weights(tmp_path / "deepspeed")
    assert same(opened(step / "mp_rank_00_model_states.pt")[0], weights())


def test_a_folder_of_an_adapter_is_called_one(tmp_path):
    save_file({"a.lora_A.weight": torch.ones(2, 2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="is an adapter"):
        open_weights(tmp_path)


def halves():
    """The weights in two parts, of other blocks and of other tensors of the same blocks."""
    yield tuple({n: t for n, t in weights().items() if n.startswith("blocks.0") == first} for first in (True, False))
    yield tuple({n: t for n, t in weights().items() if n.endswith("bias") == first} for first in (True, False))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model_part1.safetensors", "model_part2.safetensors"),
        ("dit-00001.safetensors", "dit-00002.safetensors"),
        ("net_rank9.pt", "net_rank10.pt"),
        ("model.safetensors.0", "model.safetensors.1"),
        ("stage0.safetensors", "stage1.safetensors"),
        ("part-a.safetensors", "part-b.safetensors"),
    ],
)
def test_the_first_of_files_that_are_numbered_alike_is_no_whole_network(tmp_path, one, other):
    for first, second in halves():
        save = torch.save if one.endswith(".pt") else save_file
        save(first, tmp_path / one)
        save(second, tmp_path / other)
        for name, beside in ((one, other), (other, one)):
            with pytest.raises(ValueError, match=f"{name}' is a part of the network, as {beside} beside it is another"):
                open_weights(tmp_path / name)


def test_a_checkpoint_of_the_next_step_beside_one_takes_nothing_from_it(tmp_path):
    for number in (1, 2):
        save_file(weights(number), tmp_path / f"step_{number}.safetensors")
        save_file({"blocks.0.a.lora_A.weight": torch.ones(number, 8)}, tmp_path / f"rank{number}.safetensors")
    assert same(opened(tmp_path / "step_1.safetensors")[0], weights(1))
    assert open_adapter(tmp_path / "rank1.safetensors")


@pytest.mark.parametrize("name", ["mp_rank_00_model_states.pt", "consolidated.00.pth"])
def test_what_one_of_several_processes_saved_is_a_part_though_its_names_are_all_there(tmp_path, name):
    for number in (0, 1):
        torch.save({"module": weights()}, tmp_path / name.replace("00", f"0{number}"))
    with pytest.raises(ValueError, match="is a part of the network"):
        open_weights(tmp_path / name)


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_index_that_counts_more_than_its_shards_hold_is_refused_but_not_one_of_full_width(tmp_path, ending):
    index = write_shards(tmp_path, ending)
    content = json.loads(index.read_text())
    num_bytes = sum(tensor.nbytes for tensor in weights().values())
    for total, is_refused in ((num_bytes, False), (2 * num_bytes, False), (num_bytes + 4096, True)):
        index.write_text(json.dumps(content | {"metadata": {"total_size": total}}))
        if is_refused:
            with pytest.raises(ValueError, match=r"counts .* bytes, and its tensors have .*: a part of the network"):
                open_weights(index)
        else:
            assert same(opened(index)[0], weights())


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_of_a_tensor_in_two_shards_the_one_is_read_that_the_index_names(tmp_path, ending):
    index = write_shards(tmp_path, ending)
    first, last = (tmp_path / f"{STEM}-0000{number}-of-00003.{ending}" for number in (1, 3))
    own, other = (list(weights().items())[number::3] for number in (0, 2))
    (save_file if ending == "safetensors" else torch.save)({**dict(other), own[0][0]: own[0][1] + 1}, last)
    assert first.is_file() and same(opened(index)[0], weights())


@pytest.mark.parametrize("beside", ["ema", "ema_transformer", "transformer_ema", "ema.pt", "ema.safetensors"])
@pytest.mark.parametrize("inner", [".", "transformer"])
def test_averages_that_lie_beside_the_weights_are_named(tmp_path, beside, inner):
    (tmp_path / inner).mkdir(exist_ok=True)
    save_file(weights(), tmp_path / inner / f"{STEM}.safetensors")
    if beside.endswith(("pt", "safetensors")):
        (tmp_path / beside).write_bytes(b"PK")
    else:
        (tmp_path / beside).mkdir()
    tensors, notes = opened(tmp_path)
    assert same(tensors, weights()) and len(notes) == 1
    assert f"read {tmp_path / inner / STEM}.safetensors" in notes[0] and str(tmp_path / beside) in notes[0]


@pytest.mark.parametrize("average", ["0001_ema.pt", "ema_0.999_0001.pt", "ema.safetensors"])
def test_averages_in_another_file_are_named_where_they_are_asked_for_and_where_they_are_not(tmp_path, average):
    torch.save({"model": weights()}, tmp_path / "0001.pt")
    (tmp_path / average).write_bytes(b"PK")
    with pytest.raises(ValueError, match=f"no set of weights 'ema'.*may lie in .*{average}"):
        open_weights(tmp_path / "0001.pt", "ema")
    [note] = open_weights(tmp_path / "0001.pt").notes
    assert average in note


@pytest.mark.parametrize(
    ("raw", "averaged"), [("unet", "unet_ema"), ("model", "ema"), ("checkpoints", "checkpoints-ema")]
)
def test_averages_in_another_folder_are_named(tmp_path, raw, averaged):
    for folder in (raw, averaged):
        (tmp_path / folder).mkdir()
        torch.save(weights(), tmp_path / folder / "0001.pt")
    assert str(tmp_path / averaged) in open_weights(tmp_path / raw / "0001.pt").notes[0]
    assert not open_weights(tmp_path / averaged / "0001.pt").notes


def test_a_file_that_is_called_an_average_is_one(tmp_path):
    for content in (weights(), {"model": weights()}):
        torch.save(content, tmp_path / "0001_ema.pt")
        assert (
            open_weights(tmp_path / "0001_ema.pt").taken == open_weights(tmp_path / "0001_ema.pt", "ema").taken == "ema"
        )
