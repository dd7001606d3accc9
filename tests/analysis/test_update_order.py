import pytest

from adaln.analysis.update_order import UpdateOrder

ZERO = UpdateOrder(("head", "gate", "never"), ((True, False, False), (True, True, False)))


def test_the_first_move_of_what_never_moves_is_none():
    assert ZERO.first == {"head": 1, "gate": 2, "never": None}
    assert UpdateOrder(("head",), ()).first == {"head": None}


def test_differences_are_reported_for_names_that_both_tables_have():
    other = UpdateOrder(("head", "gate", "other"), ((True, True, True), (True, True, True)))
    assert ZERO.differing(other) == ("gate",)
    assert ZERO.differing(ZERO) == ()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row of 1 marks for 2 names"):
        UpdateOrder(("a", "b"), ((True,),))
