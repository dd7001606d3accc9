"""The command line: parses, calls, prints."""

from adaln.cli.app import main

__all__ = ["main"]
