"""Scores of generated images: features of two sets, and what their distance is."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.metrics.classifier import LabelledImages as LabelledImages
    from adaln.metrics.classifier import classifier_extractor as classifier_extractor
    from adaln.metrics.comparability import differences as differences
    from adaln.metrics.comparability import rounding_differences as rounding_differences
    from adaln.metrics.comparability import unlike_published as unlike_published
    from adaln.metrics.feature_statistics import Statistics as Statistics
    from adaln.metrics.feature_statistics import StatisticsFile as StatisticsFile
    from adaln.metrics.feature_statistics import collect as collect
    from adaln.metrics.feature_statistics import load_statistics as load_statistics
    from adaln.metrics.feature_statistics import save_statistics as save_statistics
    from adaln.metrics.features import Extractor as Extractor
    from adaln.metrics.features import Features as Features
    from adaln.metrics.features import load_extractor as load_extractor
    from adaln.metrics.images import ImagesLike as ImagesLike
    from adaln.metrics.images import open_images as open_images
    from adaln.metrics.names import METRICS as METRICS
    from adaln.metrics.registry import Metric as Metric
    from adaln.metrics.registry import Score as Score
    from adaln.metrics.scores import Scores as Scores
    from adaln.metrics.scores import compare as compare
    from adaln.metrics.scores import evaluate as evaluate
    from adaln.metrics.scores import start_left as start_left
    from adaln.metrics.scores import statistics as statistics
    from adaln.metrics.sides import Source as Source
    from adaln.metrics.sides import check_request as check_request
    from adaln.metrics.sides import check_sides as check_sides
    from adaln.metrics.sides import parse_source as parse_source

__getattr__, __all__ = lazily(__name__)
