"""Against the language's reference implementation in C++, and what no data may do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cel_expr_python import cel as reference
from hypothesis import given
from hypothesis import strategies as st

from steersman.kernel.cel import ExpressionInvalid, MappingLookup, compile_expression

INTS = st.integers(-1000, 1000)
ENV = reference.NewEnv(
    variables={
        "x": reference.Type.INT,
        "y": reference.Type.INT,
        "f": reference.Type.DOUBLE,
        "s": reference.Type.STRING,
        "l": reference.Type.List(reference.Type.INT),
    }
)
AGREED = [
    "x + y > 3 && x * y < 100",
    "x >= y ? x - y : y - x",
    "y == 0 || x / y == 2 || x % y == 1",
    "f > double(x) && f < 10.0 || f != f",
    "s.startsWith('a') || s.contains('bc') || size(s) > 3",
    "s.matches('^a+b?$')",
    "l.exists(i, i > x) && !l.all(i, i < y)",
    "l.exists_one(i, i == x)",
    "x in l || y in l",
    "s + '!' == 'ab!'",
    "l.filter(i, i > 0).map(i, i + 1) == l",
    "(x == 0 || y / x > 1) || true",
]


@given(INTS, INTS, st.floats(-50, 50), st.text("abc", max_size=4), st.lists(INTS, max_size=4))
@pytest.mark.parametrize("text", AGREED)
def test_the_reference_implementation_says_the_same(
    text: str,
    x: int,
    y: int,
    f: float,
    s: str,
    l: list[int],  # noqa: E741 - the expressions call it so
) -> None:
    data: dict[str, Any] = {"x": x, "y": y, "f": f, "s": s, "l": l}
    theirs = ENV.compile(text).eval(data=data).plain_value()
    assert compile_expression(text).evaluate(MappingLookup(data)).value == theirs


@pytest.mark.parametrize("text", ["1 + 2.5 == 3.5", "x == 1.0", "x < 2.5 && 1 == 1.0"])
def test_numbers_mix_where_the_reference_refuses(text: str) -> None:
    """JSON has one kind of number, so whole and other numbers calculate and compare with one another."""
    assert compile_expression(text).evaluate(MappingLookup({"x": 1})).truth == "true"


HOSTILE: dict[str, Any] = {
    "m": {"a": 1},
    "l": [1, 2],
    "big": 10**400,
    "f": 1.5,
    "naive": datetime(2026, 1, 1),  # noqa: DTZ001 - a time without a zone is what is tested
    "aware": datetime(2026, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(
    "text", ["m[l] == 1", "m[m] == 1", "{'a': 1}[l] == 1", "big * f > 0", "big / f > 0", "f + big > 0",
             "naive < aware", "naive - aware == duration('1s')", "timestamp(big) == aware"],
)  # fmt: skip
def test_what_makes_no_sense_is_unknown_and_raises_nothing(text: str) -> None:
    told = compile_expression(text).evaluate(MappingLookup(HOSTILE))
    assert told.truth == "unknown"
    assert [lack.why for lack in told.lacks] == ["error"]


def test_a_name_that_has_asked_for_is_still_missed_where_it_is_read() -> None:
    told = compile_expression("has(m.zz) || m.zz == 1").evaluate(MappingLookup(HOSTILE))
    assert [lack.name for lack in told.missing] == ["m.zz"]


def test_a_backslash_that_begins_no_escape_is_refused() -> None:
    with pytest.raises(ExpressionInvalid, match="write it twice"):
        compile_expression(r"s.matches('\d+')")
