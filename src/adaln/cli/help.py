"""What `--help` and `--help-all` print: the options that people use, with examples, or all there are."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from adaln.cli.guides import COMMON, GUIDES, Guide, extra_flags
from adaln.folding import folded

ALL = "--help-all"
UNKNOWN_WIDTH, WIDEST, BESIDE = 100, 120, 30
"""Columns where no terminal says how many, at most, and of the names beside what they mean."""
_NOTHING = ("None", "''", "", "False", "MISSING")


@dataclass(frozen=True, slots=True)
class Entry:
    """A word or a flag of a verb."""

    names: tuple[str, ...]
    """A flag and its negation; () of a word in its place."""
    metavar: str
    what: str
    group: str
    choices: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """As it is typed."""
        if len(self.names) == 2 and "no-" in self.names[1]:
            return self.names[1].replace("no-", "[no-]", 1)
        return " ".join([*self.names[:1], self.metavar]).strip()


def entries(parser: Any) -> list[Entry]:
    """All words and flags that a parser takes, in its order, without those of help."""
    return [
        Entry(
            tuple(action.option_strings),
            _metavar(action.metavar),
            _cleaned(action.help or "", bool(action.option_strings)),
            f"{group.title}: {' '.join(group.description.split())}" if group.description else str(group.title),
            tuple(re.findall(r"[^{},]+", match[0])) if (match := re.search(r"\{[^{}]*\}", str(action.metavar))) else (),
        )
        for group in parser._action_groups
        for action in group._group_actions
        if "--help" not in action.option_strings and "{fixed}" not in str(action.metavar)
    ]


def _metavar(metavar: object) -> str:
    """
    >>> _metavar("{None}|INT"), _metavar("[INT [INT ...]]"), _metavar("{None}|{FLOAT FLOAT}"), _metavar("STR")
    ('INT', 'INT...', 'FLOAT FLOAT', 'TEXT')
    """
    text = re.sub(r"\[(\S+) \[\1 \.\.\.\]\]", r"\1...", str(metavar or "").replace("{None}|", "").replace("None,", ""))
    if re.fullmatch(r"\{[A-Z ]+\}", text):
        text = text[1:-1]
    return re.sub(r"\bSTR\b", "TEXT", text).replace("{", "").replace("}", "").replace(",", "|")


def _cleaned(words: str, has_default: bool) -> str:
    """What a flag means in one line, with its default where that says something."""
    text = " ".join(words.split())
    for mark in ("(required)", "(repeatable)"):
        text = text.removesuffix(mark).rstrip()
    match = re.search(r" ?\((?:default|sets|fixed to): ([^()]*(?:\([^()]*\))?[^()]*)\)$", text)
    if not match:
        return text
    before, value = text[: match.start()], match[1]
    return (
        before
        if value in _NOTHING or "default" in before or not has_default
        else f"{before} (default: {value})".strip()
    )


def page(verb: str, what: str, parser: Any, everything: bool) -> str:
    """The help of a verb; `what` it is for."""
    guide, width = (
        GUIDES.get(verb.split()[0], Guide()),
        min(shutil.get_terminal_size((UNKNOWN_WIDTH, 0)).columns, WIDEST),
    )
    known = entries(parser)
    places = [entry for entry in known if not entry.names]
    extra = extra_flags(verb.split()[0])
    flags = [Entry((name,), "", text, "options") for name, text in extra.items()]
    said = {name.split()[0] for name in extra}  # which mean something else there than as fields
    flags += [entry for entry in known if entry.names and entry.names[0] not in said]
    chosen = flags if everything or not guide.flags else _chosen(flags, guide.flags)
    named = [entry.metavar for entry in places]
    lines = [" ".join(["usage: adaln", verb, *named, "[options]"]), "", folded(what, width), ""]
    if guide.takes_preset:
        lines += [folded("Defaults are those of the preset that stands before --help, else of digits.", width), ""]
    if places:
        lines += [*_listed(places, width), ""]
    for group, members in groupby(chosen, key=lambda entry: entry.group if everything else "options"):
        lines += [folded(group, width, further="  "), *_listed(list(members), width), ""]
    lines += _listed([Entry((name,), "", text, "") for name, text in COMMON], width)
    if len(chosen) < len(flags):
        lines += ["", f"These are {len(chosen)} of {len(flags)} options; adaln {verb} {ALL} shows all."]
    if guide.examples:
        lines += ["", "examples", *(f"  {example}" for example in guide.examples)]
    return "\n".join(lines)


def _chosen(flags: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    by_name = {entry.names[0].split()[0]: entry for entry in flags}
    return [by_name[name] for name in names]


def _listed(members: Sequence[Entry], width: int) -> list[str]:
    """Each with what it means beside it, or beneath where its name is long."""
    lines: list[str] = []
    for entry in members:
        indent = " " * BESIDE
        heading = f"  {entry.heading}"
        if len(heading) > BESIDE - 2:
            lines += [
                folded(heading, width, further="    "),
                *([folded(entry.what, width, indent, indent)] * bool(entry.what)),
            ]
        else:
            lines.append(folded(entry.what, width, heading.ljust(BESIDE), indent) if entry.what else heading)
    return lines
