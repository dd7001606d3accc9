"""What is said of words that no flag takes: it begins with what was given, and names the flag that was meant."""

from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.cli.options import parse
from adaln.cli.parse_errors import one_line


@dataclass(frozen=True)
class Inner:
    flip: bool = False
    size: int | None = None
    lr: float = 1.0

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ValueError(f"inner.lr is {self.lr}; expected a number > 0")


@dataclass(frozen=True)
class Options:
    compile: bool = False
    steps: int = 4
    at: tuple[int, ...] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    inner: Inner = field(default_factory=Inner)


def refusal(*words: str) -> str:
    with pytest.raises(ValueError, match=r"; see adaln \w+ --help") as caught:
        parse(Options, "verb", words, Options())
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["--steps", "4.0"], "--steps is '4.0'; expected an integer"),
        (["--steps"], "--steps expects a value"),
        (["--betas", "1"], "--betas expects 2 values"),
        (["--at"], "--at expects one or more values"),
        (["--at", "--compile"], "--at expects one or more values"),
        (["--at", "1,2"], "--at is '1,2'; expected one or more values of its kind, with spaces between"),
        (["--inner.lr", "fast"], "--inner.lr is 'fast'; expected a number"),
        (["--inner.lr", "-1"], "inner.lr is -1.0; expected a number > 0"),
        (["--inner.size", "none"], "--inner.size is 'none'; expected None or INT"),
        (["--compile", "True"], "--compile takes no value, got 'True'; expected --compile or --no-compile alone"),
        (["--no-compile=1"], "--no-compile takes no value, got '1'; expected --compile or --no-compile alone"),
        (
            ["--inner.no_flip", "no"],
            "--inner.no_flip takes no value, got 'no'; expected --inner.flip or --inner.no-flip",
        ),
        (["--stpes", "3"], "Unrecognized options: --stpes, 3 (nearest: '--steps')"),
        (["--size", "3"], "unknown option '--size' (nearest: '--inner.size')"),
        (["--no-steps"], "Unrecognized options: --no-steps (nearest: '--steps')"),
    ],
)
def test_the_line_begins_with_what_was_given(words, begins):
    assert refusal(*words).startswith(begins)


@pytest.mark.parametrize("width", ["40", "200"])
def test_a_negation_in_any_other_spelling_names_ours_however_wide_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    for word in ("--no-inner.flip", "--no_inner.flip", "--noflip", "--inner.noflip", "--inner.flip.no", "--no-flip=1"):
        assert refusal(word) == f"unknown option {word!r} (nearest: '--inner.no-flip'); see adaln verb --help"


@settings(max_examples=50)
@given(st.sampled_from(["", "inner.", "a.b."]), st.from_regex(r"[a-z]+(-[a-z]+)?", fullmatch=True), st.booleans())
def test_every_flag_and_its_negation_take_no_value_in_either_form(prefix, name, has_equals):
    flags = {f"--{prefix}{name}", f"--{prefix}no-{name}"}
    for flag, value in product(flags, ("True", "0", "off")):
        panel = f"title\n  Unrecognized options: {value}\n"
        words = [f"{flag}={value}"] if has_equals else [flag, value]
        assert one_line(panel, ["x", *words], flags).startswith(f"{flag} takes no value, got {value!r}; expected --")
