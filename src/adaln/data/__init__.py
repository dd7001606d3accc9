"""Images in, seeded endless batches out."""

from adaln.data.autoencoder import Autoencoder, LatentSpace, open_autoencoder
from adaln.data.batches import Batches, Prefetched
from adaln.data.cache import default_cache
from adaln.data.dataset import DataConfig, Dataset
from adaln.data.encoding import encode
from adaln.data.inspection import Inspection, inspect
from adaln.data.latents import Latents
from adaln.data.layouts import LAYOUTS, check_layout, layout_config
from adaln.data.loading import load
from adaln.data.pixels import to_model_range, to_uint8
from adaln.data.rendering import Renderer, describe_latents, renderer
from adaln.data.shards import Index
from adaln.data.verify import RoundTrip, round_trip

__all__ = [
    "LAYOUTS",
    "Autoencoder",
    "Batches",
    "DataConfig",
    "Dataset",
    "Index",
    "Inspection",
    "LatentSpace",
    "Latents",
    "Prefetched",
    "Renderer",
    "RoundTrip",
    "check_layout",
    "default_cache",
    "describe_latents",
    "encode",
    "inspect",
    "layout_config",
    "load",
    "open_autoencoder",
    "renderer",
    "round_trip",
    "to_model_range",
    "to_uint8",
]
