"""Scores of generated images: features of two sets, and what their distance is."""

from adaln.metrics.classifier import LabelledImages, classifier_extractor
from adaln.metrics.features import EXTRACTORS, Extractor, Features, function_extractor, load_extractor
from adaln.metrics.images import ImagesLike, open_images
from adaln.metrics.registry import METRICS, Metric, Score
from adaln.metrics.scores import Scores, check_source, compare, differences, evaluate, statistics, unlike_published
from adaln.metrics.statistics import (
    Origin,
    Statistics,
    collect,
    is_statistics,
    load_statistics,
    recorded_extractor,
    save_statistics,
)

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "Extractor",
    "Features",
    "ImagesLike",
    "LabelledImages",
    "Metric",
    "Origin",
    "Score",
    "Scores",
    "Statistics",
    "check_source",
    "classifier_extractor",
    "collect",
    "compare",
    "differences",
    "evaluate",
    "function_extractor",
    "is_statistics",
    "load_extractor",
    "load_statistics",
    "open_images",
    "recorded_extractor",
    "save_statistics",
    "statistics",
    "unlike_published",
]
