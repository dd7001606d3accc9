"""Text in lines for people."""

import textwrap


def folded(text: str, width: int, indent: str = "", further: str = "") -> str:
    """Text in lines of at most that width but for longer words, which stay whole."""
    wrapper = textwrap.TextWrapper(
        width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(part for line in text.split("\n") for part in wrapper.wrap(line) or [""])
