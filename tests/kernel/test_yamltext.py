"""YAML is read with places, by the 1.2 core schema, and can neither run code nor eat memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.kernel.yamltext import (
    DEPTH_MAX,
    NODES_MAX,
    TEXT_MAX_BYTES,
    Located,
    YamlInvalid,
    parse,
    scalar,
)


def test_every_value_and_key_has_its_place() -> None:
    root = parse("a: 1\nb:\n  - x\n  - {c: 'd'}\n", "f.yaml")
    found = root.find("b", 1, "c")
    assert found is not None
    assert (found.value, found.place, found.quoted) == ("d", "f.yaml:4:9", True)
    assert root.key_places == {"a": (1, 1), "b": (2, 1)}
    assert root.find("b", 7) is None
    assert root.find("a", "x") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("0755", 755), ("0o755", 0o755), ("0x1F", 31), ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"), ("1_000", "1_000"), ("1e3", 1000.0), ("-.5", -0.5), ("~", None),
        ("", None),
        ("true", True), ("yes", "yes"), ("-.inf", -math.inf), ("1.", 1.0), ("9" * 100, "9" * 100),
    ],
)  # fmt: skip
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_an_empty_text_is_nothing() -> None:
    assert parse("", "f").value is None
    assert parse("# only a comment\n", "f").value is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\na: 2\n", 2, "key 'a' is given twice, first in line 1"),
        ("a: &x [1]\n", 1, "anchors"),
        ("a: *x\n", 1, "aliases"),
        ("<<: *x\n", 1, "aliases"),
        ("a:\n  !!python/object/apply:os.system ['true']\n", 2, "tags"),
        ("--- 1\n--- 2\n", 2, "more than one document"),
        ("? [a]\n: 1\n", 1, "a key must be plain text"),
        ("a: [1\n", 2, "flow sequence"),
        ("a:\n\t- b\n", 2, "cannot start any token"),
        ("x: 1\na: \x01\n", 2, "character that YAML does not allow"),
        ("[" * (DEPTH_MAX + 1), 1, f"nested deeper than {DEPTH_MAX}"),
        ("k" * 300 + ": 1", 1, "key longer than"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(YamlInvalid) as caught:
        parse(text, "f.yaml")
    assert words in caught.value.detail
    assert caught.value.facts["line"] == line
    assert caught.value.detail.startswith(f"f.yaml:{line}:")


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(YamlInvalid, match=r"f:2:1: not UTF-8"):
        parse(b"a: 1\nb: \xff", "f")
    assert parse(b"\xef\xbb\xbfa: 1", "f").plain() == {"a": 1}


def test_size_and_node_bounds() -> None:
    with pytest.raises(YamlInvalid, match="bytes; at most"):
        parse("#" * (TEXT_MAX_BYTES + 1))
    with pytest.raises(YamlInvalid, match=f"more than {NODES_MAX} values"):
        parse("[" + "1," * (NODES_MAX + 1) + "]")


def test_a_billion_laughs_ends_at_the_first_anchor() -> None:
    lines = ["a: &a [x, x]"] + [f"{c}: &{c} [*{p}, *{p}]" for p, c in zip("abcdefg", "bcdefgh", strict=True)]
    with pytest.raises(YamlInvalid, match="anchors"):
        parse("\n".join(lines))


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    """Goal: no input whatever raises anything but YamlInvalid."""
    try:
        found = parse(text)
    except YamlInvalid as error:
        found = Located(None, line=error.facts["line"])
    assert found.line >= 1


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab: -[]{}#&*!|>'\"\n\t", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner)
    ),
    max_leaves=12,
)


@given(SHAPES)
def test_json_is_read_as_it_is(value: object) -> None:
    """Goal: JSON is YAML; what it says must come back the same."""
    import json

    assert parse(json.dumps(value)).plain() == value
