"""The run that a verb begins with."""

from collections.abc import Sequence
from dataclasses import replace

from adaln.cli.parsing import take_option, take_word, wants_help
from adaln.config import PRESETS, RunConfig
from adaln.models import MODELS
from adaln.processes import PROCESSES


def take_preset(words: Sequence[str]) -> tuple[str, RunConfig, list[str]]:
    """The preset's name, its config with the network and process that --model and --process choose, and the rest.

    Raises `ValueError` for an unknown name; without a preset, the words ask for help.
    """
    if not words or wants_help(words[:1]):
        words = ["digits", "--help"]
    preset, rest = take_word(words, f"a preset ({', '.join(PRESETS)})")
    config = PRESETS[preset]()
    model, rest = take_option(rest, "--model")
    process, rest = take_option(rest, "--process")
    if model:
        config = replace(config, model=MODELS[model])
    if process:
        config = replace(config, process=PROCESSES[process])
    return preset, config, rest
