"""Runs over the same seeds held against each other: tables, figures, verdicts in words, how they were made."""
