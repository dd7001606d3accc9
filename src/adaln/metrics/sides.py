"""The two sides of a comparison, and what is wrong with them or with a request before any features are known."""

from collections.abc import Sequence
from pathlib import Path

from adaln.metrics.feature_statistics import Statistics, StatisticsFile, is_statistics
from adaln.metrics.images import ImagesLike, ImageStream, open_images
from adaln.metrics.names import METRICS

Source = ImageStream | StatisticsFile | Statistics
"""What is compared, once it is known what it is."""


def parse_source(source: ImagesLike | Source, num_images: int | None = None) -> Source:
    """What is to be compared, told once for all who use it: a stream of images (the first so many), or statistics.

    ValueError where it is neither, as far as can be told without reading it whole.
    """
    if not isinstance(source, Statistics | StatisticsFile):
        if not is_statistics(source):
            return open_images(source, num_images)
        source = StatisticsFile(Path(source))
    if num_images is not None:
        raise ValueError(f"{num_images} images asked for of statistics, which cannot be cut; expected images")
    return source


def check_request(metrics: Sequence[str], replicates: int, batch_size: int, validation: object = None) -> None:
    """ValueError for a score that there is not and for a number out of range, before anything is read or drawn."""
    for metric in metrics:
        METRICS[metric]
    if "fdr" in metrics and validation is None:
        raise ValueError(
            "fdr needs a validation set, other images of what the reference is of; got none (--validation)"
        )
    if replicates < 0 or replicates == 1:
        raise ValueError(f"replicates is {replicates}; expected 0 for no bootstrap, or at least 2")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1 image")


def check_sides(sides: Sequence[Source], metrics: Sequence[str] | None = None) -> None:
    """ValueError for a side with too few images for what is asked for; FID's two, where nothing is.

    How many a file of statistics has is not known before it is read.
    """
    for name in metrics or ("fid",):
        for side in sides:
            if has_too_few(name, side):
                title, fewest = METRICS[name].title, METRICS[name].fewest
                count = _num_images(side)
                got = f"{side_name(side)}: got {count} image{'s' * (count > 1)}"
                raise ValueError(f"{got}, expected at least {fewest}, which {title} needs of either side")


def side_name(side: Source) -> str:
    """What it is called beside its scores."""
    match side:
        case Statistics():
            return side.origin.name
        case StatisticsFile():
            return str(side.path)
        case stream:
            return stream.name


def _num_images(side: Source) -> int:
    """Images that are known one by one; 0: not known."""
    match side:
        case Statistics():
            return side.origin.num_images if side.pool_rows is None else len(side.pool_rows)
        case StatisticsFile():
            return 0
        case stream:
            return stream.num_images


def has_too_few(metric: str, side: Source) -> bool:
    return 0 < _num_images(side) < METRICS[metric].fewest
