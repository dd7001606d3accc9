"""Wan and its kin of the same build: one modulation that all blocks share, tables of shape (1, chunks, D) or flat."""

from adaln.conditioning.family import Family

ROWS: dict[str, Family] = {}
