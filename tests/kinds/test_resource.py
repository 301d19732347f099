"""Instances: what they say of their state, the diff, the window's next instant, the inventory's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from struct_instances import round_trips

from steersman.kinds.phase import LifecyclePhase, ManagedLifecycle
from steersman.kinds.resource import (
    KIND_ALIASES,
    RESOURCE_KINDS,
    Host,
    Intent,
    InventoryNode,
    Job,
    Node,
    PodInstance,
    Report,
    ResourceInstance,
    Session,
    SessionPart,
    TimedResource,
)
from steersman.kinds.state import (
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

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def test_the_two_tiers():
    for cls in (Job, Report, Node):
        assert issubclass(cls, ResourceInstance)
        assert not issubclass(cls, TimedResource)
    for cls in (Session, SessionPart, PodInstance, Host):
        assert issubclass(cls, TimedResource)
    assert set(RESOURCE_KINDS) == {"Session", "SessionPart", "PodInstance", "Host", "Job", "Report", "Node"}
    assert set(KIND_ALIASES.values()) <= set(RESOURCE_KINDS)


def test_an_instance_reads_its_state():
    lifecycle = ManagedLifecycle((LifecyclePhase("admit"),))
    state = SessionState(
        id="s", session_definition_ref="lab@1", status="Ready", owner_id="ann", part_ids=["p"], created_at=T0
    )
    state.set_lifecycle(lifecycle, at=T0)
    state.set_timeslot(Timeslot(T0, T0 + timedelta(hours=1)), at=T0)
    transition = state.record_transition(None, "Ready", at=T0)
    session = Session(state)
    assert (session.id, session.resource_type, session.definition_ref) == ("s", "Session", "lab@1")
    assert (session.status, session.desired_status, session.owner_id) == ("Ready", None, "ann")
    assert session.state_history == (transition,)
    assert session.lifecycle == lifecycle
    assert session.timeslot == Timeslot(T0, T0 + timedelta(hours=1))
    assert session.children == (ResourceRef("SessionPart", "p"),)
    assert session.parent is None
    assert session.ref == ResourceRef("Session", "s")
    state.status = "Active"
    assert session.status == "Active"
    round_trips(session)


def test_an_untimed_instance_holds_the_first_layer_and_its_own_kind():
    job = Job(ResourceState(id="j", parent_ref="SessionPart/p", created_at=T0))
    assert type(job.state) is ResourceState
    assert job.ref == ResourceRef("Job", "j")
    assert job.state.resource_type == "Job"
    assert job.parent == ResourceRef("SessionPart", "p")
    assert not hasattr(job, "timeslot")
    round_trips(job)


def test_reconcile_says_what_is_to_be_done_and_does_nothing():
    state = PodInstanceState(id="x", status="Ready", created_at=T0)
    pod = PodInstance(state)
    assert pod.reconcile() is None
    state.set_desired_status("TornDown", at=T0)
    assert pod.reconcile() == Intent(ResourceRef("PodInstance", "x"), "Ready", "TornDown", 2)
    assert pod.reconcile() == pod.reconcile()
    assert state.status == "Ready"
    state.status, state.observed_generation = "TornDown", 2
    assert pod.reconcile() is None


def test_an_intent_that_returned_to_the_old_status_still_has_to_be_answered():
    """Ready → asked for Active → asked for Ready again: the status fits, but it answers an older intent."""
    state = PodInstanceState(id="x", status="Ready", observed_generation=1, created_at=T0)
    state.set_desired_status("Active", at=T0)
    state.set_desired_status("Ready", at=T0)
    assert PodInstance(state).reconcile() == Intent(ResourceRef("PodInstance", "x"), "Ready", "Ready", 3)


def test_the_next_instant_of_a_window():
    part = SessionPart(SessionPartState(created_at=T0))
    assert part.next_due(T0) is None
    slot = Timeslot(T0, T0 + timedelta(hours=1))
    part.state.set_timeslot(slot, at=T0)
    instants = [slot.provision_at(), slot.start, slot.end, slot.cleanup_deadline()]
    for instant, following in zip(instants, [*instants[1:], None], strict=True):
        assert part.next_due(instant - TICK) == instant
        assert part.next_due(instant) == following


def test_a_pod_is_bound_to_a_host_and_a_host_counts_its_pods():
    assert PodInstance(PodInstanceState(created_at=T0)).host is None
    assert PodInstance(PodInstanceState(host_id="h", created_at=T0)).host == ResourceRef("Host", "h")
    assert Host(HostState(capacity=2, pod_ids=["a"], created_at=T0)).free_capacity() == 1
    assert Host(HostState(capacity=1, pod_ids=["a", "b"], created_at=T0)).free_capacity() == 0


def test_a_node_in_the_inventorys_words_and_back():
    given = InventoryNode(
        id="x1000c0s0b0n0",
        metadata={"rack": "1000"},
        current_state="firmware_update",
        state_history=[
            {
                "from": "maintenance",
                "to": "firmware_update",
                "timestamp": "2025-06-18T16:44:00Z",
                "initiator": "temporal:ReturnToServiceWorkflow",
                "note": "Automated firmware validation triggered",
            }
        ],
    )
    node = Node.from_inventory(given)
    assert node.status == "firmware_update"
    assert node.state_history[0].triggered_by == "temporal:ReturnToServiceWorkflow"
    assert node.to_inventory() == given
    round_trips(Node(NodeState(id="n", created_at=T0)))


@pytest.mark.parametrize("kind", sorted(RESOURCE_KINDS))
def test_each_kind_wraps_its_own_state(kind: str):
    cls = RESOURCE_KINDS[kind]
    instance = cls(cls.STATE(id="x", created_at=T0))
    assert instance.ref == ResourceRef(kind, "x")


def test_a_state_of_another_kind_is_refused_and_an_alias_is_put_right():
    assert Host(HostState(resource_type="Worker", created_at=T0)).resource_type == "Host"
    with pytest.raises(RefInvalid, match="a Report is not a Job"):
        Job(ResourceState(resource_type="Report", created_at=T0))


def test_a_kind_that_we_do_not_ship_wraps_the_bases():
    lab = TimedResource(TimedResourceState(id="l", resource_type="Lab", created_at=T0))
    assert lab.ref == ResourceRef("Lab", "l")
