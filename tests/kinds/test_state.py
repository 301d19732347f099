"""Layered states: defaults, accessors, history, intent, conditions and holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from struct_instances import round_trips

from steersman.kernel.clock import ManualClock, using_clock
from steersman.kernel.errors import TooLarge
from steersman.kinds.axes import CONDITIONS_MAX, HOLDS_MAX, Condition, Hold, Truth
from steersman.kinds.phase import LifecyclePhase, ManagedLifecycle, PhaseInvalid
from steersman.kinds.state import (
    TRANSITIONS_KEPT_MAX,
    Held,
    HostState,
    NodeState,
    PodInstanceState,
    RefInvalid,
    ResourceRef,
    ResourceState,
    SessionPartState,
    SessionState,
    TimedResourceState,
)
from steersman.kinds.timeslot import Timeslot
from steersman.kinds.transition import StateTransition

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAYER_3 = (SessionState, SessionPartState, PodInstanceState, HostState)
ALL = (ResourceState, TimedResourceState, *LAYER_3, NodeState)


@pytest.mark.parametrize("cls", ALL)
def test_a_state_can_be_made_of_nothing(cls: type[ResourceState]):
    with using_clock(ManualClock(T0)):
        state = cls()
    assert (state.id, state.status, state.desired_status, state.owner_id) == ("", "", None, "")
    assert state.state_history == []
    assert state.pipeline_progress is None
    assert state.created_at == state.updated_at == T0
    assert (state.generation, state.observed_generation, state.version) == (1, 0, 0)
    assert (state.conditions, state.holds, state.operation) == ([], [], None)
    round_trips(state)


def test_the_layers_add_what_they_are_drawn_with():
    assert not issubclass(ResourceState, TimedResourceState)
    for cls in LAYER_3:
        assert issubclass(cls, TimedResourceState)
    timed = TimedResourceState()
    assert (timed.timeslot, timed.lifecycle, timed.started_at, timed.ended_at) == (None, None, None, None)
    assert (timed.duration_seconds, timed.terminated_at) == (None, None)
    assert not hasattr(ResourceState(), "timeslot")
    assert (SessionState().session_definition_ref, SessionState().part_ids) == ("", [])
    part = SessionPartState()
    assert (part.session_id, part.part_definition_ref, part.pod_ids, part.order) == ("", "", [], 0)
    pod = PodInstanceState()
    assert (pod.part_id, pod.pod_definition_ref, pod.pod_type, pod.host_id) == ("", "", "", "")
    host = HostState()
    assert (host.host_type, host.pod_ids, host.capacity) == ("", [], 0)
    assert {cls().resource_type for cls in LAYER_3} == {"Session", "SessionPart", "PodInstance", "Host"}


def test_lists_are_each_instances_own():
    one, other = SessionState(), SessionState()
    one.part_ids.append("p")
    one.record_transition(None, "Scheduled", at=T0)
    assert other.part_ids == []
    assert other.state_history == []


def test_recording_appends_and_touches_and_leaves_the_status():
    state = ResourceState(created_at=T0)
    transition = state._record_transition(
        "Scheduled", "Provisioning", "timer", "lead", {"n": 1}, at=T0 + HOUR
    )
    assert transition == StateTransition("Scheduled", "Provisioning", T0 + HOUR, "timer", "lead", {"n": 1})
    assert state.state_history == [transition]
    assert state.updated_at == T0 + HOUR
    assert state.status == ""


def test_recording_takes_the_current_clock_where_no_time_is_given():
    with using_clock(ManualClock(T0)):
        transition = ResourceState().record_transition(None, "Scheduled")
    assert transition.transitioned_at == T0
    assert transition.triggered_by == "system"


def test_history_keeps_the_last_and_counts_them_all():
    state = ResourceState(created_at=T0)
    for n in range(TRANSITIONS_KEPT_MAX + 5):
        state.record_transition(str(n), str(n + 1), at=T0 + n * HOUR)
    assert len(state.state_history) == TRANSITIONS_KEPT_MAX
    assert state.state_history[0].from_state == "5"
    assert state.history_length == TRANSITIONS_KEPT_MAX + 5
    round_trips(state)


def test_a_clock_set_back_does_not_make_a_state_look_older():
    state = ResourceState(created_at=T0)
    state.record_transition(None, "a", at=T0 + HOUR)
    state.record_transition("a", "b", at=T0)
    assert state.updated_at == T0 + HOUR


def test_timeslot_is_a_dict_inside_and_a_value_outside():
    state = TimedResourceState(created_at=T0)
    assert state.get_timeslot() is None
    slot = Timeslot(T0, T0 + HOUR)
    state.set_timeslot(slot, at=T0 + HOUR)
    assert state.timeslot == slot.to_dict()
    assert state.get_timeslot() == slot
    assert state.updated_at == T0 + HOUR
    state.set_timeslot(None, at=T0)
    assert state.timeslot is None


def test_lifecycle_is_a_dict_inside_and_a_value_outside():
    state = TimedResourceState(created_at=T0)
    assert state.get_lifecycle() is None
    lifecycle = ManagedLifecycle((LifecyclePhase("a"), LifecyclePhase("b")), "a")
    state.set_lifecycle(lifecycle, at=T0 + HOUR)
    assert state.lifecycle == lifecycle.to_dict()
    assert state.get_lifecycle() == lifecycle
    assert state.updated_at == T0 + HOUR
    state.set_lifecycle(None)
    assert state.get_lifecycle() is None


def test_setters_take_the_current_clock_where_no_time_is_given():
    state = TimedResourceState(created_at=T0)
    with using_clock(ManualClock(T0 + HOUR)):
        state.set_timeslot(Timeslot(T0, T0 + HOUR))
    assert state.updated_at == T0 + HOUR


def test_other_forms_become_the_stored_ones():
    state = TimedResourceState(
        timeslot={"start": T0, "end": T0 + HOUR}, lifecycle={"phases": [{"name": "a"}]}, created_at=T0
    )
    assert state.timeslot == Timeslot(T0, T0 + HOUR).to_dict()
    assert state.lifecycle == ManagedLifecycle((LifecyclePhase("a"),)).to_dict()


def test_a_window_that_can_not_be_is_refused_with_its_place():
    with pytest.raises(msgspec.ValidationError, match="must be after start"):
        msgspec.json.decode(
            b'{"timeslot": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}',
            type=SessionState,
        )


def test_check_reads_what_decoding_leaves_unread():
    """A stored lifecycle is not read again at each decoding; an edge asks for it."""
    state = ResourceState(lifecycle={"phases": {"a": {"engine": "cron"}}, "order": ["a"]}, created_at=T0)
    with pytest.raises(PhaseInvalid, match="phase a"):
        state.check()
    with pytest.raises(RefInvalid, match="Kind/id"):
        ResourceState(parent_ref="nobody", created_at=T0).check()
    SessionState(created_at=T0).check()


@pytest.mark.parametrize(
    ("started", "ended", "seconds"),
    [
        (None, None, None),
        (T0, None, None),
        (None, T0, None),
        (T0, T0 + HOUR, 3600.0),
        (T0, T0, 0.0),
        (T0 + HOUR, T0, 0.0),  # only a clock set back makes it
        (datetime(2026, 6, 1, 12), T0 + HOUR, 3600.0),  # noqa: DTZ001 - naive is UTC
    ],
)
def test_duration_needs_both_ends(started: datetime | None, ended: datetime | None, seconds: float | None):
    state = TimedResourceState(created_at=T0)
    state.started_at, state.ended_at = started, ended
    assert state._compute_duration() == seconds
    assert state.duration_seconds == seconds


def test_intent_counts_generations_and_the_same_intent_changes_nothing():
    state = ResourceState(status="Ready", created_at=T0)
    assert state.is_converged()
    assert state.set_desired_status("Active", at=T0 + HOUR)
    assert (state.generation, state.updated_at) == (2, T0 + HOUR)
    assert not state.set_desired_status("Active", at=T0 + 2 * HOUR)
    assert (state.generation, state.updated_at) == (2, T0 + HOUR)
    assert not state.is_converged()
    state.status = "Active"
    assert not state.is_converged()  # the status answers to an older intent
    state.observed_generation = 2
    assert state.is_converged()


def condition(status: Truth, at: datetime, kind: str = "health") -> Condition:
    return Condition(type=kind, status=status, source="test", observed_at=at)


def test_a_condition_is_replaced_by_type_and_remembers_when_it_last_changed():
    state = ResourceState(created_at=T0)
    state.set_condition(condition(Truth.TRUE, T0))
    state.set_condition(condition(Truth.TRUE, T0 + HOUR))
    assert state.condition("health") == Condition(
        type="health", status=Truth.TRUE, source="test", observed_at=T0 + HOUR, changed_at=T0
    )
    state.set_condition(condition(Truth.FALSE, T0 + 2 * HOUR))
    found = state.condition("health")
    assert found is not None
    assert found.changed_at == T0 + 2 * HOUR
    assert len(state.conditions) == 1
    assert state.condition("power") is None


def test_conditions_and_holds_are_bounded():
    state = ResourceState(created_at=T0)
    for n in range(CONDITIONS_MAX):
        state.set_condition(condition(Truth.TRUE, T0, str(n)))
    with pytest.raises(TooLarge):
        state.set_condition(condition(Truth.TRUE, T0, "one more"))
    for n in range(HOLDS_MAX):
        state.place_hold(Hold(name=str(n), owner="me", placed_at=T0))
    with pytest.raises(TooLarge):
        state.place_hold(Hold(name="one more", owner="me", placed_at=T0))


def test_a_hold_is_its_owners():
    state = ResourceState(id="n1", created_at=T0)
    state.place_hold(Hold(name="rma", owner="ann", placed_at=T0))
    state.place_hold(Hold(name="rma", owner="ann", placed_at=T0, reason="again"))
    assert [hold.reason for hold in state.holds] == ["again"]
    with pytest.raises(Held, match="belongs to ann") as caught:
        state.place_hold(Hold(name="rma", owner="bob", placed_at=T0))
    assert caught.value.facts == {"hold": "rma", "owner": "ann"}
    with pytest.raises(Held):
        state.lift_hold("rma", "bob")
    assert state.lift_hold("rma", "ann", at=T0 + HOUR)
    assert not state.lift_hold("rma", "ann")
    assert state.holds == []


def test_a_hold_ends_at_its_expiry():
    hold = Hold(name="rma", owner="ann", placed_at=T0, expires_at=T0 + HOUR)
    assert hold.is_alive(T0 + HOUR - timedelta(microseconds=1))
    assert not hold.is_alive(T0 + HOUR)
    assert Hold(name="rma", owner="ann", placed_at=T0).is_alive(T0 + 999 * HOUR)


def test_the_tree_goes_down_and_up():
    session = SessionState(id="s", part_ids=["p1", "p2"])
    part = SessionPartState(id="p1", session_id="s", pod_ids=["x"])
    pod = PodInstanceState(id="x", part_id="p1", host_id="h")
    assert session.children() == [ResourceRef("SessionPart", "p1"), ResourceRef("SessionPart", "p2")]
    assert session.parent() is None
    assert part.children() == [ResourceRef("PodInstance", "x")]
    assert part.parent() == ResourceRef("Session", "s")
    assert pod.parent() == ResourceRef("SessionPart", "p1")
    assert pod.children() == []
    assert HostState(pod_ids=["x"]).children() == []  # binding is not owning
    assert ResourceState(parent_ref="SessionPart/p1").parent() == ResourceRef("SessionPart", "p1")
    assert SessionPartState().parent() is None


@pytest.mark.parametrize(
    ("cls", "special"),
    [
        (SessionState, "session_definition_ref"),
        (SessionPartState, "part_definition_ref"),
        (PodInstanceState, "pod_definition_ref"),
    ],
)
def test_a_definition_has_one_name_under_two_keys(cls: type[ResourceState], special: str):
    by_special = cls(**{special: "lab@1"})  # type: ignore[arg-type]
    by_general = cls(definition_ref="lab@1")
    assert by_special.definition_ref == getattr(by_general, special) == "lab@1"
    both: dict[str, Any] = {special: "lab@1", "definition_ref": "lab@2"}
    with pytest.raises(RefInvalid, match="name one fact"):
        cls(**both)


@pytest.mark.parametrize("text", ["", "a", "/a", "a/", "/"])
def test_a_reference_that_can_not_be_read(text: str):
    with pytest.raises(RefInvalid):
        ResourceRef.parse(text)


def test_references_round_trip():
    assert ResourceRef.parse("Node/rack/1") == ResourceRef("Node", "rack/1")
    assert str(ResourceRef.parse("Node/rack/1")) == "Node/rack/1"
