"""Push: each item its verdict; a bad one never loses the good ones, and its error says where and what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import TooLarge
from steersman.kinds.entity import EntityType
from steersman.observe.inlet import SLICE_MAX, Inlet
from steersman.observe.push import Push, PushAnswer
from steersman.observe.split import PushMalformed, split_array
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def item(entity_id: str = "g1", **changes: Any) -> dict[str, Any]:
    return {
        "source_type": "dcgm",
        "entity_type": "gpu",
        "entity_id": entity_id,
        "observed_at": "2026-03-01T12:00:00Z",
        "fields": {"gpu_utilization": 0.5},
        **changes,
    }


class Desk:
    """A push over an empty bus."""

    def __init__(self, **bounds: int) -> None:
        self.clock = ManualClock(NOW)
        self.bus = StateBus(self.clock)
        self.inlet = Inlet(self.bus, self.clock)
        self.push = Push(self.inlet, self.clock, **bounds)

    async def array(self, body: bytes | list[Any], results: Any = "all") -> PushAnswer:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.push.take_array(body, results=results)

    async def lines(self, body: bytes, size: int = 7, results: Any = "all") -> PushAnswer:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        return await self.push.take_lines(chunks(), results=results)


def verdicts(answer: PushAnswer) -> list[str]:
    return [result.verdict for result in answer.results]


async def test_the_answer_has_the_published_shape() -> None:
    desk = Desk()
    answer = await desk.array([item(), item(), item(observed_at="2026-03-01T11:00:00Z"), 5])
    assert msgspec.json.decode(msgspec.json.encode(answer)) == {
        "accepted": 2,
        "stale": 1,
        "invalid": 1,
        "results": [
            {"index": 0, "verdict": "created", "error": None},
            {"index": 1, "verdict": "merged", "error": None},
            {"index": 2, "verdict": "stale", "error": None},
            {
                "index": 3,
                "verdict": "invalid",
                "error": {"code": "item_invalid", "detail": "item 3: Expected `object`, got `int`"},
            },
        ],
    }


BAD = {
    "unknown type": (item(entity_type="gpuu"), "'gpuu' is no entity type; did you mean gpu?; one of"),
    "misspelt key": (item(lables={"cluster": "a"}), "lables: unknown key; did you mean labels?"),
    "scope as a key": (item(scope="a"), "scope: unknown key; an entity's scope is its label 'cluster'"),
    "NUL in the id": (item(entity_id="a\0b"), "entity_id holds a NUL"),
    "missing key": ({"source_type": "x"}, "missing required field `entity_type`"),
    "wrong type": (item(fields={"gpu_utilization": "high"}), "fields.gpu_utilization: expected a number"),
    "out of range": (item(fields={"gpu_utilization": 97.0}), "gpu_utilization: expected a number from"),
    "fields is a list": (item(fields=[1]), "fields: expected `object`, got `array`"),
    "label is a number": (item(labels={"a": 1}), "labels[...]: expected `str`, got `int`"),
    "no id": (item(""), "source_type and entity_id must not be empty"),
    "long id": (item("x" * 600), "entity_id has at most 512 characters"),
    "too many fields": (item(fields={f"f{n}": n for n in range(300)}), "at most 256 fields"),
    "bad time": (item(observed_at="yesterday"), "observed_at: expected a time as in 2026-01-31T12:00:00Z"),
    "number as time": (item(observed_at=5), "observed_at: expected `datetime`, got `int`"),
    "future": (item(observed_at="2027-01-01T00:00:00Z"), "ahead of our clock"),
    "null": (None, "Expected `object`, got `null`"),
    "own source": (item(source="steersman"), "source: 'steersman' is observed by this server itself"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("form", ["array", "lines"])
async def test_a_bad_item_is_named_and_loses_nobody(name: str, form: str) -> None:
    bad, words = BAD[name]
    desk = Desk()
    items = [item("a"), bad, item("b")]
    if form == "array":
        answer = await desk.array(items)
    else:
        answer = await desk.lines("\n".join(json.dumps(one) for one in items).encode())
    assert verdicts(answer) == ["created", "invalid", "created"]
    assert (answer.accepted, answer.invalid) == (2, 1)
    error = answer.results[1].error
    assert error is not None
    assert words in error.detail
    assert error.detail.startswith("item 1: " if form == "array" else "line 2: ")
    assert desk.bus.get(EntityType.GPU, "b") is not None


async def test_a_naive_time_is_utc_and_a_little_future_is_put_right() -> None:
    desk = Desk()
    soon = (NOW + timedelta(seconds=20)).isoformat()
    assert verdicts(
        await desk.array([item("a", observed_at="2026-03-01T12:00:00"), item("b", observed_at=soon)])
    ) == [
        "created",
        "created",
    ]


async def test_unknown_fields_are_kept() -> None:
    desk = Desk()
    await desk.array([item(fields={"gpu_utilization": 0.1, "new_metric": 5})])
    gpu: Any = desk.bus.get(EntityType.GPU, "g1")
    assert gpu.extra == {"new_metric": 5}


async def test_nan_in_an_array_is_one_bad_item() -> None:
    desk = Desk()
    body = json.dumps([item("a"), item(fields={"gpu_utilization": float("nan")}), item("b")]).encode()
    assert b"NaN" in body
    answer = await desk.array(body)
    assert verdicts(answer) == ["created", "invalid", "created"]
    error = answer.results[1].error
    assert error is not None
    assert error.detail == (
        "item 1: NaN and Infinity are not JSON: leave the field out where it has no value"
    )


@pytest.mark.parametrize("form", ["array", "lines"])
async def test_a_text_that_is_no_utf8_is_one_bad_item(form: str) -> None:
    """msgspec tells it by UnicodeDecodeError, which is none of its own errors."""
    desk = Desk()
    good = json.dumps(item()).encode()
    bad = good.replace(b"dcgm", b"dc\xffm")
    body = b"[%b,%b,%b]" % (good, bad, good) if form == "array" else b"\n".join((good, bad, good))
    answer = await (desk.array(body) if form == "array" else desk.lines(body))
    assert verdicts(answer) == ["created", "invalid", "merged"]
    error = answer.results[1].error
    assert error is not None
    assert error.code == "item_malformed"
    assert "UTF-8" in error.detail


async def test_malformed_items_between_good_ones() -> None:
    desk = Desk()
    good = json.dumps(item("a")).encode()
    body = b"[ " + good + b', {"a" 1}, , tru, "x]y", ' + good.replace(b'"a"', b'"b"') + b" ]"
    answer = await desk.array(body)
    assert verdicts(answer) == ["created", "invalid", "invalid", "invalid", "invalid", "created"]
    errors = [r.error.detail for r in answer.results if r.error is not None]
    assert errors[0].startswith("item 1: JSON is malformed")
    assert errors[1] == "item 2: nothing between two commas"


async def test_an_item_nested_without_end_is_one_bad_item() -> None:
    desk = Desk()
    good = json.dumps(item("a")).encode()
    nest = b"[" * 100_000 + b"]" * 100_000
    deep = json.dumps(item("d", fields={"x": "@"})).encode().replace(b'"@"', nest)
    answer = await desk.array(b"[" + good + b"," + deep + b"]")
    assert verdicts(answer) == ["created", "invalid"]
    assert "nested deeper" in str(answer.results[1].error)
    assert verdicts(await desk.lines(deep + b"\n" + good, size=99_999)) == ["invalid", "merged"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "expected a JSON array"),
        (b'{"a": 1}', "expected a JSON array"),
        (b"[1, 2", "the array is not closed: the body ends at byte 5"),
        (b'["abc', "a string is not closed"),
        (b"[1] 2", "more follows after the end of the array, at byte 4"),
        (b"hello", "expected a JSON array"),
        (b"\xff\xfe", "expected a JSON array"),
    ],
)
async def test_a_body_that_is_no_array_is_refused_whole(body: bytes, words: str) -> None:
    desk = Desk()
    with pytest.raises(PushMalformed, match=words):
        await desk.array(body)
    assert len(desk.bus) == 0


async def test_a_cut_body_takes_nothing_in() -> None:
    desk = Desk()
    body = json.dumps([item("a"), item("b")]).encode()
    with pytest.raises(PushMalformed, match="not closed"):
        await desk.array(body[:-20])
    assert len(desk.bus) == 0


async def test_bounds_are_typed_errors() -> None:
    desk = Desk(body_max_bytes=1000, items_max=3)
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        await desk.array(b"[" + b" " * 1000 + b"]")
    with pytest.raises(TooLarge, match="more than 3"):
        await desk.array(b"[1,2,3,4]")
    with pytest.raises(TooLarge, match="more than 3"):
        await desk.array(b"[1,2,3,NaN]")
    with pytest.raises(TooLarge, match="more than 3") as caught:
        await desk.lines(b"1\n2\n3\n4\n")
    assert caught.value.facts["invalid"] == 3


async def test_lines_over_the_bodys_bound_say_what_was_taken() -> None:
    line = json.dumps(item("a")).encode() + b"\n"
    desk = Desk(body_max_bytes=3 * len(line))
    with pytest.raises(TooLarge) as caught:
        await desk.lines(line * 10, size=len(line))
    assert caught.value.facts["accepted"] == 3


async def test_a_line_over_its_bound_is_one_bad_item() -> None:
    desk = Desk(line_max_bytes=500)
    long = json.dumps(item("x" * 800)).encode()
    good = json.dumps(item("a")).encode()
    for size in (1, 7, 100, 10_000):
        answer = await desk.lines(b"\n".join((long, good, long)), size=size)
        assert [r.error is not None for r in answer.results] == [True, False, True]
        assert "line 1: longer than 500 bytes" in str(answer.results[0].error)


async def test_blank_lines_and_carriage_returns_do_not_count() -> None:
    desk = Desk()
    good = json.dumps(item("a")).encode()
    answer = await desk.lines(b"\n\r\n" + good + b"\r\n  \n{bad\n\n")
    assert [(r.index, r.verdict) for r in answer.results] == [(0, "created"), (1, "invalid")]
    assert "line 5: " in str(answer.results[1].error)


async def test_two_values_on_a_line_are_a_bad_line() -> None:
    desk = Desk()
    good = json.dumps(item("a")).encode()
    assert verdicts(await desk.lines(good + b" " + good + b"\n" + good)) == ["invalid", "created"]


async def test_results_may_be_errors_only() -> None:
    desk = Desk()
    answer = await desk.array([item("a"), 5, item("b")], results="errors")
    assert [result.index for result in answer.results] == [1]
    assert answer.accepted == 2


async def test_more_than_a_slice_keeps_indexes_in_order() -> None:
    desk = Desk()
    items: list[Any] = [item(f"g{n}") for n in range(2 * SLICE_MAX + 10)]
    items[3] = items[SLICE_MAX + 3] = 5
    answer = await desk.array(items)
    assert [result.index for result in answer.results] == list(range(len(items)))
    assert answer.invalid == 2
    assert len(desk.bus) == len(items) - 2


async def test_a_configured_source_is_not_pushed_for() -> None:
    desk = Desk()
    desk.inlet.declare(SourceInfo("metrics", "prometheus", 15.0))
    answer = await desk.array([item(source="metrics"), item(source="other")])
    assert verdicts(answer) == ["invalid", "created"]


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TEMPERED = st.fixed_dictionaries(
    {
        key: st.just(value) | JSONISH
        for key, value in item().items()
    }
)  # fmt: skip


@given(st.lists(TEMPERED | JSONISH, max_size=5), st.integers(1, 40))
async def test_any_items_get_one_verdict_each(items: list[Any], size: int) -> None:
    """Goal: whatever JSON is sent, in either form, each item has exactly one verdict."""
    desk = Desk()
    answer = await desk.array(items)
    assert [result.index for result in answer.results] == list(range(len(items)))
    assert answer.accepted + answer.stale + answer.invalid == len(items)
    again = Desk()
    lines = await again.lines("\n".join(json.dumps(one) for one in items).encode(), size=size)
    assert verdicts(lines) == verdicts(answer)


@given(st.binary(max_size=200) | st.text('[]{},": \\1aNul', max_size=60).map(str.encode))
@example(b'["\\"\\"\\"')
async def test_any_bytes_are_answered_or_refused(body: bytes) -> None:
    desk = Desk()
    try:
        answer = await desk.array(body)
    except PushMalformed:
        answer = PushAnswer(0, 0, 0, [])
    assert answer.accepted == 0
    assert (await desk.lines(body)).accepted == 0


@given(st.lists(JSONISH, max_size=6), st.sampled_from(["", " ", "\n\t "]))
def test_splitting_good_json_gives_its_items(items: list[Any], space: str) -> None:
    """Goal: on a well-formed array the splitter agrees with a real parser."""
    text = "[" + f"{space},{space}".join(json.dumps(one) for one in items) + space + "]"
    texts = [part for part in split_array(text.encode()) if part is not None]
    assert [json.dumps(json.loads(part)) for part in texts] == [json.dumps(one) for one in items]


def test_splitting_is_linear_in_hostile_input() -> None:
    """Goal: strings that never end, and deep nesting, are looked at once, not once for each beginning."""
    for body in (b"[" + b'"\\"' * 200_000, b"[" * 500_000, b'["' + b"\\\\" * 500_000):
        with pytest.raises(PushMalformed):
            list(split_array(body))


async def test_a_pushed_word_that_no_vocabulary_knows_is_taken_as_unknown_and_told_as_drift() -> None:
    desk = Desk()
    answer = await desk.array([item("j", entity_type="job", fields={"job_state": "REVOKED_BY_MOON"})])
    assert answer.accepted == 1
    assert [(signal.field, signal.count) for signal in desk.bus.drift()] == [("job_state", 1)]
