"""What readers see: entity and explanation are of one picture."""

from __future__ import annotations

import msgspec
import pytest
from bus_facts import GPU, JOB, NODE, SERVICE, at, said, world
from hypothesis import given, settings
from hypothesis import strategies as st
from test_merge_properties import fragments

from steersman.kinds.entity import ENTITY_CLASSES, EntityType
from steersman.kinds.explanation import Explanation
from steersman.kinds.fields import FIELDS
from steersman.kinds.fragment import StateFragment
from steersman.state.bus import StateBus
from steersman.state.view import shape_of


def explained(bus: StateBus, kind: EntityType = NODE, entity_id: str = "n1") -> Explanation:
    found = bus.explain(kind, entity_id)
    assert found is not None
    return found


def test_provenance_names_value_source_times_unit_and_what_others_say() -> None:
    bus, clock = world()
    bus.put(said(at(990), "scraper", entity_type=GPU, power_draw_watts=300.0, labels={"node": "n7"}))
    clock.advance(5)
    bus.put(said(at(1004), "agent", entity_type=GPU, power_draw_watts=310.0))
    field = explained(bus, GPU).fields["power_draw_watts"]
    assert (field.value, field.source, field.source_type, field.unit) == (310.0, "agent", "agent", "W")
    assert (field.observed_at, field.received_at, field.age_s) == (at(1004), at(1005), 1.0)
    assert [(other.source, other.value) for other in field.others] == [("scraper", 300.0)]
    assert explained(bus, GPU).labels["node"].source == "scraper"


def test_there_is_nothing_to_explain_of_what_is_not_there() -> None:
    bus, _ = world()
    assert bus.explain(NODE, "n1") is None
    assert bus.freshness(NODE, "n1") is None


def test_a_tombstone_of_which_nothing_was_ever_known_can_be_shown() -> None:
    bus, _ = world()
    bus.forget(NODE, "n1", observed_at=at(5))
    entity = bus.get(NODE, "n1", deleted=True)
    assert entity is not None
    assert (entity.deleted_at, entity.observed_at, entity.sources) == (at(5), at(5), ())


@pytest.mark.parametrize("kind", EntityType)
def test_each_type_is_built_as_its_own_class(kind: EntityType) -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_type=kind, anything=1))
    entity = bus.get(kind, "n1")
    assert type(entity) is ENTITY_CLASSES[kind]


@settings(max_examples=200, deadline=None)
@given(st.lists(fragments, min_size=1, max_size=15), st.floats(0, 2000))
def test_entity_and_explanation_agree_and_both_can_be_sent(
    stream: list[StateFragment], later_s: float
) -> None:
    bus, clock = world()
    bus.put_many(stream)
    clock.advance(later_s)
    entity = bus.get(NODE, "n1")
    assert entity is not None
    why = explained(bus)
    assert entity.freshness == why.freshness.state
    assert (entity.health_state, entity.health_reasons) == (why.health.health, why.health.reasons)
    assert entity.confidence_score == why.confidence.score
    assert entity.labels == {name: label.value for name, label in why.labels.items()}
    shown = {n: f.value for n, f in why.fields.items() if not f.cleared}
    assert all(getattr(entity, n, None) == v or entity.extra.get(n) == v for n, v in shown.items())
    again = msgspec.json.decode(msgspec.json.encode(entity), type=type(entity))
    assert again == entity, "what is sent keeps to the published schema"
    msgspec.json.encode(why)


@given(st.permutations(["gpu_utilization", "power_draw_watts", "temperature_celsius", "node", "own_words"]))
def test_the_order_in_which_a_source_says_its_fields_makes_no_difference(names: list[str]) -> None:
    values = {"gpu_utilization": 0.5, "power_draw_watts": 300.0, "temperature_celsius": "warm", "node": "n7"}
    seen = {}
    for order in (sorted(names), names):
        bus, _ = world()
        fields = {name: values.get(name, "of its own") for name in order}
        bus.put(said(at(1), entity_type=GPU, **fields))
        seen[tuple(order)] = bus.get(GPU, "n1")
    assert len({msgspec.json.encode(entity, order="sorted") for entity in seen.values()}) == 1
    (entity, *_) = seen.values()
    assert entity is not None
    assert entity.extra == {"temperature_celsius": "warm", "own_words": "of its own"}


def test_fields_are_handed_to_an_entity_in_the_order_in_which_its_class_has_them() -> None:
    for entity_type, kind in ENTITY_CLASSES.items():
        shape = shape_of(entity_type, tuple(reversed(kind.__struct_fields__)))
        names = [name for name, _, _ in shape.declared]
        assert names == [name for name in kind.__struct_fields__ if name in set(names)]
        assert set(names) == set(FIELDS[entity_type])


def test_values_of_a_wrong_type_never_break_the_schema() -> None:
    bus, _ = world()
    bus.put(said(at(1), entity_type=SERVICE, entity_id="s", up="yes", queue_depth=1.5, latency_p95_ms=True))
    bus.put(said(at(1), entity_type=JOB, entity_id="j", started_at="today", job_state=7))
    for entity in bus.entities():
        assert msgspec.json.decode(msgspec.json.encode(entity), type=type(entity)) == entity
