"""How each role starts and when it may move: a scheme is a row of a table, never a subclass; a name, or a file.

name = "mine"
[gate]
weight = {kind = "normal", std = 8e-4}
[[scale]]                                   # a list: one start per block, in forward order
weight = {kind = "laplace", std = 1e-3}

Source: PAPER section 2 (adaLN, Step1, Zero, Mix, Gaussian), A.10 (v2), A.11 (block-wise), Tables 3, 5 and 6.
"""

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaln.codec import decode, encode
from adaln.conditioning.blockwise import blockwise
from adaln.conditioning.distributions import Constant, Default, Normal, PerBranch, Xavier
from adaln.conditioning.scheme_row import ZERO, Scheme, Start
from adaln.files import reading, write_atomically
from adaln.registry import Registry

_TORCH = Start(Default(), Default())


def gaussian(gate: float, *scale_and_shift: float) -> Scheme:
    """adaLN-Gaussian with one standard deviation for all roles, or three. Tables 2, 3, 7."""
    scale, shift = scale_and_shift or (gate, gate)
    name = f"adaln-gaussian:{gate:g},{scale:g},{shift:g}"
    return Scheme(name, _normal(gate), _normal(scale), _normal(shift), note="A.10, Tables 2, 3 and 7")


def _normal(std: float) -> Start:
    return Start(Normal(std)) if std else Start()


def step1_gaussian(std: float) -> Scheme:
    """adaLN-Step1 with the gate from N(0, std^2): Table 3."""
    return Scheme(f"adaln-step1-gaussian:{std:g}", gate=Start(Normal(std)), note="Table 3")


def final_shift(std: float) -> Scheme:
    """adaLN-Gaussian plus W_beta_f ~ N(0, std^2): Table 5."""
    name, note = f"adaln-final-shift:{std:g}", f"final shift normal {std:g}, Table 5"
    return replace(gaussian(1e-3), name=name, final_shift=Start(Normal(std)), note=note)


def backbone(std: float) -> Scheme:
    """adaLN-Gaussian plus attention and MLP weights ~ N(0, std^2): Table 6."""
    name, note = f"adaln-backbone:{std:g}", f"attention, MLP normal {std:g}, Table 6"
    return replace(gaussian(1e-3), name=name, backbone=Normal(std), note=note)


def default(factor: float) -> Scheme:
    """Modulation and last layer at `factor` times what torch draws, biases zero; the head as torch leaves it."""
    start = Start(Default(factor))
    return Scheme(
        f"default:{factor:g}",
        *(start,) * 5,
        head=_TORCH,
        note=f"{factor:g} of torch's weights, biases 0; head as torch (azula)",
    )


def head_normal(std: float) -> Scheme:
    """adaLN-Zero with a head from N(0, std^2): why is it zero?"""
    return Scheme(f"head-normal:{std:g}", head=Start(Normal(std)), note=f"adaLN-Zero, head normal {std:g}")


def layerscale(value: float) -> Scheme:
    """Static gates at `value`; `rezero` at zero."""
    note = f"static gates {value:g} (LayerScale, arXiv 2103.17239)"
    return Scheme(f"layerscale:{value:g}", static_gates=Constant(value), needs="static gates", note=note)


PARAMETRIC: Registry[Callable[..., Scheme]] = Registry(
    "parametric scheme",
    {
        "adaln-gaussian": gaussian,
        "adaln-step1-gaussian": step1_gaussian,
        "adaln-final-shift": final_shift,
        "adaln-backbone": backbone,
        "default": default,
        "head-normal": head_normal,
        "layerscale": layerscale,
    },
)
"""Schemes with numbers as parameters, written `adaln-gaussian:8e-4,1.2e-3,8e-4`: standard deviations, of `default` a
factor, of `layerscale` a value."""

_FAN_IN = Normal(1.0, -0.5)
_STEP1 = Scheme("adaln-step1", gate=Start(Xavier()), note="Xavier over the fused 6D x D matrix")
_ROWS = (
    Scheme("adaln", gate=Start(ZERO, Constant(1.0), opens=None), note="no gate"),
    _STEP1,
    replace(_STEP1, name="adaln-step1-slice", gate=Start(Xavier("slice")), note="Xavier over each D x D slice"),
    Scheme("adaln-zero", note="DiT's own"),
    replace(_STEP1, name="adaln-mix", order_of="adaln-zero", note="adaLN-Zero's update order"),
    replace(step1_gaussian(1e-3), name="adaln-step1-gaussian"),
    replace(gaussian(1e-3), name="adaln-gaussian", note="the paper's proposal"),
    replace(gaussian(8e-4, 1.2e-3, 8e-4), name="adaln-gaussian-v2"),
    *(blockwise(reading, half) for half in (False, True) for reading in ("consistent", "as-printed")),
    replace(final_shift(3e-3), name="adaln-final-shift"),
    replace(backbone(0.02), name="adaln-backbone"),
    Scheme("torch-default", *(_TORCH,) * 6, note="as torch starts any linear map: initialize_weights lost (diffusers)"),
    Scheme("final-zero", *(_TORCH,) * 3, note="blocks as torch, last layer and head 0 (DDT, RAE)"),
    Scheme("xavier-all", *(Start(Xavier()),) * 6, note="no zero but biases (DyT's patch of DiT)"),
    Scheme(
        "dit-mup",
        *(Start(_FAN_IN),) * 5,
        backbone=_FAN_IN,
        embedders=_FAN_IN,
        note="all normal 1/sqrt(fan-in), head 0; with --optim.mup WIDTH (DiT-muP, arXiv 2505.15270)",
    ),
    Scheme(
        "gpt2-residual",
        gate=Start(ZERO, Constant(1.0)),
        branch_ends=PerBranch(Xavier()),
        note="gates 1, branches' last matrices Xavier/sqrt(2L) (GPT-2)",
    ),
    replace(default(0.01), name="default"),
    replace(head_normal(0.02), name="head-normal"),
    Scheme("table-zero", *(Start(Default()),) * 3, needs="tables", note="tables 0, shared matrix as torch (Krea 2)"),
    Scheme(
        "table-normal",
        *(Start(Normal(0.02), _FAN_IN),) * 3,
        needs="tables",
        note="tables normal 1/sqrt(D), shared matrix normal 0.02 (PixArt)",
    ),
    Scheme(
        "af3",
        Start(ZERO, Constant(-2.0)),
        *(Start(Default()),) * 2,
        needs="sigmoid gates",
        note="gates sigmoid(-2), scale and shift as torch, their biases 0 (AlphaFold 3)",
    ),
    replace(layerscale(0.0), name="rezero", note="static gates 0 (ReZero, arXiv 2003.04887; improved MeanFlow)"),
    replace(layerscale(1e-4), name="layerscale"),
)
SCHEMES: Registry[Scheme] = Registry("scheme", {row.name: row for row in _ROWS}, accepts=Scheme)


def scheme(spec: str | Path | Scheme) -> Scheme:
    """The scheme that a name, `name:std[,std,...]` or a .json or .toml file means; one that is a scheme already is it.

    Raises `ValueError` naming the nearest known scheme, or what is wrong with the parameters or the file.

    >>> import adaln
    >>> adaln.scheme("adaln-gaussian:8e-4,1.2e-3,8e-4").scale.weight
    Normal(std=0.0012, fan_power=0.0)
    >>> adaln.scheme("adaln-gausian")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    adaln.registry.UnknownName: unknown scheme 'adaln-gausian' (nearest: 'adaln-gaussian'); known: adaln, ...
    """
    if isinstance(spec, Scheme):
        return spec
    if not isinstance(spec, str | Path):
        raise ValueError(f"scheme is a {type(spec).__name__}; expected a name, name:std, a file or a Scheme")
    if isinstance(spec, Path) or spec.endswith((".json", ".toml")):
        return load_scheme(Path(spec))
    name, has_parameters, parameters = spec.partition(":")
    if not has_parameters:
        return SCHEMES[spec]
    family = PARAMETRIC[name]
    try:
        numbers = [float(value) for value in parameters.split(",")]
        if not all(0 <= number < float("inf") for number in numbers):
            raise ValueError
        return family(*numbers)
    except (ValueError, TypeError):
        what = {"default": "factor", "layerscale": "value"}.get(name, "standard deviation")
        count = f"1 {what}" + ", or 3 of gate, scale and shift," * (name == "adaln-gaussian")
        raise ValueError(f"scheme {spec!r}: {name} takes {count} >= 0, e.g. '{name}:1e-3'") from None


def times(scheme: Scheme, factor: float) -> Scheme:
    """The scheme with all its standard deviations times `factor`: for a learning rate that is as many times another.

    What a network's own width decides (Xavier's, torch's, powers of fan-in) stays.

    >>> times(scheme("adaln-gaussian"), 4).gate.weight
    Normal(std=0.004, fan_power=0.0)
    """

    def wider(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [wider(one) for one in value]
        if not isinstance(value, dict):
            return value
        row = {name: wider(field) for name, field in value.items()}
        return row | {"std": factor * row["std"]} if "std" in row and not row.get("fan_power") else row

    row = encode(scheme)
    changed = wider(row)
    return scheme if changed == row else decode(Scheme, changed | {"name": f"{scheme.name}, std x {factor:g}"})


def load_scheme(path: Path) -> Scheme:
    """Read a scheme file; `ValueError` names the file and what is wrong with it."""
    if not path.exists():
        raise ValueError(f"scheme file {str(path)!r} does not exist")
    with reading(path, "a scheme file"):
        text = path.read_text(encoding="utf-8")
        row = json.loads(text, object_pairs_hook=once) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(row, dict):
            raise ValueError("expected a table of roles")
        loaded = decode(Scheme, {"name": path.stem, **row})
        if loaded.order_of is not None:
            SCHEMES[loaded.order_of]  # an unknown name is an error here, not in the middle of a run
        return loaded


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of one JSON object; `ValueError` where one is given twice, of which JSON would take the last."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is given twice; expected it once")
    return table


def save_scheme(scheme: Scheme, path: Path) -> None:
    """Write a scheme as JSON, to be used as `--scheme FILE`."""
    write_atomically(path, json.dumps(encode(scheme), indent=2) + "\n")
