"""Small networks, and what they are made for."""

from adaln.types import DataSpec

DIGITS = DataSpec(channels=1, height=8, width=8, num_classes=10)
