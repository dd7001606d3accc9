"""Where all conditioning of a network is, found from names and shapes alone.

`find_layout` reads any `Mapping[str, Tensor]`: weights, gradients, EMA, Adam moments, a safetensors file. A family
takes a network if its lines claim all that may be modulation there (`suspicion`), never part of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adaln.conditioning.choice import UnknownLayout, choose
from adaln.conditioning.families import FAMILIES
from adaln.conditioning.family import EMBEDDERS, Family, Role, any_of
from adaln.conditioning.layout_file import family_named
from adaln.conditioning.reading import readings, sites_in_forward_order
from adaln.conditioning.sites import Site, static_tensors
from adaln.conditioning.suspicion import is_suspicious, suspects
from adaln.tensor_files.names import unwrapped


@dataclass(frozen=True)
class Layout:
    """What the names and shapes of a network say of its conditioning: one fit, for all who ask."""

    family_name: str
    """ "" where there is no modulation in a network of no known family."""
    family: Family
    sites: tuple[Site, ...]
    """In forward order; together they partition the rows of every modulation layer exactly."""
    names: Mapping[str, str] = field(repr=False)
    """By the network's own names, without wrappers and prefix, those in the mapping."""
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    """By the network's own names."""
    prefix: str = ""
    """What stands before the network's own names ("model.diffusion_model.")."""
    unread: tuple[str, ...] = ()
    """What may be modulation and is no site's, and what else speaks against the layout; nothing unless asked for."""

    @cached_property
    def head(self) -> list[str]:
        """Names of the last projection's tensors."""
        return self._named(rf"({any_of(self.family.head)})\.(weight|bias)")

    @property
    def caveat(self) -> str:
        """What whoever starts the network by a scheme must know, in one sentence; "" where there is nothing."""
        if self.head or not self.sites:
            return ""
        return (
            f"no last projection of {self.family_name} is known: every scheme leaves it as it was made, where the"
            ' paper\'s start it at zero (way on: a layout with head = "NAME", as adaln audit MODULE:FACTORY --discover'
            " writes it)"
        )

    @cached_property
    def backbone(self) -> list[str]:
        """Names of the attention and MLP matrices, those of experts in one tensor too."""
        pattern = re.compile(rf".*\.\d+\.({any_of(self.family.backbone)})\.(.*\.)?(weight|\w+_proj)")
        own = (name for name in self.names if pattern.fullmatch(name) and len(self.shapes[name]) >= 2)
        sited = {name for site in self.sites for name in site.tensors()}
        return [self.names[name] for name in own if self.names[name] not in sited]

    @cached_property
    def branch_ends(self) -> list[str]:
        """Names of the last matrix of every attention and MLP, where the family says them: at zero, it adds nothing."""
        return self._named(rf".*\.\d+\.({any_of(self.family.branch_ends)})(\.weight)?")

    @cached_property
    def ungated_ends(self) -> list[str]:
        """Names of the tensors that end a branch without a gate."""
        return self._named(rf".*\.\d+\.({any_of(self.family.ungated_ends)})\.(weight|bias)")

    @cached_property
    def embedders(self) -> list[str]:
        """Names of the matrices that embed patches and times."""
        return self._named("|".join(self.family.groups.get(group, "(?!)") for group in EMBEDDERS))

    @cached_property
    def static_gates(self) -> list[str]:
        """Names of learned gates that no condition moves, those that are sites too."""
        return [*self._named(any_of(self.family.static_gates)), *static_tensors(self.sites)]

    @cached_property
    def blocks(self) -> list[str]:
        """Names of the blocks that are modulated, those of a shared modulation without tables too."""
        own = dict.fromkeys(site.block for site in self.sites if site.is_of_one_block)
        stages = "|".join(re.escape(stage) for layer in self.family.layers for stage in layer.shared_by.split())
        shared = re.compile(rf"(({stages})\.\d+)\..*") if stages else re.compile("(?!)")
        return list(own | dict.fromkeys(match[1] for name in self.names if (match := shared.fullmatch(name))))

    @cached_property
    def shared(self) -> Mapping[tuple[str, Role], Sequence[Site]]:
        """By branch and role the rows of matrices that are no block's own; what several and a table give adds up."""
        by_role: dict[tuple[str, Role], list[Site]] = {}
        for site in self.sites:
            if site.weight and site.branch != "final" and not site.is_of_one_block:
                for branch in site.branch.split("+"):
                    by_role.setdefault((branch, site.role), []).append(site)
        return by_role

    @property
    def num_blocks(self) -> int:
        """How many there are; each unit of a U-DiT's blocks is one."""
        return len(
            {site.depth for site in self.sites if site.is_of_one_block and site.branch != "final"} or self.blocks
        )

    def _named(self, pattern: str) -> list[str]:
        compiled = re.compile(pattern)
        return [original for name, original in self.names.items() if compiled.fullmatch(name)]


def find_sites(model: nn.Module | Mapping[str, Tensor], family: str | Family | None = None) -> list[Site]:
    """All sites of a model, in forward order; together they partition the rows of every modulation layer exactly.

    Empty where there is no modulation layer at all. `family` (one of `FAMILIES`, a layout file, a `Family`) decides
    where two families fit.
    Raises `UnknownLayout` (a `ValueError`) naming the layer that no layout fits, or the two families that fit.

    >>> import torch, adaln
    >>> six = torch.zeros(6 * 8, 8)  # shift, scale, gate of the attention, then of the MLP, each 8 rows
    >>> sites = adaln.find_sites({f"blocks.{i}.adaLN_modulation.1.weight": six for i in range(2)})
    >>> len(sites), sites[2].block, sites[2].branch, sites[2].role.name, sites[2].rows
    (12, 'blocks.0', 'attn', 'GATE', slice(16, 24, None))
    """
    return list(find_layout(model, family).sites)


def find_layout(
    model: nn.Module | Mapping[str, Tensor],
    family: str | Family | None = None,
    *,
    class_name: str = "",
    allow_unread: bool = False,
) -> Layout:
    """Where all conditioning of a network is; names and shapes alone are read.

    `family` as in `find_sites`. `class_name`, of a network in memory its own, decides between families of the same
    names. What may be modulation and fits no line is an `UnknownLayout` in one line, or with `allow_unread` a name in
    `Layout.unread`.
    """
    if not isinstance(model, nn.Module | Mapping):
        of_file = " (of a file: adaln.audit(FILE))" if isinstance(model, str | Path) else ""
        raise ValueError(f"model is a {type(model).__name__}; expected a network or tensors by name{of_file}")
    buffers: set[str] = set()
    network = model
    if isinstance(model, nn.Module):
        class_name = class_name_in(model) or class_name
        buffers = {name for name, _ in model.named_buffers()}
        model = tensors_of(model)
    names = unwrapped(model)
    shapes = {name: tuple(model[original].shape) for name, original in names.items()}
    asked = {} if family is None else dict([family_named(family)])
    suspected = suspects(shapes)
    with naming_ties(network):
        chosen = choose(readings(shapes, asked or FAMILIES, class_name), suspected, class_name, shapes, allow_unread)
    if chosen is None:
        return Layout("", Family(), (), names, shapes)
    if held := [names[claim.name] for claim in chosen.claims if names[claim.name] in buffers]:
        raise UnknownLayout(f"{held[0]!r} is a buffer, which nothing starts or trains; expected a parameter")
    own = {name.removeprefix(chosen.prefix): name for name in shapes if name.startswith(chosen.prefix)}
    unread = [names[name] for name in suspected if name not in chosen.claimed]
    return Layout(
        chosen.family_name,
        chosen.family,
        sites_in_forward_order(chosen, {name: names[original] for name, original in own.items()}),
        {name: names[original] for name, original in own.items()},
        {name: shapes[original] for name, original in own.items()},
        chosen.prefix,
        (*unread, *[chosen.why_not] * bool(chosen.why_not)),
    )


@contextmanager
def naming_ties(model: object) -> Iterator[None]:
    """In this block an `UnknownLayout` names the modulation that blocks share: it counts as the first one's alone."""
    try:
        yield
    except UnknownLayout as error:
        first: dict[int, str] = {}
        named = model.named_parameters(remove_duplicate=False) if isinstance(model, nn.Module) else ()
        for name, parameter in named:
            other = first.setdefault(id(parameter), name)
            is_other_block = other != name and re.sub(r"\d+", "N", other) == re.sub(r"\d+", "N", name)
            if is_other_block and is_suspicious(name, parameter.shape):
                raise UnknownLayout(
                    f"{name!r} is the same tensor as {other!r} (tied), which is not read: {error}"
                ) from None
        raise


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a network by name, and what is named like modulation among its buffers.

    `UnknownLayout` for weights that are packed away.
    """
    packed = next((name for name, module in model.named_modules() if hasattr(module, "_packed_params")), None)
    if packed is not None:
        raise UnknownLayout(f"the weights of {packed!r} are packed; expected the network before it is quantised")
    leaves = {name for name, module in model.named_modules() if not list(module.children())}  # masks, vectors of norms
    buffers = {
        name: tensor
        for name, tensor in model.named_buffers()
        if tensor.is_floating_point() and name.rpartition(".")[0] not in leaves and is_suspicious(name, tensor.shape)
    }
    tensors = dict(model.named_parameters()) | buffers
    if lazy := next((name for name, tensor in tensors.items() if is_lazy(tensor)), None):
        raise ValueError(
            f"{lazy!r} has no shape before the first batch (a lazy module's); expected a network that saw one"
        )
    return tensors


def class_name_in(model: nn.Module) -> str:
    """The class of the network that a family knows, however it is wrapped; "" where none is known."""
    known = {cls for row in FAMILIES.values() for cls in row.class_names}
    return next((name for module in model.modules() if (name := type(module).__name__) in known), "")
