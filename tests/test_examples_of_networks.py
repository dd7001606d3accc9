"""The networks in examples/ do what their page says: trained, drawn from, scored, audited and chosen for."""

import json
from pathlib import Path

import pytest

from adaln.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"
FLOW = ["--process", "linear-velocity", "--checkpoint-every", "10", "--batch-size", "8"]


@pytest.mark.slow
def test_a_transformer_of_diffusers_is_trained_drawn_from_audited_and_chosen_for(tmp_path, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    model = ["--model", "pixart:small"]

    def answer(*words):
        main([*words, *model, "--json"])
        return json.loads(capsys.readouterr().out)

    answer("train", "digits", *FLOW, "--steps", "20", "--scheme", "adaln-gaussian", "--out", "run")
    answer("sample", "run", "--num-images", "8", "--guidance.scale", "1.5", "--sampler.steps", "2", "--out", "x.npz")
    audited = answer("audit", "run", "--step", "0")
    assert audited["family"] == "PixArt" and len(audited["energies"]) == 8
    main(["audit", "pixart:small"])
    capsys.readouterr()
    schemes = ["--scheme", "adaln-zero", "--scheme", "adaln-gaussian", "--no-fit", "--by", "loss"]
    chosen = answer("choose", "digits", *FLOW, "--steps", "10", *schemes, "--budget", "6runs", "--jobs", "1")
    assert {row["start"] for row in chosen["rows"]} == {"adaln-zero", "adaln-gaussian"}
