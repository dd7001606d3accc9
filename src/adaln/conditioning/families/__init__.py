"""Every family that is known by its names: a family is one row of a table, the rows stand by lineage.

Names are those of published weights, orders of chunks those of published code, each shown by behaviour in
`tests/conditioning/test_behaviour.py`. What looks alike is not: `norm_out.linear` holds scale before shift in SD3,
Flux, AuraFlow and HunyuanDiT, and shift before scale in CogVideoX. To add a family is to add its row, or, from another
package, to `adaln.register("family", name, Family(...))` it.
"""

from typing import Any

from torch import Tensor, nn

from adaln.conditioning.families import (
    audio,
    cogvideox,
    cosmos,
    dit,
    film,
    flux,
    hunyuan_video,
    kandinsky,
    ltx,
    lumina,
    pixart,
    sd3,
    unmodulated,
    wan,
)
from adaln.conditioning.family import Family
from adaln.conditioning.inputs import InputDraw
from adaln.registry import Registry, nearest
from adaln.types import DataSpec

_LINEAGES = (
    dit,
    sd3,
    flux,
    hunyuan_video,
    cogvideox,
    lumina,
    ltx,
    pixart,
    wan,
    audio,
    cosmos,
    kandinsky,
    film,
    unmodulated,
)
_ROWS = {name: row for lineage in _LINEAGES for name, row in lineage.ROWS.items()}
FAMILIES: Registry[Family] = Registry("family", _ROWS, accepts=Family)
"""A mapping of tensors belongs to a family whose lines take all its modulation layers."""


def standard_inputs(model: nn.Module, seed: int = 0) -> dict[str, Any]:
    """A small batch as keyword arguments for one forward pass of `model`, on its device.

    Noise, times over the whole schedule, noise for text; x, t and y for the data of `model.spec`, where it has that.
    Raises `ValueError` for another class that no family knows: then bring inputs of your own.
    """
    name, draw = type(model).__name__, InputDraw(seed)
    known = {cls: make for family in FAMILIES.values() for cls, make in family.inputs.items()}
    spec: Any = getattr(model, "spec", None)
    if isinstance(spec, DataSpec):
        labels = draw.labels(spec.num_classes) if spec.num_classes else None
        inputs = {"x": draw.normal(spec.channels, spec.height, spec.width), "t": draw.times(1000.0), "y": labels}
    elif name in known:
        inputs = known[name](getattr(model, "config", model), draw)
    else:
        raise ValueError(
            f"no standard inputs for {name}{nearest(name, known)}; expected inputs of your own (a factory returns"
            " network, inputs) or, where forward takes x, t and y, network.spec = adaln.specs.DataSpec(channels,"
            " height, width, num_classes)"
        )
    like = next(model.parameters())
    return {key: _moved(value, like) for key, value in inputs.items()}


def _moved(value: Any, like: Tensor) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, like) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, like) for item in value)
    if not isinstance(value, Tensor):
        return value
    return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
