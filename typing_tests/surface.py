"""What a type checker must see of the public surface. Checked by pyright, never run.

Each line that ends in an expected error says so; an ignore that is not needed is an error itself.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, assert_type

from steersman import (
    CanonicalEntity,
    EntityType,
    HealthState,
    HostState,
    Job,
    Lifecycle,
    LifecyclePhase,
    LockHandle,
    ManagedLifecycle,
    MergeOutcome,
    ModelState,
    Node,
    PodInstance,
    ResourceDefinition,
    ResourceState,
    Session,
    SessionPart,
    SessionState,
    StateBus,
    StateFragment,
    StateTransition,
    SyncPolicy,
    SystemState,
    TimedResource,
    TimedResourceState,
    Timeslot,
    __version__,
)
from steersman.kinds.fields import CleanFields, clean_fields
from steersman.kinds.policy import RECOMMENDATION_LIFECYCLE
from steersman.kinds.resource import Intent
from steersman.kinds.schema import all_schemas, schema_of
from steersman.kinds.state import NodeState, PodInstanceState, ResourceRef


def values(when: datetime, amount: timedelta) -> None:
    """Slots, phases, lifecycles and transitions are typed through and through."""
    slot = Timeslot(start=when, end=when, lead_time=amount)
    assert_type(slot.provision_at(), datetime)
    assert_type(slot.duration(), timedelta)
    assert_type(slot.is_active(), bool)
    assert_type(slot.extend(amount), Timeslot)
    assert_type(slot.extend(when), Timeslot)
    slot.start = when  # pyright: ignore[reportAttributeAccessIssue]  # it is frozen
    slot.extend(5)  # pyright: ignore[reportArgumentType]  # seconds or minutes? say which
    lifecycle = ManagedLifecycle((LifecyclePhase("a"),), "a")
    assert_type(lifecycle.get_phase("a"), LifecyclePhase | None)
    assert_type(lifecycle.phase_names(), list[str])
    LifecyclePhase("a", engine="cron")  # pyright: ignore[reportArgumentType]  # no such engine
    assert_type(StateTransition.from_dict({}), StateTransition)
    machine = Lifecycle.from_yaml("a: [b]")
    assert_type(machine.path("a", "b"), list[str])
    assert_type(machine.allowed("a"), list[str])
    assert_type(RECOMMENDATION_LIFECYCLE, Lifecycle)
    assert_type(__version__, str)


def resources(session: Session, pod: PodInstance, job: Job, node: Node) -> None:
    """An instance knows which state it wraps, without a cast."""
    assert_type(session.state, SessionState)
    assert_type(session.state.part_ids, list[str])
    assert_type(pod.state, PodInstanceState)
    assert_type(job.state, ResourceState)
    assert_type(node.state, NodeState)
    assert_type(session.timeslot, Timeslot | None)
    assert_type(session.reconcile(), Intent | None)
    assert_type(session.children, tuple[ResourceRef, ...])
    _ = job.timeslot  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    Session(HostState())  # pyright: ignore[reportArgumentType]  # another kind's state
    parts: list[TimedResource[Any]] = [SessionPart.__new__(SessionPart), session]
    assert_type(parts[0].next_due(datetime.max), datetime | None)  # noqa: DTZ901 - never run
    state = TimedResourceState()
    assert_type(state.record_transition(None, "Scheduled"), StateTransition)
    assert_type(ResourceDefinition(type_key="a").ref, str)


def bus(when: datetime) -> None:
    """Fragments in, entities out."""
    picture = StateBus()
    fragment = StateFragment("prometheus", EntityType.SERVICE, "api", when, {"queue_depth": 1})
    assert_type(picture.put(fragment), MergeOutcome)
    entity = picture.get(EntityType.SERVICE, "api")
    assert_type(entity, CanonicalEntity | None)
    if entity is not None:
        assert_type(entity.health_state, HealthState)
    everything: Iterator[CanonicalEntity] = iter(picture.entities())
    assert_type(next(everything), CanonicalEntity)
    assert_type(clean_fields(EntityType.GPU, {}), CleanFields)


def routing() -> None:
    """Positional use of the published dataclasses."""
    state = SystemState({"m": ModelState("active", 0, 0.0, 0.0, 0, 0, 0.0)})
    state.models["m"].failure_count += 1
    assert_type(SyncPolicy("periodic"), SyncPolicy)
    LockHandle("l", "me")  # pyright: ignore[reportCallIssue]  # acquired_at is required


def schemas() -> None:
    """Schemas are plain data."""
    assert_type(schema_of("Timeslot"), dict[str, Any])
    assert_type(all_schemas(), dict[str, dict[str, Any]])
