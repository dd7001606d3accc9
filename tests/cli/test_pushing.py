"""`adaln push` and `hf:ORG/NAME`, against a hub on loopback."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import adaln
from adaln.cli import main
from adaln.cli.pushing import _without_folders
from helpers.command_line import data, run
from helpers.hub_server import TOKEN, serving

KEPT = Path(__file__).parents[1] / "goldens" / "run" / "at_step_5"
WEIGHTS = KEPT / "checkpoints" / "000000005" / "ema.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with serving() as hub:
        reach(monkeypatch, hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # or as without hf_xet: weights go by LFS
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield hub


def reach(monkeypatch, endpoint):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def refused(capsys, *words):
    """The last line of a command that notes what it does before it fails."""
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in words])
    return capsys.readouterr().err.strip().splitlines()[-1]


def pushed(capsys):
    return data(capsys, "push", KEPT, "org/kept")


def test_a_pushed_run_is_opened_again_by_its_commit(hub, capsys):
    done = pushed(capsys)
    opened = adaln.open_run(done["hub"], device="cpu")
    assert done["hub"] == f"hf:org/kept@{done['commit']}"
    assert opened.path.name == f"org--kept-{done['commit'][:10]}"
    assert opened.manifest["hub"] == {"repo": "org/kept", "commit": done["commit"]}
    ours, theirs = load_file(WEIGHTS), opened.averaged_model()[0].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [of["fid"].value for of in adaln.scores_of(opened)] == pytest.approx([213.30447588340763])
    assert opened.metrics() == adaln.open_run(KEPT, device="cpu").metrics()


def test_weights_go_by_lfs_and_once(hub, capsys):
    done = pushed(capsys)
    by_lfs = [file for file in done["files"] if file.endswith(".safetensors")]
    put = [asked for asked in hub.asked if asked.startswith("PUT /lfs/objects/")]
    assert "checkpoints/000000005/ema.safetensors" in by_lfs and "README.md" not in by_lfs
    assert len(put) == len(hub.objects) == len(hub.verified) > 0
    assert hub.repos["org/kept"][done["commit"]]["checkpoints/000000005/ema.safetensors"] == WEIGHTS.read_bytes()
    assert hub.asked.count("POST /org/kept.git/info/lfs/objects/batch") == 1
    pushed(capsys)  # what the hub has is not sent again
    assert [asked for asked in hub.asked if asked.startswith("PUT ")] == put


@pytest.mark.slow
def test_commands_take_a_name_of_the_hub_where_they_take_a_run(hub, capsys):
    pushed(capsys)
    assert data(capsys, "audit", "hf:org/kept")["family"]
    sampled = data(capsys, "sample", "hf:org/kept", "--num-images", 2, "--sampler.steps", 2, "--device", "cpu")
    assert Path(sampled["samples"]).parts[:2] == ("runs", f"org--kept-{hub.commit_of('org/kept', 'main')[:10]}")
    assert data(capsys, "export", "hf:org/kept", "--out", "weights.safetensors")["step"] == 5
    assert len(adaln.describe("hf:org/kept")) > 3
    planned = run(capsys, "train", "hf:org/kept", "--optim.lr", "0.001", "--dry-run", "--device", "cpu")
    assert "1 to train or go on with" in planned and "runs/kept-" in planned


@pytest.mark.slow
def test_what_is_fetched_once_is_not_fetched_again_and_needs_no_hub(hub, capsys, monkeypatch):
    commit = pushed(capsys)["commit"]
    assert f"hf:org/kept@{commit}: fetching" in run_with_notes(capsys, "hf:org/kept")
    hub.asked.clear()
    assert f"hf:org/kept@{commit}: fetched before" in run_with_notes(capsys, "hf:org/kept")
    assert not [line for line in hub.asked if "/resolve/" in line]
    reach(monkeypatch, "http://127.0.0.1:9")
    notes = run_with_notes(capsys, "hf:org/kept")
    assert "the hub cannot be reached (http://127.0.0.1:9:" in notes
    assert f"taken is hf:org/kept@{commit}, fetched before" in notes


def run_with_notes(capsys, name):
    main(["audit", name])
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_second_push_replaces_the_first_in_one_commit(hub, capsys):
    pushed(capsys)
    stale = dict(list(hub.repos["org/kept"].values())[-1]) | {
        "checkpoints/000000003/ema.safetensors": b"",
        "LICENSE": b"",
    }
    hub.add("org/kept", stale)
    done = pushed(capsys)
    assert len(hub.repos["org/kept"]) == 4
    assert not [path for path in hub.repos["org/kept"][done["commit"]] if "000000003" in path]
    assert "LICENSE" in hub.repos["org/kept"][done["commit"]]


@pytest.mark.slow
def test_diffusers_loads_the_network_beside_the_run(hub, capsys, small_config, tmp_path):
    from diffusers import DiTTransformer2DModel

    pushed(capsys)
    files = list(hub.repos["org/kept"].values())[-1]
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / name).write_bytes(files[f"transformer/{name}"])
    assert DiTTransformer2DModel.from_pretrained(tmp_path).config.num_layers == 2


def test_the_card_says_what_was_trained_its_scores_and_what_they_compare_with(hub, capsys):
    pushed(capsys)
    card = list(hub.repos["org/kept"].values())[-1]["README.md"].decode()
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    metadata = yaml.safe_load(head)
    metrics = metadata["model-index"][0]["results"][0]["metrics"]
    assert {"type": "fid", "value": pytest.approx(213.304, abs=1e-3)}.items() <= {**metrics[0], "name": None}.items()
    for words in (
        "started as adaln-mix, on digits",
        "5,016 parameters, trained for 5 steps of 8 on 1,797 images in 10 classes (1 x 8 x 8)",
        "[170",
        "not comparable with Inception FID",
        "May be compared with scores in these features",
        'adaln.open_run("hf:org/kept")',
        'from_pretrained("org/kept", subfolder="transformer")',
        "adaln train --config config.json",
        "The optimiser's state is not here",
    ):
        assert words in body, words


def test_nothing_of_this_machines_folders_is_pushed(hub, capsys, tmp_path):
    file = tmp_path / "row.json"
    file.write_text(json.dumps({"data": {"path": "/home/me/pictures"}, "files": ["/tmp/a.npz"], "name": "a/b"}))
    assert json.loads(_without_folders(file)) == {"data": {"path": "pictures"}, "files": ["a.npz"], "name": "a/b"}


def test_only_weights_and_json_of_anyones_repository_are_fetched(hub, capsys):
    weights = WEIGHTS.read_bytes()
    files = {"transformer/config.json": b"{}", "transformer/diffusion_pytorch_model.safetensors": weights}
    files |= {f"transformer/diffusion_pytorch_model.{ending}": b"" for ending in ("fp16.safetensors", "bin", "py")}
    hub.add("org/other", files | {"README.md": b"", "text_encoder/a.safetensors": b""})
    assert data(capsys, "audit", "hf:org/other")["family"]
    assert sorted({line.split("/")[-1] for line in hub.asked if "/resolve/" in line}) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    data(capsys, "audit", "hf:org/other/transformer/diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("hf:org", "'hf:org' names nothing on the hub; expected hf:ORG/NAME"),
        ("hf:org/nosuch", "the hub has no model 'org/nosuch', or it is private"),
        ("hf:org/kept@v9", "hf:org/kept has no revision 'v9'; expected a branch, a tag or a commit"),
        ("hf:org/kept/vae", "hf:org/kept/vae does not exist; folders of the repository: checkpoints/"),
        ("hf:org/empty", "hf:org/empty is empty: nothing was pushed, or a push was stopped before its end"),
        ("hf:org/pickles", "holds no .safetensors file, there or in transformer/; .bin files, which may hold code"),
        ("hf:org/gated", "org/gated is gated: its terms are accepted at http://127.0.0.1"),
    ],
)
def test_what_the_hub_does_not_give_is_said_in_one_line(hub, capsys, name, line):
    pushed(capsys)
    hub.add("org/empty", {".gitattributes": b""})
    hub.add("org/pickles", {"pytorch_model.bin": b"", "config.json": b"{}"})
    hub.add("org/gated", {"model.safetensors": b"x"})
    hub.gated.add("org/gated")
    assert line in refused(capsys, "audit", name)


def test_a_hub_out_of_reach_is_called_so(hub, capsys, monkeypatch):
    reach(monkeypatch, "http://127.0.0.1:9")
    line = refused(capsys, "audit", "hf:org/kept")
    assert "the hub cannot be reached (http://127.0.0.1:9:" in line and "nothing was fetched before" in line
    assert "the hub cannot be reached (http://127.0.0.1:9:" in refused(capsys, "push", KEPT, "org/kept")


def test_a_storage_of_chunks_that_fails_is_one_line_though_its_library_has_no_class_for_it(hub, capsys, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("Task error: File reconstruction error: CAS Client Error:\n error sending request")

    pushed(capsys)
    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", failing)
    line = refused(capsys, "audit", "hf:org/kept")
    assert line.startswith("adaln: error: the storage behind http://127.0.0.1:")
    assert line.endswith("CAS Client Error: error sending request); try again later, or with HF_HUB_DISABLE_XET=1")


def test_a_push_without_a_token_or_stopped_or_over_something_else_leaves_what_is_there(hub, capsys, monkeypatch):
    hub.refused = 503
    assert "answers 503 for org/kept: try again later" in refused(capsys, "push", KEPT, "org/kept")
    assert "org/kept is empty" in refused(capsys, "audit", "hf:org/kept")
    hub.refused = 0
    hub.add("org/theirs", {"model.bin": b""})
    assert "org/theirs holds something else (model.bin)" in refused(capsys, "push", KEPT, "org/theirs")
    assert "'org' is no name of a repository" in refused(capsys, "push", KEPT, "org")
    monkeypatch.setenv("HF_TOKEN", "other")
    assert "answers 401 for org/kept: this is not allowed" in refused(capsys, "push", KEPT, "org/kept")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no token to push org/kept with; expected that of `hf auth login`" in refused(
        capsys, "push", KEPT, "org/kept"
    )


@pytest.mark.slow
def test_training_does_not_go_on_without_the_optimisers_state(hub, capsys):
    pushed(capsys)
    opened = adaln.open_run("hf:org/kept", device="cpu")
    with pytest.raises(ValueError, match="has no optimiser's state, as runs of the hub"):
        adaln.train(opened.config, opened.path, device="cpu")


def test_weights_of_the_hub_are_audited_by_a_program_too(hub):
    hub.add("org/other", {"diffusion_pytorch_model.safetensors": WEIGHTS.read_bytes()})
    assert adaln.audit("hf:org/other").num_blocks == 2
