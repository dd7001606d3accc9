"""Images in, seeded endless batches out."""

from adaln.data.autoencoder import Autoencoder, LatentSpace, open_autoencoder
from adaln.data.batches import Batches, Prefetched
from adaln.data.cache import default_cache
from adaln.data.dataset import DataConfig, Dataset
from adaln.data.encoding import encode
from adaln.data.inspection import Inspection, inspect
from adaln.data.latents import Latents
from adaln.data.layouts import LAYOUTS
from adaln.data.loading import load
from adaln.data.pixels import to_model_range, to_uint8
from adaln.data.verify import RoundTrip, round_trip

__all__ = [
    "LAYOUTS",
    "Autoencoder",
    "Batches",
    "DataConfig",
    "Dataset",
    "Inspection",
    "LatentSpace",
    "Latents",
    "Prefetched",
    "RoundTrip",
    "default_cache",
    "encode",
    "inspect",
    "load",
    "open_autoencoder",
    "round_trip",
    "to_model_range",
    "to_uint8",
]
