"""Small networks of ours in which conditions act otherwise than in DiT: any two choices together in one of them."""

from itertools import product
from typing import Any, get_args, get_type_hints

from adaln.models import DiTConfig, LLaMAConfig
from adaln.models.dit_config import TransformerConfig
from adaln.models.mechanism import Mechanism
from helpers.pairs import cover

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


def _configs() -> dict[tuple[Any, ...], TransformerConfig]:
    """All that go together."""
    configs = {}
    for kind, tokens, *values in product((DiTConfig, LLaMAConfig), range(len(TOKENS)), *CHOICES.values()):
        chosen = dict(zip(CHOICES, values, strict=True)) | TOKENS[tokens]
        try:
            configs[kind, tokens, *values] = kind(16, 2, 2, 4, drop_variance=True, rank=4, **chosen)
        except ValueError:
            continue
    return configs


def named(config: TransformerConfig) -> str:
    """
    >>> named(LLaMAConfig(16, 2, 2, 4, gate="tanh", shift=False))
    'DiT-LLaMA, gate tanh, shift False'
    """
    return config.published_as[0] + config.describe_mechanism()


_ALL = _configs()
EVERY_MECHANISM = {named(config): config for config in _ALL.values()}
MECHANISMS = {named(_ALL[case]): _ALL[case] for case in cover(list(_ALL)) if not _ALL[case].is_plain}
