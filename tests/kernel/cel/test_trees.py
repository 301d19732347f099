"""Which names an expression can't do without: what coverage says of rules that can never fire."""

from __future__ import annotations

import itertools

import pytest

from steersman.kernel.cel import MappingLookup, compile_expression


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("a > 1", "a"),
        ("a > 1 && b > 1", "a b"),
        ("a > 1 || b > 1", ""),
        ("(a > 1 && b > 1) || (a < 0 && c > 1)", "a"),
        ("!(a > 1 && b > 1)", ""),
        ("!(a > 1 || b > 1)", "a b"),
        ("(a > 1 ? b : c) > 1", "a"),
        ("a > 1 ? b > 1 : b < 1 && c > 1", "a b"),
        ("has(a.b) && c > 1", "c"),
        ("a.exists(x, x > b) && c > 1", "a c"),
        ("(a > 1 || b > 1) == true", ""),
        ("a + b * c > 1", "a b c"),
        ("-a < 1 && !b", "a b"),
        ("a.startsWith('x') && size(b) > 0 && c in ['x', d]", "a b c d"),
        ("a.b['c'].d == 1", "a.b.c.d"),
        ("true", ""),
    ],
)
def test_names_that_it_needs(text: str, needed: str) -> None:
    told = compile_expression(text).needed
    assert {".".join(path) for path in told} == set(needed.split())


@pytest.mark.parametrize(
    "text",
    [
        "a && (b || c) && !(c && d)",
        "a ? b && c : !b || d",
        "!(a || b) || (c && !d)",
        "(a == b) && (c ? d : !d)",
        "((a || b) == (c && d)) || a",
    ],
)
def test_without_a_needed_name_it_is_never_true_and_without_another_it_may_be(text: str) -> None:
    rule = compile_expression(text)

    def may_be_true(without: str) -> bool:
        others = [name for name in "abcd" if name != without]
        return any(
            rule.evaluate(MappingLookup(dict(zip(others, values, strict=True)))).truth == "true"
            for values in itertools.product((True, False), repeat=len(others))
        )

    needed = {path[0] for path in rule.needed}
    assert needed == {name for name in "abcd" if not may_be_true(name)}
