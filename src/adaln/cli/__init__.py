"""The command line: parses, calls, prints."""

from adaln.cli.commands import main

__all__ = ["main"]
