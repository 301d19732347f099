"""Running resources: a state, and what can be asked of it without doing anything.

An instance wraps one state (`kinds.state`); its properties read it. What is stored and sent is the state,
flat; the instance is how code holds it. Two tiers: a `ResourceInstance` has intent and a lifecycle, a
`TimedResource` has a window too. `Job` and `Report` stay on the first tier and live in their parent's window.

`reconcile` is the diff of the loop observe → diff → act → record: it says what is to be done. Doing it is the
manager's, recording it the Ledger's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from msgspec import Struct, field

from steersman.kinds.phase import ManagedLifecycle
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
from steersman.kinds.transition import StateTransition

StateT = TypeVar("StateT", bound=ResourceState)
TimedStateT = TypeVar("TimedStateT", bound=TimedResourceState)


class Intent(Struct, frozen=True):
    """What is to be done: bring this resource from its status to the desired one, for that generation."""

    resource: ResourceRef
    status: str
    desired_status: str
    generation: int


class ResourceInstance(Struct, Generic[StateT]):
    """Tier 1: a running thing with intent, history and a lifecycle, and no window of its own."""

    KIND: ClassVar[str] = "ResourceInstance"
    STATE: ClassVar[type[ResourceState]] = ResourceState

    state: StateT

    def __post_init__(self) -> None:
        """A state that names no kind gets this one; one of another kind is refused (`RefInvalid`)."""
        if self.KIND not in RESOURCE_KINDS:
            return
        named = KIND_ALIASES.get(self.state.resource_type, self.state.resource_type)
        if named not in ("", self.KIND):
            raise RefInvalid(f"{self.state.id}: a {named} is not a {self.KIND}")
        self.state.resource_type = self.KIND

    @property
    def id(self) -> str:
        """Its id, unique within its kind."""
        return self.state.id

    @property
    def ref(self) -> ResourceRef:
        """Its kind and id."""
        return ResourceRef(self.state.resource_type, self.state.id)

    @property
    def resource_type(self) -> str:
        """Its kind, as its state says it."""
        return self.state.resource_type

    @property
    def definition_ref(self) -> str:
        """The definition it was made from: `type_key@version`."""
        return self.state.definition_ref

    @property
    def status(self) -> str:
        """Where it is."""
        return self.state.status

    @property
    def desired_status(self) -> str | None:
        """Where it is meant to be."""
        return self.state.desired_status

    @property
    def owner_id(self) -> str:
        """Who owns it."""
        return self.state.owner_id

    @property
    def state_history(self) -> tuple[StateTransition, ...]:
        """Its last transitions, oldest first."""
        return tuple(self.state.state_history)

    @property
    def lifecycle(self) -> ManagedLifecycle | None:
        """Its phases."""
        return self.state.get_lifecycle()

    @property
    def parent(self) -> ResourceRef | None:
        """What it is part of."""
        return self.state.parent()

    @property
    def children(self) -> tuple[ResourceRef, ...]:
        """What is part of it, in order."""
        return tuple(self.state.children())

    def reconcile(self) -> Intent | None:
        """What is to be done; None where it is where it is meant to be."""
        desired = self.state.desired_status
        if desired is None or self.state.is_converged():
            return None
        return Intent(self.ref, self.state.status, desired, self.state.generation)


class TimedResource(ResourceInstance[TimedStateT], Generic[TimedStateT]):
    """Tier 2: a resource with a window of its own."""

    KIND: ClassVar[str] = "TimedResource"
    STATE: ClassVar[type[ResourceState]] = TimedResourceState

    @property
    def timeslot(self) -> Timeslot | None:
        """Its window."""
        return self.state.get_timeslot()

    def next_due(self, now: datetime) -> datetime | None:
        """The next instant at which its window asks for something: provision_at, start, end or the cleanup
        deadline, whichever comes first after `now`; None where nothing is left or there is no window."""
        slot = self.timeslot
        if slot is None:
            return None
        instants = (slot.provision_at(), slot.start, slot.end, slot.cleanup_deadline())
        return next((instant for instant in instants if instant > now), None)


class Job(ResourceInstance[ResourceState]):
    """A run of automation, untimed: it lives in its parent's window."""

    KIND: ClassVar[str] = "Job"


class Report(ResourceInstance[ResourceState]):
    """What automation made of what it collected, untimed: it lives in its parent's window."""

    KIND: ClassVar[str] = "Report"


class Session(TimedResource[SessionState]):
    """The root of a tree of timed resources: it sequences and gates its parts."""

    KIND: ClassVar[str] = "Session"
    STATE: ClassVar[type[ResourceState]] = SessionState


class SessionPart(TimedResource[SessionPartState]):
    """A part of a session, with its pods."""

    KIND: ClassVar[str] = "SessionPart"
    STATE: ClassVar[type[ResourceState]] = SessionPartState


class PodInstance(TimedResource[PodInstanceState]):
    """A pod, bound to a host."""

    KIND: ClassVar[str] = "PodInstance"
    STATE: ClassVar[type[ResourceState]] = PodInstanceState

    @property
    def host(self) -> ResourceRef | None:
        """The host it is bound to."""
        return ResourceRef("Host", self.state.host_id) if self.state.host_id else None


class Host(TimedResource[HostState]):
    """A host (or worker), to which pods are bound."""

    KIND: ClassVar[str] = "Host"
    STATE: ClassVar[type[ResourceState]] = HostState

    def free_capacity(self) -> int:
        """How many more pods it can take, as of now; zero where it carries more than it should."""
        return max(0, self.state.capacity - len(self.state.pod_ids))


class Node(ResourceInstance[NodeState]):
    """A machine of the inventory, on a node lifecycle."""

    KIND: ClassVar[str] = "Node"
    STATE: ClassVar[type[ResourceState]] = NodeState

    def to_inventory(self) -> InventoryNode:
        """The node in the inventory API's words."""
        return InventoryNode(
            id=self.id,
            metadata=dict(self.state.metadata),
            current_state=self.status,
            state_history=[transition.to_inventory() for transition in self.state.state_history],
        )

    @classmethod
    def from_inventory(cls, node: InventoryNode) -> Node:
        """A node as an inventory gives it. Raises `TransitionInvalid`."""
        history = [StateTransition.from_dict(entry) for entry in node.state_history]
        return cls(
            NodeState(
                id=node.id,
                metadata=dict(node.metadata),
                status=node.current_state,
                state_history=history,
            )
        )


class InventoryNode(Struct, frozen=True):
    """A node in the inventory API's words; a history entry has from, to, timestamp, initiator and note."""

    id: str
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    current_state: str = ""
    state_history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


RESOURCE_KINDS: Mapping[str, type[ResourceInstance[Any]]] = {
    cls.KIND: cls for cls in (Session, SessionPart, PodInstance, Host, Job, Report, Node)
}
"""The class of each kind of resource."""

KIND_ALIASES: Mapping[str, str] = {"Worker": "Host", "Part": "SessionPart", "Pod": "PodInstance"}
"""Other names of a kind."""
