"""A verb's options out of words: every field of a frozen dataclass is a flag, or a word in its place, with help."""

import contextlib
import io
import itertools
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from adaln.conditioning import Scheme, scheme
from adaln.config import PRESETS, RunConfig
from adaln.models import MODELS, ModelConfig
from adaln.processes import PROCESSES, ProcessConfig

T = TypeVar("T")
Flat = Annotated[T, tyro.conf.arg(name="")]
"""A field whose own fields become flags without its name in front."""
Positional = Annotated[T, tyro.conf.Positional]
"""A field that is a word in its place, or several, before or behind the flags."""
Device = Annotated[
    str, tyro.conf.arg(help="cpu, cuda, mps, or auto: the fastest there is. Under torchrun each process has its own.")
]
"""Where a verb computes."""
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


def named(metavar: str, what: str | None = None) -> Any:
    """What help calls a field, and says of it where its docstring does not."""
    return tyro.conf.arg(metavar=metavar, help=what)


def parse(cls: type[T], verb: str, words: Sequence[str], default: T | None = None) -> T:
    """An instance of `cls` from command-line words, on top of `default`.

    Raises `ValueError` in one line naming what was given, what was expected and the nearest flag. `--help`, anywhere,
    prints and exits with 0.
    """
    panel = io.StringIO()
    words = ["--help"] if {"-h", "--help"} & set(words) else words  # behind a positional it would leave that out
    try:
        with _RULES, _warnings_shown(), contextlib.redirect_stderr(panel):
            return tyro.cli(
                cls,
                prog=f"adaln {verb}",
                args=words,
                default=tyro.MISSING_NONPROP if default is None else default,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(f"{_one_line(panel.getvalue())}; see adaln {verb} --help") from None


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """In this block warnings, as of broken plug-ins, go to the standard error of now, wherever it is redirected."""
    logger, handler = logging.getLogger("adaln"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def first_word(words: Sequence[str], what: str, known: Iterable[str]) -> str:
    """The word that decides which flags there are, hence comes first; `ValueError` says what was expected."""
    if not words or words[0].startswith("-"):
        expected = f"expected {what} ({', '.join(known)})"
        raise ValueError(f"{expected} first, got {words[0]!r}" if words else expected)
    return words[0]


def take_option(words: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of `--flag VALUE` or `--flag=VALUE`, and the words without it: for choices that decide other flags."""
    rest, value = [], None
    iterator = iter(words)
    for word in iterator:
        name, equals, value_here = word.partition("=")
        if name != flag:
            rest.append(word)
        elif not (value := value_here if equals else next(iterator, "")):
            raise ValueError(f"{flag} expects a value")
    return value, rest


def take_preset(words: Sequence[str]) -> tuple[str, RunConfig, list[str]]:
    """The preset's name, its config with the network and process that --model and --process choose, and the rest.

    Raises `ValueError` for an unknown name; without a preset, the words ask for help.
    """
    if not words or words[0] in ("-h", "--help"):
        words = ["digits", "--help"]
    preset = first_word(words, "a preset", PRESETS)
    config = PRESETS[preset]()
    model, rest = take_option(words, "--model")
    process, rest = take_option(rest, "--process")
    if model:
        config = replace(config, model=MODELS[model])
    if process:
        config = replace(config, process=PROCESSES[process])
    return preset, config, rest


def usual_process(model: ModelConfig) -> ProcessConfig:
    """DDPM where a network predicts a variance too, else a linear flow."""
    return PROCESSES["ddpm" if model.outputs_per_channel == 2 else "linear-velocity"]


def check_suffix(path: Path, suffix: str, option: str = "out") -> None:
    """ValueError unless a file is called what it is, or will be."""
    if path.suffix != suffix:
        raise ValueError(f"{option} is {str(path)!r}; expected a name that ends in {suffix}")


def _one_line(panel: str) -> str:
    """The message of the panel that tyro draws (with or without a frame), and the nearest flag that it suggests."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", panel)
    lines = [line[2:].rstrip(" │") for line in plain.splitlines()[1:]]  # line 0 is a title, before each is a margin
    lines = [line if line.strip(" ─╯-") else "" for line in lines]  # a rule is now empty
    first = next((i for i, line in enumerate(lines) if line), 0)
    body = list(itertools.takewhile(bool, lines[first:]))
    if body and body[0].startswith("Missing from"):
        return _missing(body[1:])
    suggestion = re.search(r"Perhaps you meant:\s+(--)?([\w.-]+)", " ".join(lines))
    nearest = f" (nearest: '--{suggestion[2]}')" if suggestion else ""
    return f"{' '.join(line.strip() for line in body)}{nearest}"


def _missing(lines: Sequence[str]) -> str:
    """What was expected, of lines that name it and, indented further, say what it is."""
    wanted: list[list[str]] = []
    for line in lines:
        if not line.startswith(" " * 8):
            wanted.append([line.strip()])
        else:
            wanted[-1].append(line.strip())
    parts = []
    for name, *words in wanted:
        what = " ".join(words).removesuffix("(required)").rstrip(" .")
        what = what[:1].lower() + what[1:]
        parts.append(f"{name} ({what})" if name.startswith("-") else what)
    return f"expected {' and '.join(parts)}"
