"""Kandinsky and others that keep to no lineage."""

from adaln.conditioning.family import Family

ROWS: dict[str, Family] = {}
