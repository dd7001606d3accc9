"""Help in two levels, and completion: what they name is there, and what documents use is named."""

import re
import shlex
import subprocess

import pytest

from adaln.cli import main
from adaln.cli.commands import VERBS
from adaln.cli.completion import flags_of_verb
from adaln.cli.guides import GUIDES
from adaln.cli.help import UNKNOWN_WIDTH
from helpers.command_line import fails, run
from helpers.documents import commands

FLAGS = {verb: flags_of_verb(verb) for verb in VERBS if verb != "bench"}


def shown(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([*words])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "bench"])
@pytest.mark.parametrize("level", ["--help", "--help-all"])
def test_help_has_no_artefacts_of_a_parser_and_no_line_longer_than_the_terminal(capsys, monkeypatch, verb, level):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = shown(capsys, verb, level)
    assert not re.search(r"\(default: \)|None\b.*\||[{}]|STR\b|\(required\)", text.partition("\nexamples")[0]), text
    for line in text.partition("\nexamples")[0].splitlines():
        assert len(line) <= UNKNOWN_WIDTH, line


@pytest.mark.parametrize("verb", GUIDES)
def test_examples_are_commands_whose_flags_there_are(capsys, verb):
    for example in GUIDES[verb].examples:
        words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
        assert words[0] == "adaln" and (of := words[1]) in VERBS
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert of == "bench" or used <= FLAGS[of].keys(), example
    assert len(GUIDES[verb].flags) <= 17 and (verb == "bench" or len(GUIDES[verb].flags or FLAGS[verb]) <= 32)


@pytest.mark.parametrize("verb", sorted({verb for verb, _ in commands()} & FLAGS.keys()))
def test_every_flag_that_a_document_uses_is_in_the_help_of_its_command(verb):
    used = {word.partition("=")[0] for of, words in commands() if of == verb for word in words if word.startswith("--")}
    kinds = ("--model.", "--process.", "--optim.")  # of other networks, processes and optimisers than the preset's
    missing = {flag for flag in used - FLAGS[verb].keys() if not flag.startswith(kinds)}
    assert not missing


def test_help_of_a_command_is_the_same_however_it_is_asked_for(capsys):
    assert shown(capsys, "help", "sample") == shown(capsys, "sample", "--help") == shown(capsys, "sample", "x", "-h")
    assert run(capsys, "help") == run(capsys, "--help") == run(capsys)
    assert "unknown command 'hlep'" in fails(capsys, "hlep")
    short, long = shown(capsys, "train", "--help"), shown(capsys, "train", "--help-all")
    assert "--model NAME" in short and "--process NAME" in short and "--json" in short and "examples" in short
    assert len(short.splitlines()) < 70 < len(long.splitlines())


@pytest.mark.slow
def test_quiet_says_nothing_but_what_goes_wrong(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--steps", "2", "--model.depth", "1", "--model.hidden-size", "16", "--device", "cpu", "--quiet")
    main(["train", "digits", *small])
    assert capsys.readouterr().err == ""
    assert "unknown preset" in fails(capsys, "train", "nowhere", "--quiet")


@pytest.mark.slow
def test_bash_completes_commands_presets_flags_and_values(capsys, tmp_path):
    script = tmp_path / "adaln.bash"
    script.write_text(run(capsys, "completion", "bash"))
    cases = {
        "adaln sam": ["sample"],
        "adaln train dig": ["digits"],
        "adaln train digits --scheme adaln-gaussian-v": ["adaln-gaussian-v2"],
        "adaln sample x --guidance.sc": ["--guidance.scale"],
        "adaln study quick": ["quickstart"],
    }
    for line, expected in cases.items():
        words = line.split()
        call = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _adaln; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", f"source {script}; {call}"], capture_output=True, text=True, check=True)
        assert done.stdout.split() == expected, line
    assert run(capsys, "completion", "zsh").startswith("autoload") and "-l scheme" in run(capsys, "completion", "fish")
