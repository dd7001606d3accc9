"""Scores of a run's checkpoints: how they are made, where they lie, how they go on over steps."""
