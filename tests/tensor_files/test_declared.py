"""A config that counts more blocks than the weights beside it hold: every command refuses the part for the network."""

import json

import pytest
from safetensors.torch import save_file

from adaln.tensor_files import open_weights
from adaln.tensor_files.declared import counts_in, fewer, lists_of_blocks
from helpers.command_line import fails
from helpers.weight_files import dit_weights

PUBLISHED = {
    "Flux": ({"num_layers": 19, "num_single_layers": 38}, {"transformer_blocks": 19, "single_transformer_blocks": 38}),
    "AuraFlow": (
        {"num_mmdit_layers": 4, "num_single_dit_layers": 32},
        {"joint_transformer_blocks": 4, "single_transformer_blocks": 32},
    ),
    "Kandinsky": (
        {"num_text_blocks": 2, "num_visual_blocks": 32},
        {"text_transformer_blocks": 2, "visual_transformer_blocks": 32},
    ),
    "Z-Image": (
        {"n_layers": 30, "n_refiner_layers": 2},
        {"layers": 30, "noise_refiner.layers": 1},
    ),
    "PRX": ({"depth": 16}, {"blocks": 16}),
    "LongCat": ({"dit_depth": 24}, {"blocks": 24, "text_conv_layer": 4}),
    "ACE-Step": ({"num_hidden_layers": 24}, {"model.layers": 24}),
    "official DiT": ({"depth": 28, "hidden_size": 1152}, {"blocks": 28}),
}
"""What published configs count, and how long the lists of blocks are."""


@pytest.mark.parametrize("network", PUBLISHED)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_every_count_is_met_and_one_block_less_is_seen(network, prefix):
    settings, lengths = PUBLISHED[network]
    whole = lists_of_blocks(f"{prefix}{name}.{i}.attn.weight" for name, n in lengths.items() for i in range(n))
    counts = counts_in(settings)
    assert not any(fewer(key, count, whole) for key, count in counts.items())
    longest = {key: max(v for v in lengths.values() if v == count) for key, count in counts.items() if count > 2}
    for key, count in longest.items():
        short = {name: numbers - {count - 1} if len(numbers) == count else numbers for name, numbers in whole.items()}
        assert fewer(key, count, short).startswith(str(count - 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"transformer_num_layers": 6, "layers_per_block": 9, "num_decoder_layers": 9, "num_text_layers": 9},
        {"num_layers": True, "depth": [9, 9], "num_blocks": None, "n_layer": "9", "num_heads": 9, "patch_size": 9},
        [{"num_layers": 9}],
        None,
    ],
)
def test_what_counts_no_blocks_of_the_network_is_no_reason_to_refuse_it(settings):
    lists = lists_of_blocks(dit_weights())
    assert not any(fewer(key, count, lists) for key, count in counts_in(settings).items())


@pytest.mark.slow
@pytest.mark.parametrize("key", ["num_layers", "depth", "n_layer", "n_layers", "num_blocks", "num_hidden_layers"])
@pytest.mark.parametrize("verb", ["audit", "fit", "distributions", "import"])
def test_less_than_the_config_counts_is_refused_by_every_command(tmp_path, capsys, key, verb):
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(dit_weights(depth=3), file)
    (tmp_path / "config.json").write_text(json.dumps({key: 4}))
    words = {"audit": [], "import": ["--model", "tiny", "--out", str(tmp_path / "r")]}
    for given_path in (tmp_path, file):
        line = fails(capsys, verb, str(given_path), *words.get(verb, ["--out", str(tmp_path / "o.json")]))
        assert f"config.json' says {key} 4, and the weights hold 3 blocks: a part of the network" in line


def test_a_gap_among_the_blocks_and_a_kind_that_is_missing_are_refused(tmp_path):
    tensors = dit_weights(depth=3)
    file = tmp_path / "net.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("blocks.1.")}, file)
    with pytest.raises(ValueError, match=r"holds blocks\.2 and no blocks\.1: a part of the network"):
        open_weights(file)
    save_file(tensors, file)
    (tmp_path / "config.json").write_text(json.dumps({"num_layers": 3, "num_single_layers": 6}))
    with pytest.raises(ValueError, match="says num_single_layers 6, and the weights hold no such block"):
        open_weights(file)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' is not the config of a network"):
        open_weights(file)
