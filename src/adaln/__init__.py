"""Diffusion transformers under every conditioning scheme: train, audit, initialise, explain."""

__version__ = "0.1.0"
