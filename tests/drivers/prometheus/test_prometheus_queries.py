"""Tables to PromQL, answers to vectors: no name or value breaks out of a query, no answer breaks in."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.api import SourceError
from steersman.drivers.exposition.mapping import (
    EntityRule,
    Mapping,
    MappingInvalid,
    MetricRule,
    open_mapping,
    shipped_mappings,
)
from steersman.drivers.prometheus.answers import read_answer
from steersman.drivers.prometheus.fakequery import Series, evaluate
from steersman.drivers.prometheus.lower import lower
from steersman.drivers.prometheus.promql import quoted, selector
from steersman.drivers.web.client import Answer
from steersman.kinds.entity import EntityType

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=20)
"""Label values. In one with a line break "any rest" ends at it, in Prometheus 2 as here."""


@given(TEXT, TEXT, TEXT)
def test_a_selector_takes_exactly_what_the_table_means(name: str, value: str, other: str) -> None:
    for words in ([value], [value, "x"], [f"{value}*"], [f"{value}*", "x"]):
        stored = {"m": [Series({"__name__": "m", "l": one}, [(1.0, 1.0)]) for one in (value, other, name)]}
        found = evaluate(selector(["m"], {"l": words}, {}, {}), stored, 1.0)
        left = evaluate(selector(["m"], {}, {"l": words}, {}), stored, 1.0)
        assert isinstance(found, list)
        assert isinstance(left, list)

        def meant(text: str, words: list[str] = words) -> bool:
            return any(text.startswith(w[:-1]) if w.endswith("*") else text == w for w in words)

        assert [labels["l"] for labels, _ in found] == [one for one in (value, other, name) if meant(one)]
        assert [labels["l"] for labels, _ in left] == [one for one in (value, other, name) if not meant(one)]


@given(TEXT)
def test_a_quoted_text_is_one_string(text: str) -> None:
    whole = quoted(text)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', whole)


@given(st.binary(max_size=200), st.sampled_from([200, 400, 503]))
def test_any_bytes_are_an_answer_or_a_source_error(body: bytes, status: int) -> None:
    try:
        read_answer(Answer("http://p", status, {}, body))
    except SourceError as error:
        told = error.detail
    else:
        told = "http://p"
    assert "http://p" in told


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["vector", "scalar", "matrix", "string", ""]), JSON, JSON)
def test_any_shape_is_an_answer_or_a_source_error(
    result: object, kind: str, warnings: object, value: object
) -> None:
    for one in (result, [{"metric": {"a": "b"}, "value": value}], [{"metric": value, "value": [1, "2"]}]):
        data = {"resultType": kind, "result": one}
        body = msgspec.json.encode({"status": "success", "data": data, "warnings": warnings})
        try:
            vector = read_answer(Answer("http://p", 200, {}, body))
        except SourceError:
            continue
        assert all(isinstance(sample.value, tuple) or sample.value is None for sample in vector.samples)


@pytest.mark.parametrize("table", shipped_mappings())
def test_each_shipped_table_asks_what_can_be_asked(table: str) -> None:
    """Each rule is answered by some query, and each query has a time."""
    mapping = open_mapping(table)
    lowered = lower([mapping], 300.0, {"cluster": ["a"]}, {"source", "scope"})
    (small,) = lowered.tables
    named = {name for rule in small.metrics for name in rule.metric}
    assert {int(name.rpartition("@")[2]) for name in named} == {query.number for query in lowered.queries}
    stamps = {stamp.number for stamp in lowered.stamps}
    assert {query.stamp for query in lowered.queries} == stamps
    assert len(lowered.stamps) == len(stamps)
    own = {rule.query for rule in mapping.metrics}
    assert all('cluster="a"' in query.text for query in lowered.queries if query.text not in own)


FLEET = {"f": EntityRule(EntityType.DEPLOYMENT, ["f"])}


@pytest.mark.parametrize(
    "rule",
    [
        MetricRule(["m"], "f", "replica_count", query="x"),
        MetricRule(["m"], "f", "replica_count", stamp="x"),
        MetricRule(["m"], "f", "replica_count", query="x", stamp="x", match={"a": ["b"]}),
        MetricRule(["m"], "f", "replica_count", query="x", stamp="x", kind="count"),
    ],
)
def test_an_expression_without_a_time_is_refused(rule: MetricRule) -> None:
    with pytest.raises(MappingInvalid, match="stamp"):
        Mapping(name="t", entities=FLEET, metrics=[rule])
