"""Images in, seeded endless batches out."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.data.autoencoder import Autoencoder as Autoencoder
    from adaln.data.autoencoder import Render as Render
    from adaln.data.autoencoder import open_autoencoder as open_autoencoder
    from adaln.data.autoencoder import renderer as renderer
    from adaln.data.batches import Batches as Batches
    from adaln.data.batches import Prefetched as Prefetched
    from adaln.data.config import DataConfig as DataConfig
    from adaln.data.dataset import Dataset as Dataset
    from adaln.data.encoding import Foreseen as Foreseen
    from adaln.data.encoding import encode as encode
    from adaln.data.encoding import foreseen as foreseen
    from adaln.data.formats import Format as Format
    from adaln.data.formats import absolute_path as absolute_path
    from adaln.data.formats import are_files as are_files
    from adaln.data.formats import canonical_path as canonical_path
    from adaln.data.formats import is_encoded as is_encoded
    from adaln.data.formats import load as load
    from adaln.data.formats import open_pictures as open_pictures
    from adaln.data.formats import open_source as open_source
    from adaln.data.inspection import Inspection as Inspection
    from adaln.data.inspection import RoundTrip as RoundTrip
    from adaln.data.inspection import inspect as inspect
    from adaln.data.inspection import round_trip as round_trip
    from adaln.data.latents import LatentDataset as LatentDataset
    from adaln.data.published_sets import PUBLISHED_SETS as PUBLISHED_SETS
    from adaln.data.published_sets import check_published as check_published
    from adaln.data.published_sets import published_config as published_config
    from adaln.data.shard_files import Index as Index
    from adaln.files import default_cache as default_cache

__getattr__, __all__ = lazily(__name__)
