"""Anyone's training, watched: from a loop, or as callbacks of other trainers, each imported when it is first used."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.watching.door import watch as watch
    from adaln.watching.of_lightning import LightningWatch as LightningWatch
    from adaln.watching.of_transformers import TrainerWatch as TrainerWatch

__getattr__, __all__ = lazily(__name__)
