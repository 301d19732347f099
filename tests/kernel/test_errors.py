"""One error tree, one mapping to problem documents; bounds raise from it."""

from __future__ import annotations

import pytest

from steersman.kernel.bounds import MIB, at_most, within
from steersman.kernel.errors import InvalidInput, NotFound, SteersmanError, TooLarge


def test_a_problem_has_the_standard_members_and_the_facts() -> None:
    error = NotFound("no node n1 in hpc; did you mean n2?", nearest="n2", title="never this one")
    assert error.problem("/api/v1/x") == {
        "type": "urn:steersman:error:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "no node n1 in hpc; did you mean n2?",
        "code": "not_found",
        "instance": "/api/v1/x",
        "nearest": "n2",
    }
    assert str(error) == error.detail


def test_a_family_is_caught_by_its_root() -> None:
    with pytest.raises(SteersmanError):
        at_most("a body", 9 * MIB, 8 * MIB, "bytes")


def test_bounds_name_what_was_over_and_by_how_much() -> None:
    at_most("a body", 5, 5)
    with pytest.raises(TooLarge, match="a body has 6 bytes; at most 5 bytes are accepted") as caught:
        at_most("a body", 6, 5, "bytes")
    assert caught.value.facts == {"limit": 5, "size": 6}
    assert within("share", 0.5, 0, 1) == 0.5
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(InvalidInput, match="expected a number from 0 to 1"):
            within("share", value, 0, 1)
