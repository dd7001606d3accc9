"""The scores by name; what they are is imported when one of them is first asked for."""

from typing import TYPE_CHECKING

from adaln.registry import Later, Registry

if TYPE_CHECKING:
    from adaln.metrics.registry import Metric

METRICS: "Registry[Metric]" = Registry(
    "score",
    dict.fromkeys(
        (
            "fid",
            "fdr",
            "sfid",
            "is",
            "precision",
            "recall",
            "precision-half",
            "recall-half",
            "kid",
            "mind",
            "density",
            "coverage",
            "cmmd",
        ),
        Later("adaln.metrics.registry:TABLE"),
    ),
    accepts="adaln.metrics.registry:Metric",
)
