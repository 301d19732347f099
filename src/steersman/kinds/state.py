"""The state of running resources, in three layers: what all have, what timed ones add, what each kind adds.

These are working copies and therefore mutable: a manager or the Ledger reads one from the store, changes it,
and hands it to one commit that checks `version`. Nothing else keeps or shares one, and a change that is not
committed never happened. What a state is made of is immutable: transitions, conditions, holds and the
operation are replaced, never edited, and `timeslot` and `lifecycle` are kept in their stored forms and handed
out as values, so that nobody changes a window by accident.

`state_history` holds the last `TRANSITIONS_KEPT_MAX` transitions; the whole history is in the store,
append-only, and `history_length` says how long it is.

No clock is read here. Where a time is not given, it is the current clock's (decision 0005).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.bounds import at_most
from steersman.kernel.clock import as_utc, current_now
from steersman.kernel.errors import InvalidInput, Refused
from steersman.kinds.axes import CONDITIONS_MAX, HOLDS_MAX, Condition, Hold, Operation
from steersman.kinds.phase import ManagedLifecycle
from steersman.kinds.timeslot import Timeslot
from steersman.kinds.transition import SYSTEM, StateTransition

TRANSITIONS_KEPT_MAX = 32
"""Transitions that a resource carries; older ones are paged from the store."""

_NOT_YET = datetime(1, 1, 1, tzinfo=UTC)


class Held(Refused):
    """Another owner's hold of that name is on the resource; `facts` hold `hold` and `owner`."""

    code = "held"
    title = "Held by another owner"


class RefInvalid(InvalidInput, ValueError):
    """A reference to a resource that can't be read, or two that name different things for one fact."""

    code = "ref_invalid"
    title = "Reference invalid"


class ResourceRef(NamedTuple):
    """A resource by kind and id; in text `Kind/id`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> ResourceRef:
        """Read `Kind/id`. Raises `RefInvalid`."""
        kind, slash, name = text.partition("/")
        if not kind or not slash or not name:
            raise RefInvalid(f"a reference to a resource is Kind/id, not {text[:80]!r}")
        return cls(kind, name)


def _stored(name: str) -> Meta:
    """Says in the published schema that the mapping is that value's stored form."""
    return Meta(extra_json_schema={"x-stored": name})


class Retry(Struct, frozen=True, kw_only=True):
    """How often bringing a resource where it is meant to be has failed in a row, for one intent.

    Durable, so that a restart does not start a budget anew. `failures` of `budget` are used; the next try is
    at `next_at`. `generation` is the intent that it counts for: a new intent starts at zero.
    """

    failures: Annotated[int, Meta(ge=1)]
    budget: Annotated[int, Meta(ge=1)]
    generation: Annotated[int, Meta(ge=1)]
    next_at: datetime
    error: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "next_at", as_utc(self.next_at))

    @property
    def exhausted(self) -> bool:
        """Whether nothing is tried any more."""
        return self.failures >= self.budget


class ResourceState(Struct, kw_only=True):
    """Layer 1: what every resource has.

    - `status` is where it is, a word of its lifecycle table (`lifecycle_table` names it); `desired_status` is
      where it is meant to be, None where nobody has said. Both are plain text on purpose: the words are data.
    - `generation` counts the changes of intent, `observed_generation` is the one that `status` answers to.
    - `version` counts its changes, one history row each, and is what compare-and-swap compares; 0 before the
      first. It goes on counting where an id is deleted and made again, so it never means two things.
    - `status_since` is when it came to `status`: deadlines count from it.
    - `desired_by`, `desired_reason`: who set the intent, and why.
    - `epoch` is the fence: it grows each time that somebody takes the resource over (`fence_holder`), and a
      request that brings an older one is refused.
    - `retry`: failures of bringing it to its intent, where there were any.
    - `operation`, `conditions`, `holds`: the other axes (`kinds.axes`).
    - `lifecycle`: the `ManagedLifecycle` in its stored form; use the accessors.
    - `pipeline_progress`: what each phase's engine has finished, in that engine's shape.
    """

    id: str = ""
    resource_type: str = ""
    definition_ref: str = ""
    parent_ref: str | None = None
    status: str = ""
    desired_status: str | None = None
    desired_by: str = ""
    desired_reason: str = ""
    owner_id: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    lifecycle_table: str = ""
    lifecycle: Annotated[dict[str, Any] | None, _stored("ManagedLifecycle")] = None
    state_history: list[StateTransition] = field(default_factory=list[StateTransition])
    history_length: Annotated[int, Meta(ge=0)] = 0
    pipeline_progress: dict[str, Any] | None = None
    operation: Operation | None = None
    conditions: list[Condition] = field(default_factory=list[Condition])
    holds: list[Hold] = field(default_factory=list[Hold])
    generation: Annotated[int, Meta(ge=1)] = 1
    observed_generation: Annotated[int, Meta(ge=0)] = 0
    version: Annotated[int, Meta(ge=0)] = 0
    epoch: Annotated[int, Meta(ge=0)] = 0
    fence_holder: str = ""
    retry: Retry | None = None
    created_at: datetime = field(default_factory=current_now)
    updated_at: datetime = field(default_factory=lambda: _NOT_YET)
    status_since: datetime = field(default_factory=lambda: _NOT_YET)

    def __post_init__(self) -> None:
        self.created_at = as_utc(self.created_at)
        self.updated_at = self.created_at if self.updated_at is _NOT_YET else as_utc(self.updated_at)
        self.status_since = self.created_at if self.status_since is _NOT_YET else as_utc(self.status_since)
        self.history_length = max(self.history_length, len(self.state_history))
        if self.lifecycle is not None and "order" not in self.lifecycle:
            # Another accepted form. The stored one is not read here: it was, when it was set, and reading it
            # again costs more than all the rest each time that a store's record is decoded.
            self.lifecycle = ManagedLifecycle.from_dict(self.lifecycle).to_dict()

    def check(self) -> None:
        """Read all that is kept in stored forms. For edges that take a state from outside; raises what the
        value types raise."""
        self.get_lifecycle()
        self.parent()

    def parent(self) -> ResourceRef | None:
        """What it is part of; None for a root."""
        return None if self.parent_ref is None else ResourceRef.parse(self.parent_ref)

    def children(self) -> list[ResourceRef]:
        """What is part of it, in order."""
        return []

    def is_converged(self) -> bool:
        """Whether it is where it is meant to be, as of the newest intent."""
        if self.desired_status is None:
            return True
        return self.status == self.desired_status and self.observed_generation >= self.generation

    def set_desired_status(self, desired: str | None, at: datetime | None = None) -> bool:
        """Set the intent. Returns whether it changed; the same intent again changes nothing."""
        if desired == self.desired_status:
            return False
        self.desired_status = desired
        self.generation += 1
        self._touch(at)
        return True

    def record_transition(
        self,
        from_state: str | None,
        to_state: str,
        triggered_by: str = SYSTEM,
        reason: str | None = None,
        metadata: dict[str, Any] | None = None,
        at: datetime | None = None,
    ) -> StateTransition:
        """Append a transition to the history and return it. It does not set `status`; its caller does."""
        when = current_now() if at is None else as_utc(at)
        transition = StateTransition(from_state, to_state, when, triggered_by, reason, metadata)
        self.state_history.append(transition)
        self.history_length += 1
        del self.state_history[:-TRANSITIONS_KEPT_MAX]
        self._touch(when)
        return transition

    _record_transition = record_transition  # the published model draws it with the underscore

    def get_lifecycle(self) -> ManagedLifecycle | None:
        """Its phases, as a value; None where it has none."""
        return None if self.lifecycle is None else ManagedLifecycle.from_dict(self.lifecycle)

    def set_lifecycle(self, lifecycle: ManagedLifecycle | None, at: datetime | None = None) -> None:
        """Put other phases in place."""
        self.lifecycle = None if lifecycle is None else lifecycle.to_dict()
        self._touch(at)

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type; None where nobody has said anything."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def set_condition(self, condition: Condition) -> None:
        """Put a condition in place of the one of its type. While the status stays, so does `changed_at`."""
        before = self.condition(condition.type)
        if before is None:
            at_most("conditions of a resource", len(self.conditions) + 1, CONDITIONS_MAX)
            self.conditions.append(condition)
        else:
            if before.status is condition.status:
                condition = _since(condition, before.changed_at)
            self.conditions[self.conditions.index(before)] = condition
        self._touch(condition.observed_at)

    def place_hold(self, hold: Hold) -> None:
        """Put a hold on it; its owner may place it anew. Raises `Held` where another owner has the name."""
        before = next((other for other in self.holds if other.name == hold.name), None)
        if before is None:
            at_most("holds of a resource", len(self.holds) + 1, HOLDS_MAX)
            self.holds.append(hold)
        elif before.owner != hold.owner:
            raise Held(
                f"{self.id}: hold {hold.name} belongs to {before.owner}", hold=hold.name, owner=before.owner
            )
        else:
            self.holds[self.holds.index(before)] = hold
        self._touch(hold.placed_at)

    def lift_hold(self, name: str, owner: str, at: datetime | None = None) -> bool:
        """Take a hold off. Returns whether it was there. Raises `Held` where it is another owner's."""
        for hold in self.holds:
            if hold.name == name:
                if hold.owner != owner:
                    raise Held(f"{self.id}: hold {name} belongs to {hold.owner}", hold=name, owner=hold.owner)
                self.holds.remove(hold)
                self._touch(at)
                return True
        return False

    def _touch(self, at: datetime | None) -> None:
        when = current_now() if at is None else as_utc(at)
        self.updated_at = max(
            self.updated_at, when
        )  # a clock set back must not make a newer state look older


class TimedResourceState(ResourceState, kw_only=True):
    """Layer 2: what a resource with a window of its own adds.

    `timeslot` is the stored form of a `Timeslot`; use the accessors. `duration_seconds` is how long it was
    active, known once both ends are.
    """

    timeslot: Annotated[dict[str, Any] | None, _stored("Timeslot")] = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: Annotated[float, Meta(ge=0)] | None = None
    terminated_at: datetime | None = None

    def __post_init__(self) -> None:
        ResourceState.__post_init__(self)
        if self.timeslot is not None:
            self.timeslot = Timeslot.from_dict(self.timeslot).to_dict()
        self.started_at = _utc(self.started_at)
        self.ended_at = _utc(self.ended_at)
        self.terminated_at = _utc(self.terminated_at)

    def get_timeslot(self) -> Timeslot | None:
        """Its window, as a value; None where none was set."""
        return None if self.timeslot is None else Timeslot.from_dict(self.timeslot)

    def set_timeslot(self, timeslot: Timeslot | None, at: datetime | None = None) -> None:
        """Put another window in place. Whether it may change is for the caller to decide."""
        self.timeslot = None if timeslot is None else timeslot.to_dict()
        self._touch(at)

    def compute_duration(self) -> float | None:
        """Fill `duration_seconds` from `started_at` and `ended_at`, where both are known; return it.

        Naive times are UTC. An end before its start, which only a clock set back makes, counts as zero.
        """
        if self.started_at is not None and self.ended_at is not None:
            self.started_at, self.ended_at = as_utc(self.started_at), as_utc(self.ended_at)
            self.duration_seconds = max(0.0, (self.ended_at - self.started_at).total_seconds())
        return self.duration_seconds

    _compute_duration = compute_duration  # the published model draws it with the underscore


class SessionState(TimedResourceState, kw_only=True):
    """A session: the root of a tree, which sequences and gates its parts."""

    resource_type: str = "Session"
    session_definition_ref: str = ""
    part_ids: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        TimedResourceState.__post_init__(self)
        self.definition_ref = self.session_definition_ref = _same(
            self.definition_ref, self.session_definition_ref
        )

    def children(self) -> list[ResourceRef]:
        return [ResourceRef("SessionPart", part_id) for part_id in self.part_ids]


class SessionPartState(TimedResourceState, kw_only=True):
    """A part of a session, with a window of its own and its pods. `order` is its place among the parts."""

    resource_type: str = "SessionPart"
    session_id: str = ""
    part_definition_ref: str = ""
    pod_ids: list[str] = field(default_factory=list[str])
    order: int = 0

    def __post_init__(self) -> None:
        TimedResourceState.__post_init__(self)
        self.definition_ref = self.part_definition_ref = _same(self.definition_ref, self.part_definition_ref)

    def parent(self) -> ResourceRef | None:
        return ResourceRef("Session", self.session_id) if self.session_id else None

    def children(self) -> list[ResourceRef]:
        return [ResourceRef("PodInstance", pod_id) for pod_id in self.pod_ids]


class PodInstanceState(TimedResourceState, kw_only=True):
    """A pod: owned by a part, bound to a host. `host_id` is empty until it is bound."""

    resource_type: str = "PodInstance"
    part_id: str = ""
    pod_definition_ref: str = ""
    pod_type: str = ""
    host_id: str = ""

    def __post_init__(self) -> None:
        TimedResourceState.__post_init__(self)
        self.definition_ref = self.pod_definition_ref = _same(self.definition_ref, self.pod_definition_ref)

    def parent(self) -> ResourceRef | None:
        return ResourceRef("SessionPart", self.part_id) if self.part_id else None


class HostState(TimedResourceState, kw_only=True):
    """A host: pods are bound to it, which does not make them its children. `capacity` counts pods."""

    resource_type: str = "Host"
    host_type: str = ""
    pod_ids: list[str] = field(default_factory=list[str])
    capacity: Annotated[int, Meta(ge=0)] = 0


class NodeState(ResourceState, kw_only=True):
    """A machine of the inventory, whose `status` is its place in the node lifecycle.

    `metadata` is the site's. `scope` and `id` name the node entity that observes it; `host_id` names the host
    whose machine it is, if it is one's.
    """

    resource_type: str = "Node"
    scope: str = ""
    host_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


def _utc(when: datetime | None) -> datetime | None:
    return None if when is None else as_utc(when)


def _same(general: str, special: str) -> str:
    if general and special and general != special:
        raise RefInvalid(f"definition_ref {general!r} and {special!r} name one fact; give one of them")
    return general or special


def _since(condition: Condition, changed_at: datetime | None) -> Condition:
    return Condition(
        **{name: getattr(condition, name) for name in condition.__struct_fields__ if name != "changed_at"},
        changed_at=changed_at,
    )
