"""Layouts found by behaviour: of networks that nobody has described, and of known ones without their rows."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from adaln.analysis.audit import audit
from adaln.analysis.discovery import discover
from adaln.cli.auditing import audit_verb
from adaln.conditioning import UnknownLayout, family_named, family_text, find_layout, initialise, standard_inputs
from adaln.progress import noting
from helpers.zoo import SLOW, ZOO, zoo_network

QUICK = [
    "SD3Transformer2DModel",
    "Flux2Transformer2DModel",
    "Kandinsky6Transformer3DModel",
    "JoyImageEditTransformer3DModel",
]
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:In CPU autocast"),  # diffusers' own
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
]


class Mystery(nn.Module):
    """Gate first, through a tanh, then scale and shift, under names that no family has."""

    def __init__(self, width=12, depth=3):
        super().__init__()
        self.time = nn.Linear(1, 7)
        self.trunk = nn.ModuleList(
            nn.ModuleDict({"cond": nn.Linear(7, 3 * width), "body": nn.Linear(width, width)}) for _ in range(depth)
        )
        self.exit = nn.Linear(width, width)

    def forward(self, x, t):
        c = torch.nn.functional.silu(self.time(t[:, None]))
        for block in self.trunk:
            gate, scale, shift = block["cond"](c)[:, None].chunk(3, dim=-1)
            normed = torch.nn.functional.layer_norm(x, x.shape[-1:])
            x = x + torch.tanh(gate) * torch.relu(block["body"](normed * (1 + scale) + shift))
        return self.exit(x)


def mystery():
    torch.manual_seed(0)
    return Mystery(), {"x": torch.randn(4, 5, 12), "t": torch.tensor([0.1, 0.4, 0.6, 0.9])}


IDLE = {"ZImageTransformer2DModel patches": "all_final_layer.4-1", "SanaWMLTX2RefinerTransformer3DModel": "audio"}
"""Networks of which a part does not run, and a word of its names: nobody knows what it does, so it is not read."""


OTHER_HEADS = {
    "StableAudio3DiTModel": "a convolution follows its last projection",
    "DualTransformer2DModel ada_norm": "two networks, each with a last projection of its own",
    "ZImageTransformer2DModel patches": "one of its last layers does not run",
    "MiniMaxH3Transformer3DModel": "two outputs, one of which runs last",
    "MiniMaxH3Transformer3DModel square": "two outputs, one of which runs last",
    "RFD4ProteinaTransformer": "three outputs, one of which runs last",
}
"""Networks whose last projections are not the one map that runs last, and why."""


def roles(layout):
    return {(site.tensors()[0], site.rows.start, site.rows.stop, site.role, site.function) for site in layout.sites}


def check_the_roles_come_back(name, tmp_path):
    """Of a known network without its row, through a layout file."""
    network = zoo_network(name)
    known = find_layout(network)
    if known.sites:
        file = tmp_path / "layout.toml"
        file.write_text(family_text(discover(network, standard_inputs(network))), encoding="utf-8")
        found = find_layout(network, str(file), allow_unread=name in IDLE)
        assert bool(found.unread) == (name in IDLE)
        idle = IDLE.get(name, "\0")
        assert roles(found) == {role for role in roles(known) if idle not in role[0]}
        assert found.num_blocks == known.num_blocks
        assert (sorted(found.head) == sorted(known.head)) == (name not in OTHER_HEADS)


@pytest.mark.parametrize("name", QUICK)
def test_the_roles_of_a_network_come_back_without_its_row(name, tmp_path):
    check_the_roles_come_back(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in {*QUICK, *SLOW}])
def test_the_roles_of_every_network_of_diffusers_come_back_without_its_row(name, tmp_path):
    check_the_roles_come_back(name, tmp_path)


def test_a_network_of_unknown_names_is_found_described_and_started(tmp_path):
    network, inputs = mystery()
    family = discover(network, inputs)
    assert [(layer.name, layer.rows) for layer in family.layers] == [("trunk.N.cond", "body: gate(tanh) scale shift")]
    assert family.head == "exit"
    file = tmp_path / "mystery.toml"
    file.write_text(family_text(family), encoding="utf-8")
    started = initialise(network, "adaln-zero", family=str(file))
    assert (started.num_set, started.layout.num_blocks) == (9, 3)
    assert not any(block["cond"].weight.any() for block in network.trunk)
    assert not network.exit.weight.any()
    result = audit(network, inputs, str(file))
    assert [energy.ratio for energy in result.energies] == [0, 0, 0]
    assert "every block begins" not in str(result.findings)  # its blocks are no modules that take tokens


def test_a_network_without_a_known_head_says_so_and_refuses_starts_of_it(tmp_path):
    network, inputs = mystery()
    family = replace(discover(network, inputs), head="")
    caveats = [finding.text for finding in audit(network, inputs, family).findings if finding.kind == "head"]
    assert caveats == [find_layout(network, family).caveat] and "no last projection of" in caveats[0]
    with pytest.raises(ValueError, match=r"scheme 'head-normal' starts the last projection, and of .* none is known"):
        initialise(network, "head-normal", family=family)
    exit = network.exit.weight.clone()
    assert initialise(network, "torch-default", family=family).num_set == 9
    assert torch.equal(network.exit.weight, exit)


def test_the_layout_holds_at_another_depth_and_width():
    network, inputs = mystery()
    family = discover(network, inputs)
    assert len(find_layout(Mystery(width=20, depth=5), family).sites) == 15


def test_a_network_without_conditioning_has_no_layout():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(UnknownLayout, match="nothing in Sequential shifts, scales or gates"):
        discover(network, {"input": torch.randn(2, 3, 4)})


FACTORY = """
from {module} import mystery as network
"""


def test_the_command_writes_the_layout_and_takes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mystery_factory.py").write_text(FACTORY.format(module=__name__), encoding="utf-8")
    answer = audit_verb(["mystery_factory:network", "--discover", "--out", "mystery.toml"])
    assert answer.data["layers"][0]["rows"] == "body: gate(tanh) scale shift"
    assert family_named("mystery.toml")[0] == "mystery"
    audited = audit_verb(["mystery_factory:network", "--layout", "mystery.toml"])
    assert audited.data["family"] == "mystery" and audited.data["num_blocks"] == 3


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x, dim=1).real


MIXERS = {
    "attention": nn.MultiheadAttention(12, 2, batch_first=True),
    "attention, tokens first": nn.MultiheadAttention(12, 2),
    "encoder layer": nn.TransformerEncoderLayer(12, 2, 12, batch_first=True),
    "recurrence": nn.GRU(12, 12, batch_first=True),
    "convolution": nn.Conv1d(5, 5, 3, padding=1),
    "spectrum": Spectrum(),
}


class Branched(nn.Module):
    """Two branches in a block, the first of which mixes tokens by whatever module it is given."""

    def __init__(self, mixer):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"by_time": nn.Linear(1, 72), "mix": mixer, "ff": nn.Linear(12, 12)}) for _ in range(2)
        )

    def forward(self, x, t):
        for block in self.blocks:
            shift, scale, gate, *of_ff = block["by_time"](t[:, None])[:, None].chunk(6, dim=-1)
            h = nn.functional.layer_norm(x, (12,)) * (1 + scale) + shift
            mixed = block["mix"](*[h] * (3 if isinstance(block["mix"], nn.MultiheadAttention) else 1))
            x = x + gate * (mixed[0] if isinstance(mixed, tuple) else mixed)
            h = nn.functional.layer_norm(x, (12,)) * (1 + of_ff[1]) + of_ff[0]
            x = x + of_ff[2] * block["ff"](h)
        return x


@pytest.mark.parametrize("name", MIXERS)
def test_rows_act_in_the_branch_whose_module_the_tokens_enter_however_it_mixes_them(name):
    family = discover(Branched(MIXERS[name]), {"x": torch.randn(4, 5, 12), "t": torch.rand(4)})
    assert [layer.rows for layer in family.layers] == ["mix: shift scale gate; ff: shift scale gate"]


@pytest.mark.parametrize("factory", ["small", "with_variance", "Small", "for_any_data"])
def test_inputs_are_of_the_data_that_a_factory_is_called_with(factory):
    said = []
    with noting(said.append):
        answer = audit_verb([f"helpers.own_networks:{factory}", "--discover"])
    assert answer.data["layers"][0]["rows"] == "attn: shift scale gate; mlp: shift scale gate"
    assert [line for line in said if "digits' DataSpec(channels=1" in line] == said and len(said) == (
        factory != "small"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["helpers.own_networks:Block", "--discover"],
            r"'helpers.own_networks:Block', called with DataSpec.* TypeError",
        ),
        (
            ["helpers.own_networks:of_two", "--discover"],
            "wants width, spec; expected a factory that takes no more than",
        ),
        (
            ["helpers.own_networks:silent", "--discover"],
            "no standard inputs for Flat; expected inputs of your own.*spec =",
        ),
        (["net.pt", "--discover"], "cannot be run; expected module:factory"),
        (["m:f", "--layout", "a.toml", "--family", "Flux"], "expected one of them"),
        (["m:f", "--layout", "a.toml"], "layout file 'a.toml' does not exist"),
        (["m:f", "--layout", "a.json"], "expected .*toml"),
        (["m:f", "--out", "a.toml"], "expected both or none"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        audit_verb(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no \\[\\[layers\\]\\]"),
        ('[[layers]]\nname = "b.N.m"\nrows = "attn: gait"', "expected 'branch: roles"),
        ('[[layers]]\nname = "b.N.m"\nrows = "attn: gate(tahn)"', "expected 'branch: roles"),
        ('[[layer]]\nname = "b.N.m"', "layers"),
        ("not toml", "layout file"),
    ],
)
def test_a_layout_file_says_what_is_wrong_with_it(text, message, tmp_path):
    file = tmp_path / "layout.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        family_named(str(file))
