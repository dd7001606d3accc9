"""Annotations of `adaln` are checked in the tests: named axes over a whole call, and the others without their cost."""

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from adaln.metrics.precision_recall import precision_recall
from adaln.registry import nearest
from typechecking import has_axes


def test_a_wrong_type_is_refused_where_there_are_no_axes():
    with pytest.raises(BeartypeCallHintParamViolation):
        nearest(3, ["three"])


def test_axes_of_one_name_are_of_one_length():
    with pytest.raises(TypeCheckError):
        precision_recall(torch.zeros(4, 3), torch.zeros(4, 5))


def test_axes_are_found_however_deep_they_stand():
    image = Float[Tensor, "C H W"]
    assert has_axes(image | None)
    assert has_axes(list[dict[str, image]])
    assert has_axes("Tensor")
    assert not has_axes(dict[str, Tensor])
