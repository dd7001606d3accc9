"""What the parser says of words that it cannot take, as one line: what was given, what was expected, the way on."""

import itertools
import re
from collections.abc import Collection, Sequence

UNKNOWN = "Unrecognized options: "
_FORMS = (
    (r"Error parsing (--\S+): invalid literal for int\(\) with base 10: (.*)", r"\1 is \2; expected an integer"),
    (r"Error parsing (--\S+): could not convert string to float: (.*)", r"\1 is \2; expected a number"),
    (r"Error parsing (--\S+): no type matching (.*) could be instantiated from \[(.*)\]\.?", r"\1 is \3; expected \2"),
    (
        r"Error parsing (--\S+): Could not find valid parse for arguments: \[(.*)\]",
        r"\1 is \2; expected one or more values of its kind, with spaces between",
    ),
    (r"Error parsing [^:]+: (.*)", r"\1"),  # our own words, of a value that no field or rule takes
    (r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)\.", r"\2 is \1; expected one of \3"),
    (r"Missing value for argument '(.*)'\. Expected 1 values\.", r"\1 expects a value"),
    (r"Missing value for argument '(.*)'\. Expected (\d+) values\.", r"\1 expects \2 values"),
)
"""The parser's sentences beside ours."""


def one_line(panel: str, words: Sequence[str], flags: Collection[str]) -> str:
    """The message of the panel that tyro draws (with or without a frame), and the flag that was meant.

    `flags` are all there are, `words` what was given.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", panel)
    lines = [line[2:].rstrip(" │") for line in plain.splitlines()[1:]]  # line 0 is a title, before each is a margin
    lines = [line if line.strip(" ─╯-") else "" for line in lines]  # a rule is now empty
    first = next((i for i, line in enumerate(lines) if line), 0)
    body = list(itertools.takewhile(bool, lines[first:]))
    if body and body[0].startswith("Missing from"):
        return _missing(body[1:])
    message = " ".join(line.strip() for line in body)
    if message.startswith(UNKNOWN) and (meant := _meant(message.removeprefix(UNKNOWN).split(", ")[0], words, flags)):
        return meant
    for form, ours in _FORMS:
        if match := re.fullmatch(form, message):
            return match.expand(ours).replace("{None}|", "None or ")
    suggestion = re.search(r"Perhaps you meant:\s+(--)?([\w.-]+)", " ".join(lines))
    return message + (f" (nearest: '--{suggestion[2]}')" if suggestion else "")


def _meant(unknown: str, words: Sequence[str], flags: Collection[str]) -> str:
    """A line on a flag that was given a value, was denied in another way than ours, or has a group before its name; ""
    where it is none of these."""
    negation_of = {flag: no for flag in flags if (no := re.sub(r"^--((?:.*\.)?)", r"--\1no-", flag)) in flags}
    either = {*negation_of, *negation_of.values()}
    for before, word in itertools.pairwise(words):
        if word == unknown and before.replace("_", "-") in either:
            return _takes_no_value(before, unknown, negation_of)
    for word in words:
        name, equals, value = word.partition("=")
        if equals and value == unknown and name.replace("_", "-") in either:
            return _takes_no_value(name, unknown, negation_of)
    said = _parts(unknown)
    for flag, no in negation_of.items():
        if "no" in said and said - {"no"} in (_parts(flag), _parts(flag.rpartition(".")[2])):
            return f"unknown option {unknown!r} (nearest: {no!r})"
    inner = [flag for flag in flags if flag.rpartition(".")[2] == unknown.lstrip("-").partition("=")[0]]
    return f"unknown option {unknown!r} (nearest: {inner[0]!r})" if unknown.startswith("--") and inner else ""


def _takes_no_value(name: str, value: str, negation_of: dict[str, str]) -> str:
    flag = next(flag for flag, no in negation_of.items() if name.replace("_", "-") in (flag, no))
    return f"{name} takes no value, got {value!r}; expected {flag} or {negation_of[flag]} alone"


def _parts(flag: str) -> set[str]:
    """The words of a flag; `no` is one wherever it begins another.

    >>> sorted(_parts("--data.no_flip")), sorted(_parts("--noflip"))
    (['data', 'flip', 'no'], ['flip', 'no'])
    """
    words = re.split(r"[._-]+", flag.lstrip("-").partition("=")[0])
    return {part for word in words for part in re.split(r"(?<=^no)(?=.)", word)}


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
