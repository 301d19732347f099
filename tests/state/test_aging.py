"""The wheel: nothing is missed, nothing comes twice, moved entries do not come at their old time."""

from __future__ import annotations

import math

from bus_facts import NODE
from hypothesis import given
from hypothesis import strategies as st

from steersman.state.aging import Wheel
from steersman.state.cell import NEVER, Cell


def a_cell(name: str) -> Cell:
    return Cell(NODE, "", name)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.floats(0, 50), st.just(NEVER)))))
def test_each_cell_comes_up_once_in_the_earliest_second_it_was_put_to(puts: list[tuple[str, float]]) -> None:
    wheel = Wheel()
    cells = {name: a_cell(name) for name in "abcd"}
    last: dict[str, float] = {}
    for name, when in puts:
        wheel.put(cells[name], when)
        last[name] = NEVER if when == NEVER else min(last.get(name, NEVER), when)
    came: list[tuple[str, int]] = []
    for second in range(52):
        while (cell := wheel.pop(float(second))) is not None:
            came.append((cell.entity_id, second))
    expected = sorted((name, math.ceil(when)) for name, when in last.items() if when != NEVER)
    assert sorted(came) == expected
    assert wheel.pop(1000.0) is None
    assert wheel.due_at() == NEVER


def test_writes_that_only_move_the_moment_back_leave_nothing_on_the_wheel() -> None:
    wheel, cell = Wheel(), a_cell("a")
    for second in range(10, 1000):
        wheel.put(cell, float(second))
    assert wheel.pop(10.0) is cell
    assert wheel.due_at() == NEVER or wheel.pop(2000.0) is None


def test_due_at_is_the_first_second_or_earlier() -> None:
    wheel = Wheel()
    wheel.put(a_cell("a"), 7.5)
    wheel.put(a_cell("b"), 3.1)
    assert wheel.due_at() == 4
    assert wheel.pop(3.9) is None
    assert wheel.pop(4.0) is not None
    assert wheel.pop(4.0) is None
    assert wheel.due_at() == 8
