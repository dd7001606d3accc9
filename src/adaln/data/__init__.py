"""Images in, seeded endless batches out."""

from adaln.data.autoencoder import Autoencoder, LatentSpace, Renderer, open_autoencoder, renderer
from adaln.data.batches import Batches, Prefetched
from adaln.data.cache import default_cache
from adaln.data.dataset import DataConfig, Dataset, to_model_range, to_uint8
from adaln.data.encode import encode
from adaln.data.inspection import Inspection, RoundTrip, inspect, round_trip
from adaln.data.latents import LatentDataset
from adaln.data.open import FORMATS, Format, is_encoded, load, open_source
from adaln.data.published_sets import PUBLISHED_SETS, check_published, published_config
from adaln.data.shard_files import Index

__all__ = [
    "FORMATS",
    "PUBLISHED_SETS",
    "Autoencoder",
    "Batches",
    "DataConfig",
    "Dataset",
    "Format",
    "Index",
    "Inspection",
    "LatentDataset",
    "LatentSpace",
    "Prefetched",
    "Renderer",
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
    "to_model_range",
    "to_uint8",
]
