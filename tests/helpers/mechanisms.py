"""Small networks of ours in which conditions act otherwise than in DiT: any two choices together in one of them."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, get_args, get_type_hints

from adaln.models import DiTConfig, LLaMAConfig, UDiTConfig
from adaln.models.mechanism import Mechanism
from helpers.pairs import cover

Config = DiTConfig | LLaMAConfig | UDiTConfig
CHOICES: dict[str, tuple[Any, ...]] = {
    name: (False, True) if hint is bool else get_args(hint)
    for name, hint in get_type_hints(Mechanism).items()
    if hint is not int
}
TOKENS = (
    {},
    {"class_tokens": 2, "tokens_from": 1},
    {"class_tokens": 2, "time_tokens": 1},
)


SMALL: dict[str, Callable[..., Config]] = {
    "DiT": partial(DiTConfig, 16, 2, 2, 4, drop_variance=True, rank=4),
    "DiT-LLaMA": partial(LLaMAConfig, 16, 2, 2, 4, drop_variance=True, rank=4),
    "U-DiT": partial(UDiTConfig, 16, 4, (1,) * 5, learn_sigma=False),
}


def _configs() -> dict[tuple[Any, ...], Config]:
    """All that go together."""
    configs = {}
    for kind, tokens, *values in product(SMALL, range(len(TOKENS)), *CHOICES.values()):
        chosen = dict(zip(CHOICES, values, strict=True)) | TOKENS[tokens]
        try:
            configs[kind, tokens, *values] = SMALL[kind](**chosen)
        except ValueError:
            continue
    return configs


def named(kind: str, config: Config) -> str:
    """
    >>> named("DiT-LLaMA", SMALL["DiT-LLaMA"](gate="tanh", shift=False))
    'DiT-LLaMA, gate tanh, shift False'
    """
    return kind + config.describe_mechanism()


_ALL = _configs()
EVERY_MECHANISM = {named(case[0], config): config for case, config in _ALL.items()}
MECHANISMS = {named(case[0], _ALL[case]): _ALL[case] for case in cover(list(_ALL)) if not _ALL[case].is_plain}
