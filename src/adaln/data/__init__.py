"""Images in, seeded endless batches out."""

from adaln.data.autoencoder import Autoencoder, LatentSpace, open_autoencoder
from adaln.data.batches import Batches, Prefetched
from adaln.data.cache import default_cache
from adaln.data.dataset import DataConfig, Dataset
from adaln.data.encoding import encode
from adaln.data.latents import Latents
from adaln.data.loading import load
from adaln.data.pixels import to_model_range, to_uint8

__all__ = [
    "Autoencoder",
    "Batches",
    "DataConfig",
    "Dataset",
    "LatentSpace",
    "Latents",
    "Prefetched",
    "default_cache",
    "encode",
    "load",
    "open_autoencoder",
    "to_model_range",
    "to_uint8",
]
