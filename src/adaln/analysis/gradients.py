"""Who moves when on a real model, by the paper's twelve names."""

import re
from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor

from adaln.analysis.closed_form import GRADIENTS
from adaln.analysis.update_order import UpdateOrder
from adaln.conditioning import Order, Part, Role, Site, find_head, find_sites

_ROLE_LETTERS = {Role.GATE: "a", Role.SCALE: "g", Role.SHIFT: "b"}
_MODULES = {
    "W_att": re.compile(r".*\.\d+\.attn\d?\..*"),
    "W_ffm": re.compile(r".*\.\d+\.(mlp\d?|ff(_context)?)\..*"),
    "W_pat": re.compile(r"(x_embedder|pos_embed)\..*"),
    "timestep embedder": re.compile(r".*(t_embedder|timestep_embedder).*"),
    "label embedder": re.compile(r".*(y_embedder|class_embedder).*"),
}
_REST = "other"


def update_order(order: Order, tensors: Mapping[str, Tensor], iterations: int = 3) -> UpdateOrder:
    """Table 1 for a measured order: a weight moves as soon as any part of it, in any block, has moved.

    Biases count with their matrix. After the paper's twelve names come the embedders and whatever else the model has;
    a name without parts, such as the gate of a model that has none, is left out.
    """
    names = paper_names(tensors)
    opened: dict[str, list[int]] = defaultdict(list)
    for part, opens in order.items():
        opened[names[part]] += [] if opens is None else [opens]
    ranked = [*(f"W_{name}" for name in GRADIENTS), *_MODULES, _REST]
    present = tuple(name for name in dict.fromkeys(ranked) if name in opened)
    moves = tuple(tuple(any(at <= i for at in opened[name]) for name in present) for i in range(iterations))
    return UpdateOrder(present, moves)


def paper_names(tensors: Mapping[str, Tensor]) -> dict[Part, str]:
    """The paper's name of every part of a model: "W_a1" for attention's gates, "W_ffm" for all of the MLPs, ..."""
    named = {
        Part(tensor, site.rows.start, site.rows.stop): f"W_{_ROLE_LETTERS[site.role]}{_place(site)}"
        for site in find_sites(tensors)
        for tensor in site.tensors()
    }
    hosts, heads = {part.tensor for part in named}, find_head(tensors)
    for name, tensor in tensors.items():
        if name not in hosts:
            module = next((module for module, pattern in _MODULES.items() if pattern.fullmatch(name)), _REST)
            named[Part(name, 0, tensor.shape[0] if tensor.ndim else 1)] = "W_f" if name in heads else module
    return named


def _place(site: Site) -> str:
    """f for the final layer, 1 for attention, 2 for the MLP."""
    return "f" if site.branch == "final" else "2" if "mlp" in site.branch else "1"
