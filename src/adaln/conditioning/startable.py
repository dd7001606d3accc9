"""Whether a scheme's values, written into a network's parameters, are what the network will compute with."""

import operator
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from adaln.conditioning.distributions import Distribution
from adaln.conditioning.suspicion import is_suspicious
from adaln.parallel import own, whole
from adaln.rng import generator
from adaln.tensor_files.names import unwrapped
from adaln.types import rows_axis

_PARTS = re.compile(r"(.*\.)?(?:parametrizations\.(\w+)\.original\d*|(\w+)_(?:g|v|orig))")
"""Parameters from which torch's parametrisations, weight norm and pruning make another tensor."""
_ADAPTER = re.compile(r"lora_(?:layer\.)?(?:A|down|(B|up))\b")


def stream_of(seed: object) -> torch.Generator:
    """Where the draws of a start come from; `ValueError` for a seed that is no whole number, which no run has."""
    if isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise ValueError(f"seed is {seed!r}; expected an integer or a torch.Generator")
    return generator("scheme", operator.index(seed))


def check_kept(model: object) -> dict[str, Tensor]:
    """The parameters of a network by name; `ValueError` for those of which nothing is here."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if isinstance(tensor, nn.UninitializedParameter):
            raise ValueError(f"{name!r} has no shape before the network has run once; expected a network that has")
        if tensor.is_meta:
            raise ValueError(f"{name!r} is on the meta device, where nothing is kept; expected a network in memory")
        if not tensor.numel():
            raise ValueError(
                f"{name!r} is empty here, as an engine (DeepSpeed, FSDP1) leaves what it keeps elsewhere; expected a"
                " network before it is handed over, or one sharded by FSDP2"
            )
    return tensors


def whole_of(name: str, tensors: Mapping[str, Tensor]) -> Sequence[int]:
    """The shape by which a distribution is scaled: the tensor's own, of a bias that of the matrix beside it."""
    beside = f"{name.removesuffix('bias')}weight" if name.endswith("bias") else name
    shape = tensors.get(beside, tensors[name]).shape
    return shape[rows_axis(shape) :]


def check_range(tensors: Mapping[str, Tensor], starts: Sequence[tuple[str, slice, Distribution]]) -> None:
    """`ValueError` where a type cannot hold what a start draws: infinite, or mostly zero though no zero is drawn."""
    for name, _, distribution in starts:
        shape, dtype = tensors[name].shape, tensors[name].dtype
        drawn = torch.empty((1, *shape[rows_axis(shape) + 1 :]))
        distribution.fill_(drawn, generator("range"), whole_of(name, tensors))
        held = drawn.to(dtype)
        lost = float(((held == 0) & (drawn != 0)).float().mean())
        if lost > 0.5 or not bool(held.isfinite().all()):
            what = "zero" if lost else "infinite"
            raise ValueError(
                f"{distribution} is {what} in {name!r}, which is {str(dtype).removeprefix('torch.')}; expected a start"
                " that the type can hold, or the network in float32"
            )


def why_not_written(tensor: Tensor) -> str:
    """What a tensor is whose values cannot be those of a start; "" for an ordinary one, or shards of one."""
    held = own(tensor)
    if type(held).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"a {type(held.data).__name__}"
    if not held.is_floating_point() or held.itemsize < 2:
        return f"stored as {str(held.dtype).removeprefix('torch.')}"
    if any(size > 1 and not stride for size, stride in zip(held.shape, held.stride(), strict=True)):
        return "expanded, many values in one place of memory"
    return "made in torch.inference_mode" if held.is_inference() else ""


def check_written(tensors: Mapping[str, Tensor], names: Collection[str]) -> None:
    """`ValueError` for quantised parameters among the names, those of inference mode, and what is no parameter."""
    for name in names:
        if name not in tensors:
            raise ValueError(f"{name!r} is a buffer, which nothing starts or trains; expected a parameter")
        if what := why_not_written(tensors[name]):
            raise ValueError(
                f"{name!r} is {what}, and a start cannot be written there; expected a network of ordinary parameters"
                " of 16 bits or more, before it is quantised and outside of inference mode"
            )


def made_of(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Tensors that a parametrisation makes in each forward pass, each with the parameters that it makes it of."""
    made: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        if match := _PARTS.fullmatch(name):
            made[f"{match[1] or ''}{match[2] or match[3]}"].append(name)
    return {
        name: parts
        for name, parts in made.items()
        if name not in tensors and (len(parts) > 1 or not parts[0].endswith(("_g", "_v")))
    }


def with_made(tensors: Mapping[str, Tensor], made: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Tensors by name as if nothing were parametrised: of what is made, a part of its shape."""
    parts = {part for of in made.values() for part in of}
    plain = {name: tensor for name, tensor in tensors.items() if name not in parts}
    return plain | {name: max((tensors[part] for part in of), key=Tensor.numel) for name, of in made.items()}


def check_used(model: nn.Module, names: Collection[str], made: Mapping[str, Sequence[str]]) -> None:
    """`ValueError` where the network would compute with something else than what is written into these parameters."""
    for name in names:
        if name in made:
            raise ValueError(
                f"{name!r} is made of {' and '.join(map(repr, made[name]))} in each forward pass (a weight norm,"
                " spectral norm or pruning), so that no start can be written; expected the network without, e.g. after"
                " torch.nn.utils.parametrize.remove_parametrizations"
            )
    tensors = dict(model.named_parameters())
    for name, added in adapters(tensors, names):
        up = (match := _ADAPTER.search(added)) and match[1]
        if not match or (up and bool(whole(tensors[added]).any())):
            raise ValueError(
                f"{added!r} changes what {name!r} says, as an adapter that has learnt; expected none there, or a LoRA"
                " whose lora_B is zero"
            )
    check_ties(model, names)
    check_memory(tensors, names)


def adapters(tensors: Mapping[str, Tensor], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Parameters beside, or inside, the layers of the names: what libraries hang there, e.g. PEFT's lora_A, lora_B."""
    layers = {re.sub(r"(\.base_layer)?\.(weight|bias)$", "", name): name for name in names if "." in name}
    for added in tensors:
        words = added.split(".")
        above = (".".join(words[:end]) for end in range(1, len(words)))
        layer = next((layer for layer in above if layer in layers and added != layers[layer]), None)
        if layer and not re.fullmatch(r"(\.base_layer)?\.(weight|bias)", added.removeprefix(layer)):
            yield layers[layer], added


def check_ties(model: nn.Module, names: Collection[str]) -> None:
    """`ValueError` where a parameter that is started is that of another layer, too, which is not to change.

    Blocks that share their modulation are one layer under several numbers.
    """
    tied: dict[int, list[str]] = defaultdict(list)
    for name, tensor in model.named_parameters(remove_duplicate=False):
        tied[id(tensor)].append(name)
    for aliases in tied.values():
        kinds = {tuple(word for word in name.split(".") if not word.isdigit())[-2:]: name for name in aliases}
        concerned = any(name in names for name in aliases) or any(map(_may_be_modulation, aliases))
        if len(kinds) > 1 and concerned:
            raise ValueError(
                f"{' and '.join(map(repr, kinds.values()))} are one tensor, which a scheme would start for both;"
                " expected layers that share nothing with others"
            )


def check_memory(tensors: Mapping[str, Tensor], names: Collection[str]) -> None:
    """`ValueError` where a parameter that is started lies where another one does, which would change with it."""
    first: dict[tuple[torch.device, int], str] = {}
    for name, tensor in tensors.items():
        held = own(tensor)
        if why_not_written(tensor) or not held.numel():
            continue
        other = first.setdefault((held.device, held.data_ptr()), name)
        if other != name and (other in names or name in names):
            raise ValueError(
                f"{other!r} and {name!r} lie in one place of memory (.data of one was given to the other), which a"
                " scheme would start for both; expected parameters with memory of their own"
            )


def _may_be_modulation(name: str) -> bool:
    return any(is_suspicious(clean, (2, 2)) for clean in unwrapped([name]))
