"""`adaln completion`: a script by which a shell completes commands, flags and their values."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal

from adaln.cli.guides import GUIDES, extra_flags
from adaln.cli.help import ALL, entries
from adaln.cli.options import Positional, helping, named, parse
from adaln.cli.output import Output
from adaln.conditioning import SCHEMES
from adaln.config import PRESETS
from adaln.models import MODELS
from adaln.processes import PROCESSES
from adaln.studies import STUDIES
from adaln.studies.choices import OF_WEIGHTS

COMMON = ("--json", "--quiet", "--help", ALL)
BASH = """\
_adaln() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
    [[ $before == "=" ]] && before=${{COMP_WORDS[COMP_CWORD-2]}}
    [[ $word == "=" ]] && word=""
    if (( COMP_CWORD == 1 )); then
        words="{verbs}"
    else
        case "${{COMP_WORDS[1]}} $before" in
{values}
        *) [[ $word == -* ]] && case "${{COMP_WORDS[1]}}" in
{flags}
        esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _adaln adaln
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


@dataclass(frozen=True, slots=True)
class CompletionOptions:
    """Writes a script to standard output: eval "$(adaln completion bash)" in ~/.bashrc, likewise zsh in ~/.zshrc, and
    for fish: adaln completion fish > ~/.config/fish/completions/adaln.fish."""

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], named("SHELL")]
    """bash, zsh or fish."""


def completion_verb(words: list[str]) -> Output:
    """bash|zsh|fish: a script by which the shell completes commands, flags and their values."""
    shell = parse(CompletionOptions, "completion", words).shell
    flags = {verb: flags_of_verb(verb) for verb in verbs()}
    script = fish(flags) if shell == "fish" else ZSH * (shell == "zsh") + bash(flags)
    return Output({"shell": shell, "script": script}, [script.rstrip("\n")])


Flags = dict[str, tuple[str, ...]]
"""The flags of a verb, each with the values that it may have where these are known."""


def verbs() -> list[str]:
    """All commands."""
    from adaln.cli.commands import VERBS

    return [*VERBS]


def flags_of_verb(verb: str) -> Flags:
    """Those of `--help-all`, and `""`: what may follow the command itself."""
    from adaln.cli.commands import VERBS

    flags: Flags = {"": _first_words(verb)}

    def keep(verb: str, cls: type, parser: Any, everything: bool) -> None:
        for entry in entries(parser):
            flags.update({name: _values(entry.names[0], entry.choices) for name in entry.names})

    with helping(keep), suppress(SystemExit):
        if verb != "bench":
            getattr(import_module(f"adaln.cli.{VERBS[verb].module}"), f"{verb.replace('-', '_')}_verb")(["--help"])
    for name in extra_flags(verb):
        flags[name.split()[0]] = _values(name.split()[0], ())
    return flags | dict.fromkeys(COMMON, ())


def _first_words(verb: str) -> tuple[str, ...]:
    from adaln.cli.benching import BENCHMARKS

    if verb in GUIDES and GUIDES[verb].takes_preset:
        return tuple(PRESETS)
    known = {
        "study": (*STUDIES, *OF_WEIGHTS, "list"),
        "bench": tuple(BENCHMARKS),
        "data": ("inspect",),
        "help": tuple(verbs()),
    }
    return known.get(verb, ("bash", "zsh", "fish") if verb == "completion" else ())


def _values(flag: str, choices: Iterable[str]) -> tuple[str, ...]:
    known: dict[str, Iterable[str]] = {
        "--scheme": SCHEMES,
        "--versus": SCHEMES,
        "--model": MODELS,
        "--process": PROCESSES,
    }
    return tuple(known.get(flag, [choice for choice in choices if choice != "None"]))


def bash(flags: dict[str, Flags]) -> str:
    """For bash, and zsh by its emulation."""
    indent = " " * 8
    values = [
        f'{indent}"{verb} {flag or verb}") words="{" ".join(words)}" ;;'
        for verb, of_verb in flags.items()
        for flag, words in of_verb.items()
        if words
    ]
    names = [f'{indent}{verb}) words="{" ".join(filter(None, of_verb))}" ;;' for verb, of_verb in flags.items()]
    return BASH.format(verbs=" ".join([*flags, "help"]), values="\n".join(values), flags="\n".join(names))


def fish(flags: dict[str, Flags]) -> str:
    """For fish."""
    lines = [f"complete -c adaln -n __fish_use_subcommand -xa '{' '.join([*flags, 'help'])}'"]
    for verb, of_verb in flags.items():
        of = f"complete -c adaln -n '__fish_seen_subcommand_from {verb}'"
        for flag, words in [(flag, words) for flag, words in of_verb.items() if flag or words]:
            given = f" -xa '{' '.join(words)}'" if words else ""
            lines.append(f"{of}{f' -l {flag[2:]}' if flag else ''}{given}")
    return "\n".join(lines) + "\n"
