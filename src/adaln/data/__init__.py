"""Images in, seeded endless batches out."""

from adaln.data.batches import Batches
from adaln.data.cache import default_cache
from adaln.data.dataset import DataConfig, Dataset
from adaln.data.loading import load
from adaln.data.pixels import to_model_range, to_uint8

__all__ = ["Batches", "DataConfig", "Dataset", "default_cache", "load", "to_model_range", "to_uint8"]
