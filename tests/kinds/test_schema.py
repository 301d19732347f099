"""Published schemas: valid, standing alone, and true of everything that is encoded."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from struct_instances import instances, round_trips, typed_fields

from steersman.kinds.entity import ENTITY_CLASSES, EntityType
from steersman.kinds.fields import FIELDS
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.managed import send_managed
from steersman.kinds.phase import LifecyclePhase, ManagedLifecycle
from steersman.kinds.schema import PUBLISHED, UnknownSchema, all_schemas, is_struct, schema_of
from steersman.kinds.state import SessionState
from steersman.kinds.timeslot import Timeslot

STRUCTS = sorted(name for name in PUBLISHED if is_struct(name))
ENTITIES = {cls.__name__ for cls in ENTITY_CLASSES.values()}
BUILT_ELSEWHERE = {"Timeslot", "ManagedLifecycle", "Lifecycle", *ENTITIES}
"""These have bounds that their type information does not tell; the tests below make them."""
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema_of(name), validate_formats=True)


def holds(name: str, value: Any) -> None:
    validator(name).validate(json.loads(msgspec.json.encode(value, enc_hook=send_managed)))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_each_schema_is_valid_and_stands_alone(name: str):
    schema = schema_of(name)
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:steersman:schema:{name}"
    assert schema["title"] == name
    assert schema["description"]
    text = json.dumps(schema)
    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) <= set(schema.get("$defs", {}))
    for note in ("x-low", "x-high", "x-stored"):
        assert note not in text


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - BUILT_ELSEWHERE))
@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data())
def test_every_struct_round_trips_and_is_what_its_schema_says(name: str, data: st.DataObject):
    value = data.draw(instances(PUBLISHED[name]))
    round_trips(value)
    if name != "StateFragment":  # its own rule takes absent values out, also on the way back
        holds(name, value)


@given(typed_fields())
def test_every_entity_round_trips_and_is_what_its_schema_says(case: tuple[EntityType, dict[str, Any]]):
    entity_type, fields = case
    cls = ENTITY_CLASSES[entity_type]
    entity = cls(entity_id="x", entity_type=entity_type, observed_at=START, **fields)
    round_trips(entity)
    holds(cls.__name__, entity)


def test_stored_forms_are_what_their_schemas_say():
    holds("Timeslot", Timeslot(START, END).to_dict())
    lifecycle = ManagedLifecycle(
        (LifecyclePhase("a"), LifecyclePhase("b", "workflow", workflow_ref="w@1")), "a"
    )
    holds("ManagedLifecycle", lifecycle.to_dict())
    holds("ManagedLifecycle", lifecycle)
    holds("ManagedLifecycle", {"phases": {"a": None}})
    state = SessionState(id="s", created_at=START)
    state.set_timeslot(Timeslot(START, END), at=START)
    state.set_lifecycle(lifecycle, at=START)
    holds("Session", state)
    holds("SessionState", state)


def test_a_lifecycle_is_what_its_schema_says():
    holds("Lifecycle", Lifecycle.from_map({"a": ["b"], "b": []}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Timeslot", {"start": "2026-01-01T00:00:00Z"}),
        ("Timeslot", {"start": "soon", "end": "2026-01-01T00:00:00Z"}),
        (
            "Timeslot",
            {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z", "lead_time_seconds": -1},
        ),
        ("SessionState", {"timeslot": {"end": 5}}),
        ("SessionState", {"started_at": "soon"}),
        ("ServiceEntity", {"entity_id": "x", "entity_type": "gpu", "observed_at": "2026-01-01T00:00:00Z"}),
        ("ModelState", {"status": "active"}),
    ],
)
def test_schemas_refuse_what_we_refuse(name: str, value: Any):
    with pytest.raises(jsonschema_rs.ValidationError):
        validator(name).validate(value)


@pytest.mark.parametrize("entity_type", list(EntityType))
def test_entity_schemas_carry_units_paces_bounds_and_words(entity_type: EntityType):
    properties = schema_of(ENTITY_CLASSES[entity_type].__name__)["properties"]
    assert properties["entity_type"] == {"const": entity_type.value}
    for name, spec in FIELDS[entity_type].items():
        shape = properties[name]
        assert shape["description"] == spec.description
        assert shape.get("x-unit", "") == spec.unit
        assert shape["x-pace"] == spec.pace
        assert shape["x-expected"] == spec.expected
        assert shape.get("minimum") == spec.low
        assert shape.get("maximum") == spec.high
        assert tuple(shape.get("x-words", ())) == spec.words
        if spec.type is datetime:
            assert {"type": "string", "format": "date-time"} in shape["anyOf"]


def test_every_time_is_a_date_time_and_no_other_text_is():
    """Fields named for a time carry the format, in every schema."""
    for name, schema in all_schemas().items():
        for body in (schema, *schema.get("$defs", {}).values()):
            for field, shape in body.get("properties", {}).items():
                formats = {arm.get("format") for arm in shape.get("anyOf", [shape])} - {None}
                timed = field.endswith(("_at", "_since", "_until")) or field in {
                    "at",
                    "since",
                    "time",
                    "deadline",
                    "start",
                    "end",
                    "timestamp",
                }
                timed = timed or (field.startswith("last_") and field != "last_error") or field == "next_sync"
                assert formats == ({"date-time"} if timed else set()), (name, field)


def test_a_caller_may_change_what_it_gets():
    schema_of("Timeslot")["properties"].clear()
    assert schema_of("Timeslot")["properties"]


def test_all_schemas_are_in_the_order_of_names():
    assert list(all_schemas()) == sorted(PUBLISHED)


def test_an_unknown_schema_proposes_the_nearest():
    with pytest.raises(UnknownSchema, match="did you mean Timeslot"):
        schema_of("timeslots")
