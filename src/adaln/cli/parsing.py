"""From words to frozen dataclasses: every field is a flag with help; a mistake is one line (`ValueError`)."""

import contextlib
import io
import itertools
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro

from adaln.conditioning import Scheme, scheme

T = TypeVar("T")
Flat = Annotated[T, tyro.conf.arg(name="")]
"""A field whose own fields become flags without its name in front."""
_RULES = tyro.constructors.ConstructorRegistry()


@_RULES.primitive_rule
def _scheme_rule(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    if info.type is not Scheme:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME|NAME:STD|FILE",
        instance_from_str=lambda words: scheme(words[0]),
        is_instance=lambda value: isinstance(value, Scheme),
        str_from_instance=lambda value: [value.name],
    )


def parse(cls: type[T], verb: str, words: Sequence[str], default: T | None = None) -> T:
    """An instance of `cls` from command-line words, on top of `default`.

    Raises `ValueError` in one line naming what was given, what was expected and the nearest flag. `--help` prints and
    exits with 0.
    """
    told = io.StringIO()
    try:
        with _RULES, contextlib.redirect_stderr(told):
            config = (tyro.conf.AvoidSubcommands,)
            if default is None:
                return tyro.cli(cls, prog=f"adaln {verb}", args=words, config=config)
            return tyro.cli(cls, prog=f"adaln {verb}", args=words, default=default, config=config)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_one_line(told.getvalue(), verb)) from None


def take_option(words: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of `--flag VALUE` or `--flag=VALUE`, and the words without it: for choices that decide other flags."""
    rest, value = [], None
    iterator = iter(words)
    for word in iterator:
        if word == flag:
            value = next(iterator, None)
            if value is None:
                raise ValueError(f"{flag} expects a value")
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return value, rest


def take_word(words: Sequence[str], what: str) -> tuple[str, list[str]]:
    """The first word, which must not be a flag, and the rest; `ValueError` says what was expected."""
    if not words or words[0].startswith("-"):
        raise ValueError(f"expected {what} first, got {words[0]!r}" if words else f"expected {what}")
    return words[0], list(words[1:])


def parse_after(
    cls: type[T], usage: str, words: Sequence[str], *expected: str, default: T | None = None
) -> tuple[T, list[str]]:
    """The options of a verb, and the words that come before them, one for each of `expected`; `--help` helps anywhere.

    Raises `ValueError` as `parse` and `take_word`.
    """
    if wants_help(words):
        parse(cls, usage, ["--help"], default)
    taken, rest = [], list(words)
    for what in expected:
        word, rest = take_word(rest, what)
        taken.append(word)
    return parse(cls, usage, rest, default), taken


def _one_line(panel: str, verb: str) -> str:
    """The message of the panel that tyro draws (with or without a frame), and the nearest flag that it suggests."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", panel)
    lines = [re.sub(r"^-{3,}$", "", line.strip(" │╭╮╰╯─")) for line in plain.splitlines()[1:]]  # line 0 is a title
    first = next((i for i, line in enumerate(lines) if line), 0)  # a rule is now empty
    body = list(itertools.takewhile(bool, lines[first:]))
    suggestion = re.search(r"Perhaps you meant:\s+(--)?([\w.-]+)", " ".join(lines))
    nearest = f" (nearest: '--{suggestion[2]}')" if suggestion else ""
    return f"{' '.join(body)}{nearest}; see adaln {verb} --help"


def wants_help(words: Sequence[str]) -> bool:
    """Whether help was asked for."""
    return bool({"-h", "--help"} & set(words))
