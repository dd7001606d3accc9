"""Images in, seeded endless batches out."""

from adaln.data.autoencoder import Autoencoder, Render, open_autoencoder, renderer
from adaln.data.batches import Batches, Prefetched
from adaln.data.dataset import DataConfig, Dataset
from adaln.data.encode import encode
from adaln.data.formats import Format, is_encoded, load, open_source
from adaln.data.inspection import Inspection, RoundTrip, inspect, round_trip
from adaln.data.latents import LatentDataset
from adaln.data.pictures import default_cache
from adaln.data.published_sets import PUBLISHED_SETS, check_published, published_config
from adaln.data.shard_files import Index

__all__ = [
    "PUBLISHED_SETS",
    "Autoencoder",
    "Batches",
    "DataConfig",
    "Dataset",
    "Format",
    "Index",
    "Inspection",
    "LatentDataset",
    "Prefetched",
    "Render",
    "RoundTrip",
    "check_published",
    "default_cache",
    "encode",
    "inspect",
    "is_encoded",
    "load",
    "open_autoencoder",
    "open_source",
    "published_config",
    "renderer",
    "round_trip",
]
