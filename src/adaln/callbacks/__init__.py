"""`adaln.watch` as callbacks of other trainers, each imported when it is first used."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.callbacks.of_lightning import LightningWatch as LightningWatch
    from adaln.callbacks.of_transformers import TrainerWatch as TrainerWatch

__getattr__, __all__ = lazily(__name__)
