"""Scores of generated images: features of two sets, and what their distance is."""

from adaln.metrics.classifier import LabelledImages, classifier_extractor
from adaln.metrics.features import Extractor, Features, load_extractor
from adaln.metrics.images import ImagesLike, open_images
from adaln.metrics.registry import METRICS, Metric, Score
from adaln.metrics.scores import (
    Scores,
    Source,
    compare,
    differences,
    evaluate,
    parse_source,
    statistics,
    unlike_published,
)
from adaln.metrics.statistics import Statistics, StatisticsFile, collect, load_statistics, save_statistics

__all__ = [
    "METRICS",
    "Extractor",
    "Features",
    "ImagesLike",
    "LabelledImages",
    "Metric",
    "Score",
    "Scores",
    "Source",
    "Statistics",
    "StatisticsFile",
    "classifier_extractor",
    "collect",
    "compare",
    "differences",
    "evaluate",
    "load_extractor",
    "load_statistics",
    "open_images",
    "parse_source",
    "save_statistics",
    "statistics",
    "unlike_published",
]
