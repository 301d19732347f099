"""Fragments: cleaned once when they are made, bounded, and never changed after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from steersman.kernel.clock import TimeOutOfRange
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import (
    CLEAR_MAX_CHARS,
    FIELDS_MAX,
    ID_MAX_CHARS,
    LABELS_MAX,
    LABELS_MAX_CHARS,
    NAME_MAX_CHARS,
    FragmentInvalid,
    StateFragment,
)

T0 = datetime(2026, 6, 1, tzinfo=UTC)


def fragment(**change: Any) -> StateFragment:
    return StateFragment(
        **{
            "source_type": "prometheus",
            "entity_type": EntityType.SERVICE,
            "entity_id": "inference-api",
            "observed_at": T0,
            **change,
        }
    )


def test_the_published_example():
    example = StateFragment(
        source_type="prometheus",
        entity_type=EntityType.SERVICE,
        entity_id="inference-api",
        observed_at=datetime(2026, 6, 1),  # noqa: DTZ001 - the example's own utcnow() is naive
        fields={"latency_p95_ms": 142.0, "queue_depth": 46},
        labels={"namespace": "prod", "cluster": "us-east-1"},
    )
    assert example.observed_at == T0
    assert example.key == EntityKey(EntityType.SERVICE, "us-east-1", "inference-api")
    assert str(example.key) == "service/us-east-1/inference-api"
    assert example.source == "prometheus"
    assert msgspec.json.decode(msgspec.json.encode(example), type=StateFragment) == example


def test_without_a_cluster_label_there_is_no_scope():
    assert str(fragment().key) == "service/inference-api"


@pytest.mark.parametrize("absent", [None, float("nan"), float("inf"), float("-inf")])
def test_what_a_source_has_no_value_for_is_taken_out(absent: float | None):
    fields = {"latency_p95_ms": absent, "queue_depth": 0, "up": False, "url": ""}
    made = fragment(fields=fields)
    assert made.fields == {"queue_depth": 0, "up": False, "url": ""}
    assert "latency_p95_ms" in fields  # the caller's own dict stays as it was


def test_a_dict_without_absent_values_is_kept_uncopied():
    fields = {"queue_depth": 0}
    assert fragment(fields=fields).fields is fields


def test_every_offset_becomes_utc():
    east = timezone(timedelta(hours=3))
    made = fragment(observed_at=T0.astimezone(east))
    assert made.observed_at == T0
    assert made.observed_at.tzinfo is UTC
    assert fragment(observed_at=T0.replace(tzinfo=timezone(timedelta(0)))).observed_at.tzinfo is UTC


def test_an_entity_type_may_be_given_by_name():
    assert fragment(entity_type="gpu").entity_type is EntityType.GPU


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source_type": ""}, "must not be empty"),
        ({"entity_id": ""}, "must not be empty"),
        ({"entity_id": "x" * (ID_MAX_CHARS + 1)}, "at most 512"),
        ({"source_type": "x" * (NAME_MAX_CHARS + 1)}, "128"),
        ({"source": "x" * (NAME_MAX_CHARS + 1)}, "128"),
        ({"fields": {str(n): n for n in range(FIELDS_MAX + 1)}}, "at most 256 fields"),
        ({"clear": tuple(str(n) for n in range(FIELDS_MAX + 1))}, "names to clear"),
        ({"labels": {str(n): "" for n in range(LABELS_MAX + 1)}}, "at most 64 labels"),
        ({"labels": {"a": "x" * LABELS_MAX_CHARS}}, "characters in all"),
        ({"labels": {"a": 5}}, "texts to texts"),
        ({"entity_type": "pod"}, "entity_type is one of service, .*, not 'pod'"),
    ],
)
def test_what_breaks_a_bound_is_refused(change: dict[str, Any], says: str):
    with pytest.raises(FragmentInvalid, match=says):
        fragment(**change)


def test_a_time_beyond_the_calendar_is_refused():
    with pytest.raises(TimeOutOfRange):
        fragment(observed_at=datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        fragment().entity_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("half", ["\udcff", "pod-\ud800", "\udc00\ud800"])
@pytest.mark.parametrize("place", ["entity_id", "source", "source_type", "label", "scope", "clear"])
def test_half_of_a_character_is_refused(place: str, half: str):
    """Python makes one of each byte of a file name that is not UTF-8; no format can carry it on."""
    places: dict[str, dict[str, Any]] = {
        "label": {"labels": {half: "x"}},
        "scope": {"labels": {"cluster": half}},
        "clear": {"clear": (half,)},
    }
    with pytest.raises(FragmentInvalid, match="half of a character") as caught:
        fragment(**places.get(place, {place: half}))
    caught.value.detail.encode()


def test_names_to_clear_are_bounded_and_texts():
    with pytest.raises(FragmentInvalid, match="clear"):
        fragment(clear=("x" * (CLEAR_MAX_CHARS + 1),))
    with pytest.raises(FragmentInvalid, match="clear"):
        fragment(clear=(5,))
