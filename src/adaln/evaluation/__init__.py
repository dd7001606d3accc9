"""A run's checkpoints sampled and scored: made once, kept in files."""
