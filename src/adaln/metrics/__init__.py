"""Scores of generated images: features of two sets, and what their distance is."""

from adaln.metrics.classifier import LabelledImages, classifier_extractor
from adaln.metrics.collection import Origin, Statistics, collect
from adaln.metrics.comparability import differences, unlike_published
from adaln.metrics.evaluation import Scores, check_side, compare, evaluate, statistics
from adaln.metrics.extractors import EXTRACTORS, load_extractor
from adaln.metrics.features import Extractor, Features, function_extractor
from adaln.metrics.images import ImagesLike, open_images
from adaln.metrics.measures import METRICS, Score
from adaln.metrics.statistics_files import is_statistics, load_statistics, recorded_extractor, save_statistics

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "Extractor",
    "Features",
    "ImagesLike",
    "LabelledImages",
    "Origin",
    "Score",
    "Scores",
    "Statistics",
    "check_side",
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
