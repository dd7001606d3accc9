"""A verb's options out of words: every field of a frozen dataclass is a flag, or a word in its place, with help."""

import contextlib
import io
import json
import logging
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
import tyro.extras

from adaln.cli.help import ALL, entries, page
from adaln.cli.parse_errors import one_line
from adaln.codec import encode
from adaln.conditioning import Scheme, scheme
from adaln.config import PRESETS, RunConfig, from_dict, log_interval, to_dict
from adaln.files import reading
from adaln.hub import PREFIX
from adaln.models import ModelConfig, model_named, own_network
from adaln.processes import PROCESSES, ProcessConfig

T = TypeVar("T")
FETCHED = "fetched"
"""Marks a field of which `parse` gives the place, having fetched it."""
Flat = Annotated[T, tyro.conf.arg(name="")]
"""A field whose own fields become flags without its name in front."""
Positional = Annotated[T, tyro.conf.Positional]
"""A field that is a word in its place, or several, before or behind the flags."""
OpenedFrom = Annotated[T, tyro.conf.Positional, FETCHED]
"""The same of runs or weights, whose names may be the hub's (`hf:ORG/NAME`): what it then holds is where they lie."""
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

    Raises `ValueError` in one line naming what was given, what was expected and the nearest flag. `--help` or
    `--help-all`, anywhere, prints and exits with 0.
    """
    if asked := {"-h", "--help", ALL} & set(words):
        _shown.get()(verb, cls, parser_of(cls, default), ALL in asked)
        raise SystemExit(0)
    panel = io.StringIO()
    try:
        with _warnings_shown(), contextlib.redirect_stderr(panel):
            options = _parsed(cls, verb, words, default)
            _check_given(options, verb, words)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(
            f"{one_line(panel.getvalue(), words, flags_of(cls, default))}; see adaln {verb} --help"
        ) from None
    return _fetched(options)


def _check_given(options: Any, verb: str, words: Sequence[str]) -> None:
    """`ValueError` for a flag of several values that was given none: it would leave out what its name promises."""
    alone = [word for word, after in pairwise([*words, "--"]) if word.startswith("--") and after.startswith("--")]
    emptied = {flag for flag in alone if flag[2:].rpartition(".")[2].replace("-", "_") in _empty_fields(options)}
    if emptied:
        raise ValueError(f"{min(emptied)} expects one or more values; see adaln {verb} --help")


def _empty_fields(options: Any) -> set[str]:
    """Names of the fields, of those inside too, that hold no value of several."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    inner = [_empty_fields(value) for value in values.values() if is_dataclass(value)]
    return {name for name, value in values.items() if value in ((), {}, [])}.union(*inner)


def _fetched(options: T) -> T:
    """The options with paths in place of the hub's names, where a field may have these."""
    hints = get_type_hints(type(options), include_extras=True)
    values = {name: getattr(options, name) for name, hint in hints.items() if FETCHED in get_args(hint)[1:]}
    fetched = {name: _place(value) for name, value in values.items()}
    return options if fetched == values else replace(options, **fetched)  # type: ignore[type-var]


def _place(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_place, value))
    if not str(value).startswith(PREFIX):
        return value

    from adaln.runs.fetched import local

    return type(value)(local(value))


def flags_of(cls: type[T], default: T | None = None) -> set[str]:
    """All that its help names."""
    return {name for entry in entries(parser_of(cls, default)) for name in entry.names}


def parser_of(cls: type[T], default: T | None = None) -> Any:
    """What takes its words and knows its flags: as argparse's."""
    with _RULES, _warnings_shown(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of `get_parser`, beside which there is no other way
        parser: Any = tyro.extras.get_parser(
            cls,
            default=tyro.MISSING_NONPROP if default is None else default,
            config=(tyro.conf.AvoidSubcommands,),
        )
    return parser


def print_help(verb: str, cls: type, parser: Any, everything: bool) -> None:
    """For people."""
    print(page(verb, " ".join((cls.__doc__ or "").split()), parser, everything))


Shown = Callable[[str, type, Any, bool], None]
_shown: ContextVar[Shown] = ContextVar("shown", default=print_help)


@contextlib.contextmanager
def helping(shown: Shown) -> Iterator[None]:
    """In this block help is given to `shown` instead of being printed."""
    before = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(before)


def _parsed(cls: type[T], verb: str, words: Sequence[str], default: T | None) -> T:
    with _RULES:
        return tyro.cli(
            cls,
            prog=f"adaln {verb}",
            args=words,
            default=tyro.MISSING_NONPROP if default is None else default,
            config=(tyro.conf.AvoidSubcommands,),
        )


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
    """The last value of `--flag VALUE` or `--flag=VALUE`, and the words without it."""
    values, rest = take_options(words, flag)
    return values[-1] if values else None, rest


def take_options(words: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """All values of `--flag VALUE` or `--flag=VALUE`, and the words without: for choices that decide other flags."""
    rest, values = [], []
    iterator = iter(words)
    for word in iterator:
        name, equals, value_here = word.partition("=")
        if name != flag:
            rest.append(word)
        elif value := value_here if equals else next(iterator, ""):
            values.append(value)
        else:
            raise ValueError(f"{flag} expects a value")
    return values, rest


def take_group(words: Sequence[str], prefix: str) -> tuple[list[str], list[str]]:
    """The flags that begin so, each with what follows it, and the words without them."""
    taken: list[str] = []
    rest: list[str] = []
    into = rest
    for word in words:
        if word.startswith("--"):
            into = taken if word.startswith(prefix) else rest
        into.append(word)
    return taken, rest


def take_preset(words: Sequence[str]) -> tuple[str, RunConfig, list[str]]:
    """The name of a preset, or a run's folder; its config with what --config, --model and --process choose; the rest.

    Raises `ValueError` for an unknown name; without a preset, the words ask for help.
    """
    if words and words[0] in ("-h", "--help", ALL):
        words = ["digits", words[0]]
    file, words = take_option(words, "--config")
    model, words = take_option(words, "--model")
    process, words = take_option(words, "--process")
    if file and (not words or words[0].startswith("-")):
        preset, config = file, config_in(Path(file))
        words = [file, *words]
    else:
        preset = _place(first_word(words, "a preset", PRESETS))
        words = [preset, *words[1:]]
        config = config_in(Path(preset) / "config.json") if is_folder(preset) else PRESETS[preset]()
        config = config_in(Path(file), config) if file else config
        if preset in PRESETS and not file:
            config = _logged_often(config, words)
    if model:
        config = replace(config, model=model_named(model))
    if process:
        config = replace(config, process=PROCESSES[process])
    return preset, config, list(words)


def _logged_often(config: RunConfig, words: Sequence[str]) -> RunConfig:
    """A preset's config, logged as often as the steps that the words say want it, unless they say how often."""
    steps, every = (take_option(words, name)[0] for name in ("--steps", "--log-every"))
    if every is not None or steps is None or not steps.isdecimal():
        return config
    return replace(config, log_every=log_interval(config.log_every, int(steps)))


def is_folder(word: str) -> bool:
    """Whether that stands for a run's folder, not for a preset."""
    return word not in PRESETS and (Path(word) / "config.json").is_file()


def config_in(file: Path, base: RunConfig | None = None) -> RunConfig:
    """What a JSON or TOML file says of a run: all of it, or what is otherwise than in `base`.

    Scheme, model and process may be names. Raises `ValueError` that names the file and what is wrong in it.
    """
    with reading(file, "the config of a run"):
        text = file.read_text(encoding="utf-8")
        row = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        known = {"scheme": scheme, "model": model_named, "process": PROCESSES.__getitem__}
        row |= {name: encode(of(row[name])) for name, of in known.items() if isinstance(row.get(name), str)}
        return from_dict(row if base is None else _merged(to_dict(base), row))


def _merged(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A row with some of its fields changed; one of another kind takes the place of all its fields."""
    merged = dict(row)
    for name, value in changes.items():
        before = row.get(name)
        if name != "scheme" and isinstance(value, Mapping) and isinstance(before, Mapping):
            is_same = value.get("kind", before.get("kind")) == before.get("kind")
            merged[name] = _merged(before, value) if is_same else value
        else:
            merged[name] = value
    return merged


def take_factories(words: Sequence[str]) -> list[str]:
    """The words without `--model module:factory`; the networks that they name may then be opened."""
    values, rest = take_options(words, "--model")
    for value in values:
        if ":" in value:
            own_network(value)
        else:
            rest += ["--model", value]
    return rest


def usual_process(model: ModelConfig) -> ProcessConfig:
    """DDPM where a network predicts a variance too, else a linear flow."""
    return PROCESSES["ddpm" if model.outputs_per_channel == 2 else "linear-velocity"]


def check_suffix(path: Path, suffix: str, option: str = "out") -> None:
    """ValueError unless a file is called what it is, or will be."""
    if path.suffix != suffix:
        raise ValueError(f"{option} is {str(path)!r}; expected a name that ends in {suffix}")
