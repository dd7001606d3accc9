"""Anyone's network by the name of its factory, `module:factory`, as data.

Its code is imported where a user names it, in this process and the workers of its studies, and never because a config
that was read names it.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaln.models.config import Counts, ModelConfig
from adaln.progress import note
from adaln.registry import code_named
from adaln.specs import DataSpec, ProcessConfig

if TYPE_CHECKING:
    import torch

Factory = Callable[[DataSpec], "torch.nn.Module"]
"""What makes the network for some data; docs/own-network.md says what it must be."""
_factories: dict[str, Factory] = {}


@dataclass(frozen=True)
class OwnConfig(ModelConfig):
    """A network that `factory` makes."""

    hidden_size: int = 256
    """Its width, from which its speed is guessed before a run was timed; decides nothing else."""
    factory: str = field(kw_only=True)
    """`module:factory`, which makes it for the channels, the size and the classes of the data."""
    source: str = field(kw_only=True)
    """The first digits of the SHA-256 of the factory's file: a run of other code is another run."""
    outputs_per_channel: Literal[1, 2] = 1
    """Output channels per data channel: 2 for a process that learns its variance (ddpm)."""
    class_dropout_prob: float = 0.1
    """How often training replaces a label by the null class, `num_classes`; 0: there is no null class, hence no
    guidance."""

    is_isotropic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.class_dropout_prob < 1:
            raise ValueError(f"class_dropout_prob is {self.class_dropout_prob}; expected 0 <= p < 1")

    def __reduce__(self) -> Any:
        """To a process that this one starts it goes by its name, to be imported there, if it was imported here."""
        return (_named_again, (asdict(self),)) if self.factory in _factories else super().__reduce__()

    @property
    def is_imported(self) -> bool:
        """Whether its module is, which may bring a layout as well."""
        return self.factory in _factories

    def code(self) -> Factory:
        """The factory; `ValueError` where nobody but a file has named it."""
        if self.factory not in _factories:
            from adaln.models.registry import MODELS

            list(MODELS)  # an installed package may bring it
        if self.factory not in _factories:
            raise ValueError(
                f"the network is made by {self.factory!r}, and no file brings code along; expected --model"
                f" {self.factory} in this command as well"
            )
        if digest_of(self.factory) != self.source:
            note(f"the file of {self.factory!r} has changed since this run was begun")
        return _factories[self.factory]

    def network(self, spec: DataSpec) -> "torch.nn.Module":
        from adaln.models.own import looked_at

        return looked_at(self, spec).skeleton

    def drawn(self, spec: DataSpec, rng: "torch.Generator") -> "torch.nn.Module":
        from adaln.models.own import made

        return made(self, spec, rng)

    def check(self, spec: DataSpec, process: ProcessConfig) -> None:
        from adaln.models.own import try_out

        super().check(spec, process)
        try_out(self, spec, process)

    def counts(self, spec: DataSpec) -> Counts:
        from adaln.models.own import looked_at

        return looked_at(self, spec).counts

    def way_to_a_layout(self) -> str:
        """What describes its conditioning to all commands, where no family knows it."""
        module = self.factory.partition(":")[0]
        name = module.rpartition(".")[2]
        return (
            f"way on: adaln audit {self.factory} --discover --out {name}.toml, then, in the module {module},"
            f' adaln.register("family", "{name}", adaln.conditioning.family_named("{name}.toml")[1])'
        )

    def describe(self) -> str:
        return f"what {self.factory} makes"


def own_network(factory: str) -> OwnConfig:
    """The network that `module:factory` makes, for a config of a run; the module is imported, here and now.

    With it, runs of that network are opened in this process; `adaln.register("model", NAME, ...)` gives it a name.
    Raises `ValueError` in one line for what is not there, cannot be imported, or cannot be called.

    >>> own_network("torch.nn:Identity").factory
    'torch.nn:Identity'
    """
    _factories[factory] = code_named(factory)
    return OwnConfig(factory=factory, source=digest_of(factory))


def digest_of(factory: str) -> str:
    """Ten digits that change with the file of a factory that was named; empty where it has none."""
    try:
        text = inspect.getsource(sys.modules[factory.partition(":")[0]])
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _named_again(fields: Mapping[str, Any]) -> OwnConfig:
    own_network(fields["factory"])
    return OwnConfig(**fields)
