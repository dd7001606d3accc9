"""`adaln distributions`, `fit`, `order`, `explain` and the report that takes up what they found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaln.cli import main
from adaln.conditioning import SCHEMES, Role, find_sites
from adaln.config import PRESETS
from adaln.report import write_page
from adaln.runs import Run
from adaln.tensor_files import save_tensors
from adaln.views.orders import subject_of_run
from adaln.views.run_page import run_page, with_saved
from helpers.browser import CHROMIUM, chromium
from helpers.command_line import SMALL, fails, run
from helpers.weight_files import dit_weights

TRAINED = [*SMALL, "--checkpoint-every", "2", "--keep-checkpoints", "0", "--optim.lr", "1e-3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of 4 steps under two schemes."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    for name, scheme in (("zero", "adaln-zero"), ("gaussian", "adaln-gaussian")):
        main(["train", "digits", *TRAINED, "--scheme", scheme, "--out", str(root / name)])
    return root


def gates(path, step):
    model, _ = Run.open(path).averaged_model(step)
    tensors = dict(model.named_parameters())
    return [tensors[site.weight][site.rows] for site in find_sites(tensors) if site.role is Role.GATE]


@pytest.mark.slow
def test_distributions_of_a_run_print_a_table_and_write_pictures_with_their_data(capsys, runs):
    text = run(capsys, "distributions", runs / "gaussian", "--by", "branch")
    assert "The last step in numbers" in text and "blocks.1" in text
    folder = runs / "gaussian" / "analysis" / "distributions-by-branch"
    pictures = sorted(file.name for file in folder.glob("*by-branch.*"))
    assert len(pictures) == 3 * 4 and {name.rpartition(".")[2] for name in pictures} == {"png", "pdf", "svg", "json"}
    assert "Gate weights W_α by branch" in (folder / "index.html").read_text()


@pytest.mark.slow
def test_distributions_over_runs_and_files_are_data_for_machines(capsys, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tensors(Path("other.safetensors"), torch_weights(runs / "zero"))
    words = ["distributions", runs / "zero", "other.safetensors", "--steps", "0", "4", "--weights", "model"]
    data = json.loads(run(capsys, *words, "--out", "out", "--by", "branch", "--json"))
    assert Path(data["report"]).parent.name == "out"
    assert {(row["source"], row["step"]) for row in data["groups"]} == {("zero", 4), ("other", None)}
    at = {(r["name"], r["block"], r["branch"], r["step"]): r for r in data["groups"]}
    last, expected = at["gate", "blocks.0", "mlp", 4], gate_weights(runs / "zero", 4)[1].double()
    assert last["moments"]["std"] == pytest.approx(float(expected.std(correction=0)))
    assert last["entropy"]["bins"] and last["entropy"]["estimator"] and last["gaussian"]["ks_distance"] < 1


def torch_weights(path):
    return dict(Run.open(path).averaged_model()[0].state_dict())


def gate_weights(path, step):
    tensors = dict(Run.open(path).new_model().state_dict())
    from adaln.tensor_files import TensorFile

    file = TensorFile(Run.open(path).folder(step) / "model.safetensors")
    return [file[site.weight][site.rows] for site in find_sites(tensors) if site.role is Role.GATE]


@pytest.mark.slow
def test_a_start_fitted_from_a_pilot_run_is_trained_with_at_once(capsys, runs, tmp_path):
    scheme, before = tmp_path / "mine.json", contents(runs)
    found = json.loads(run(capsys, "fit", runs / "gaussian", "--by-block", "--out", scheme, "--json"))
    assert contents(runs) == before
    assert Path(found["report"]) == tmp_path / "mine" / "index.html"
    measured = [gate.double().std(correction=0).item() for gate in block_gates(runs / "gaussian")]
    assert found["roles"]["gate"]["stds"] == pytest.approx(measured)
    words = ["train", "digits", *TRAINED, "--steps", "2", "--scheme", scheme, "--out", tmp_path / "next", "--json"]
    assert json.loads(run(capsys, *words))["scheme"] == "fit-gaussian-moments-by-block"
    start = dict(Run.open(tmp_path / "next").new_model().named_parameters())
    sites = [site for site in find_sites(start) if site.role is Role.GATE]
    for depth, std in enumerate(measured):
        rows = torch.cat([start[site.weight][site.rows].flatten() for site in sites if site.depth == depth])
        assert rows.std().item() == pytest.approx(std, rel=4 / (2 * rows.numel()) ** 0.5)  # 4 standard errors


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def block_gates(path):
    found = gate_weights(path, 4)
    return [torch.cat([a.flatten(), b.flatten()]) for a, b in zip(found[::2], found[1::2], strict=True)]


@pytest.mark.slow
def test_a_fit_prints_its_intervals_and_keeps_a_base(capsys, runs):
    text = run(capsys, "fit", runs / "gaussian", "--method", "robust", "--base.gate", "8e-4")
    scheme = json.loads((runs / "gaussian" / "analysis" / "fit" / "scheme.json").read_text())
    assert "8.000e-04" in text and "--scheme" in text
    assert scheme["gate"]["weight"]["std"] == pytest.approx(8e-4)
    assert scheme["scale"]["weight"]["std"] == pytest.approx(1e-3, rel=0.5)


@pytest.mark.slow
def test_files_of_several_sets_and_networks_are_read_as_asked_and_the_answer_says_which(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": dit_weights(1), "ema": dit_weights(2), "vae": {"a.b": torch.ones(2)}}, "both.ckpt")
    averaged = json.loads(run(capsys, "fit", "both.ckpt", "--out", "a.json", "--json"))
    raw = json.loads(run(capsys, "fit", "both.ckpt", "--prefix", "model.", "--out", "b.json", "--json"))
    assert averaged["roles"] != raw["roles"] and "'vae.'" in averaged["notes"][0]
    assert "read the averaged weights" in run(capsys, "fit", "both.ckpt", "--out", "a.json")
    assert "both: read the raw weights" in run(capsys, "distributions", "both.ckpt", "--weights", "model")
    save_tensors(Path("bare.safetensors"), dit_weights())
    assert "one set of weights only" in run(capsys, "distributions", "bare.safetensors", "--weights", "ema")


TABLE_1 = """yes – – – – – – – – – – –
yes – – yes yes yes yes – – yes – –
yes yes yes yes yes yes yes yes yes yes yes yes"""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_order_prints_table_1(capsys, runs, tmp_path, monkeypatch, optimizer):
    monkeypatch.chdir(tmp_path)
    text = run(
        capsys, "order", "tiny", "--size", "8", "--channels", "1", "--num-classes", "3", "--optimizer", optimizer
    )
    rows = [line.split()[1:13] for line in text.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])]
    assert rows == [line.split() for line in TABLE_1.splitlines()]


@pytest.mark.slow
def test_order_marks_what_differs_between_two_schemes(capsys, runs):
    words = ["order", runs / "zero", "--scheme", "adaln-mix", "--versus", "adaln-gaussian:1e-3", "--json"]
    data = json.loads(run(capsys, *words))
    expected = {"W_ffm", "W_att", "W_g2", "W_b2", "W_g1", "W_b1"}
    assert set(data["differing"]) - {"timestep embedder", "label embedder"} == expected
    table = (
        runs / "zero" / "analysis" / "order" / "1-1-adaln-mix-who-moves-when-custom-ditconfig-on-dig.md"
    ).read_text()
    assert table.count("– ≠") == len(data["differing"])


def test_order_of_a_preset_is_measured_on_its_data_under_another_process(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["order", "digits", "--scheme", "adaln-zero", "--process", "ddpm-cosine", "--iterations", "1", "--json"]
    data = json.loads(run(capsys, *words))
    assert data["model"] == "tiny on digits"
    assert {name for name, moves in data["orders"]["adaln-zero"].items() if moves[0]} == {"W_f"}


@pytest.mark.parametrize(("gate", "own", "expected"), [("sigmoid", "af3", "af3"), ("static", "rezero", "adaln-zero")])
def test_a_run_whose_gates_cannot_be_zero_has_its_own_order_by_default(tmp_path, gate, own, expected):
    config = PRESETS["digits"]()
    run_of = replace(config, model=replace(config.model, gate=gate), scheme=SCHEMES[own])
    assert subject_of_run(Run(tmp_path, run_of)).default_scheme().name == expected


def test_the_measured_network_stays_untouched(runs):
    subject = subject_of_run(Run.open(runs / "zero"))
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    from adaln.conditioning import adamw

    subject.order(SCHEMES["adaln-gaussian"], adamw, 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.model.state_dict().items())


@pytest.mark.slow
def test_explain_says_what_no_histogram_tells_and_walks_to_the_other_run(capsys, runs):
    text = run(capsys, "explain", runs / "zero", runs / "gaussian", "--num-batches", "2", "--device", "cpu")
    assert "gate shuffled" in text and "loss rises by up to" in text
    section = json.loads((runs / "zero" / "analysis" / "explain" / "section.json").read_text())
    by_title = {block["title"]: block for block in section["blocks"] if isinstance(block, dict)}
    line = by_title["Loss on the line between two runs"]["series"][0]["y"]
    trained = by_title["The same histogram is not the same point"]["rows"][0][1]["value"]
    assert line[0] == pytest.approx(trained, rel=1e-6) and len(line) == 11
    gates = by_title["Gate size by depth and time"]
    assert gates["rows"] == ["blocks.0 attn", "blocks.0 mlp", "blocks.1 attn", "blocks.1 mlp"]
    assert gates["columns"][0] == "t = 0" and gates["columns"][-1] == "t = 999"
    stream = by_title["Residual stream: cosine with the block before"]
    assert stream["rows"] == ["blocks.0", "blocks.1"] and stream["columns"] == gates["columns"]
    assert len(by_title["Condition vectors of different classes"]["rows"]) == len(gates["columns"])


def test_shuffled_values_cost_exactly_what_the_shuffled_network_loses(runs):
    from adaln.analysis import permute_role
    from adaln.views.explain import SHUFFLES, Probe, elsewhere

    probe = Probe.of(Run.open(runs / "gaussian"), None, 2)
    (table,) = elsewhere(probe)
    (row,) = [row for row in table.rows if row[0] == "gate shuffled"]
    losses = []
    for seed in range(SHUFFLES):
        model, _ = probe.run.averaged_model()
        permute_role(model, Role.GATE, seed)
        losses += probe.losses(model)
    assert row[1].value == pytest.approx(sum(losses) / len(losses))


class Runs:
    """Unpickling this would write a file."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distributions"], "expected runs or files of weights"),
        (["distributions", "nowhere.pt"], "nowhere.pt"),
        (["distributions", "evil.pt"], "cannot be read as weights alone"),
        (["distributions", "cut.safetensors"], "cut.safetensors"),
        (["distributions", "RUN", "--steps", "7"], "it has checkpoints at [2, 4]"),
        (["distributions", "RUN", "--by", "layer"], "--by"),
        (["fit", "RUN", "--out", "scheme.toml"], "ends in .json"),
        (["fit", "RUN", "--step", "3"], "no checkpoint at step 3; it has [2, 4]"),
        (["fit", "RUN", "--method", "peek"], "--method"),
        (["order", "DiT-XL/3"], "nearest: 'DiT-XL/8'"),
        (["order", "tiny", "--versus", "adaln-zro"], "nearest: 'adaln-zero'"),
        (["order", "tiny", "--iterations", "0"], "expected at least 1"),
        (["order", "RUN", "--process", "ddpm"], "process of its own"),
        (["explain", "RUN", "RUN", "RUN"], "expected a run, or two, got 3"),
        (["explain", "RUN", "--num-batches", "1"], "at least 2"),
        (["explain", "RUN", "--step", "3"], "no complete checkpoint at step 3"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(capsys, runs, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Runs()}, "evil.pt")
    Path("cut.safetensors").write_bytes((runs / "zero/checkpoints/000000004/model.safetensors").read_bytes()[:-1])
    assert said in fails(capsys, *(runs / "zero" if word == "RUN" else word for word in words))
    assert {file.name for file in tmp_path.iterdir()} == {"evil.pt", "cut.safetensors"}


@pytest.mark.slow
def test_a_shared_line_is_refused_for_networks_of_two_shapes(capsys, runs, tmp_path):
    wide = ["--model.hidden-size", "32", *TRAINED[2:], "--steps", "2", "--out", tmp_path / "wide"]
    run(capsys, "train", "digits", *wide)
    assert "has shapes" in fails(capsys, "explain", runs / "zero", tmp_path / "wide", "--num-batches", "2")


@pytest.fixture(scope="module")
def report(runs):
    """The page of a run with what `fit`, `order` and `explain` found."""
    path = runs / "zero"
    for words in (["fit", path, "--by-block"], ["order", path], ["explain", path, runs / "gaussian"]):
        main([str(word) for word in words])
    return write_page(with_saved(run_page(Run.open(path)), path / "analysis"), path / "page.html")


SECTIONS = ["A start fitted from a pilot run", "Who moves when", "What the conditioning does"]


@pytest.mark.slow
def test_a_page_assembles_whatever_the_run_has(report):
    page = report.read_text()
    assert all(f"<h2>{heading}</h2>" in page for heading in ["Loss", *SECTIONS, "Config and manifest"])
    assert page.index("<h2>Config and manifest</h2>") > max(page.index(f"<h2>{heading}</h2>") for heading in SECTIONS)


@pytest.mark.slow
def test_a_report_has_the_distributions_and_every_picture_as_a_file(capsys, runs, report):
    run(capsys, "distributions", runs / "zero")
    run(capsys, "distributions", runs / "zero", "--by", "block")
    page = Path(json.loads(run(capsys, "report", runs / "zero", "--json"))["report"])
    headings = ["Distributions by role", "Distributions by block", *SECTIONS]
    assert all(f"<h2>{heading}</h2>" in page.read_text() for heading in headings)
    for title in ("gate-size-by-depth-and-time", "gate-weights-w-by-block", "attention-weights"):
        assert {file.suffix for file in page.parent.glob(f"*-{title}.*")} == {".png", ".pdf", ".svg", ".json"}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (Debian: apt-get install chromium)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_assembled_page_opens_in_a_browser_without_errors_and_without_requests(report, scheme):
    with chromium() as tab:
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.open(report)
        assert tab.of("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
        urls = [event["request"]["url"] for event in tab.of("Network.requestWillBeSent")]
        assert [url for url in urls if not url.startswith("data:")] == [report.as_uri()]
        headings = tab.value("[...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert set(SECTIONS) <= set(headings)
        shown = "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility())"
        assert tab.value(f"{shown}.length > 5 && {shown}.every(s => s.getBoundingClientRect().height > 50)")


@pytest.mark.slow
def test_random_numbers_of_the_analysis_are_its_own(runs, capsys):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    run(capsys, "explain", runs / "zero", "--num-batches", "2")
    assert torch.equal(before, torch.get_rng_state())
