"""What checks the annotations of `adaln` in the tests: an int is a float, as PEP 484 has it."""

import functools
import inspect
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
_with_axes = jaxtyping.jaxtyped


def has_axes(annotation: Any) -> bool:
    """Whether an array with named axes is somewhere in an annotation, or may be: one that is a string is not read."""
    if isinstance(annotation, list | tuple):  # arguments of a Callable, alternatives
        return any(map(has_axes, annotation))
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return isinstance(annotation, str) or has_axes(getattr(annotation, "__value__", get_args(annotation)))


def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    """jaxtyping's decorator where there are axes to remember over a call, else the checker alone.

    The first binds all arguments of every call: a seventh of the default suite's time, where there is nothing to bind.
    """
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isfunction(fn) and not has_axes(list(fn.__annotations__.values())):
        return typechecker(fn)
    return _with_axes(fn, typechecker=typechecker)


# jaxtyping's import hook looks it up in the one place, its own recursion into classes and properties in the other.
jaxtyping.jaxtyped = jaxtyping._decorator.jaxtyped = jaxtyped
