"""What of a network may be otherwise where its update order is measured."""

import json

import pytest

from adaln.cli import main


def test_the_network_of_a_preset_is_changed_by_its_own_flags(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["order", "digits", "--model.gate", "sigmoid", "--model.no-shift", "--scheme", "af3", "--iterations", "1"]
    main([*words, "--device", "cpu", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert list(data["orders"]) == ["af3"]
    names = data["orders"]["af3"]
    assert any("g" in name for name in names) and not {"W_b1", "W_b2"} & set(names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--model.gat", "tanh"], "(nearest: '--model.gate')"),
        (["digits", "--model.gate", "sigmoid"], "closed nowhere; expected open gates, as of adaln-gaussian"),
        (["run", "--model.gate", "tanh"], "'run' is a run, whose network is what it is; expected no --model.gate"),
    ],
)
def test_what_it_cannot_be_is_one_line(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        main(["order", *words, "--device", "cpu"])
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
