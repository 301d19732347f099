"""What the bus sees of a machine, as the managers of nodes want it; and the bus's adapter.

The entity says what is observed, the resource `Node` what is meant and what was done. They belong together by
scope and id. The resource has the entity's id, or `id@scope` where another scope's node has that id already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from steersman.kinds.entity import CanonicalEntity, EntityType, HealthState
from steersman.kinds.state import NodeState, ResourceRef
from steersman.state.bus import StateBus
from steersman.state.feed import EntityFilter
from steersman.state.ledger import Ledger

NODE = "Node"
REASONS_MAX = 8
"""Reasons of an entity's health that a sight carries."""


class NodeSight(Struct, frozen=True):
    """One machine as it is observed now. `freshness`: fresh, stale or expired; `gone`: its sources say that
    it is no longer there."""

    id: str
    scope: str
    health: HealthState
    freshness: str
    reasons: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    gone: bool = False


class SightChanges(Protocol):
    """A reader's place in the changes."""

    async def next(self) -> Sequence[NodeSight]:
        """What has changed since the last call, each machine once, as it is now; waits for it. After a gap:
        every machine."""
        ...

    def close(self) -> None:
        """Give up the place."""
        ...


class NodeSights(Protocol):
    """What is observed of machines."""

    def look(self, node_id: str, scope: str) -> NodeSight | None:
        """The machine as it is observed now; None where nobody has seen it."""
        ...

    def all(self) -> Iterator[NodeSight]:
        """Every machine that is observed."""
        ...

    def subscribe(self) -> SightChanges:
        """Be told of changes from now on."""
        ...


class BusSights:
    """`NodeSights` of the state bus."""

    def __init__(self, bus: StateBus) -> None:
        self._bus = bus

    def look(self, node_id: str, scope: str) -> NodeSight | None:
        entity = self._bus.get(EntityType.NODE, node_id, scope, deleted=True)
        return None if entity is None else _sight(entity)

    def all(self) -> Iterator[NodeSight]:
        return (_sight(entity) for entity in self._bus.entities(EntityType.NODE, deleted=True))

    def subscribe(self) -> BusChanges:
        return BusChanges(self._bus, self)


class BusChanges:
    """`SightChanges` of the state bus."""

    def __init__(self, bus: StateBus, sights: BusSights) -> None:
        self._sights = sights
        self._subscription = bus.subscribe(EntityFilter(types=frozenset({EntityType.NODE})))

    async def next(self) -> Sequence[NodeSight]:
        delta = await self._subscription.next()
        return list(self._sights.all()) if delta.resync else [_sight(entity) for entity in delta.entities]

    def close(self) -> None:
        self._subscription.close()


async def find_node(ledger: Ledger, node_id: str, scope: str) -> NodeState | None:
    """The resource of the machine; None where it has none."""
    for ref in node_refs(node_id, scope):
        state = await ledger.find(ref)
        if isinstance(state, NodeState) and state.scope == scope:
            return state
    return None


def node_refs(node_id: str, scope: str) -> tuple[ResourceRef, ...]:
    """The names that the machine's resource may have, the usual one first."""
    plain = ResourceRef(NODE, node_id)
    return (plain, ResourceRef(NODE, f"{node_id}@{scope}")) if scope else (plain,)


def observed_id(state: NodeState) -> str:
    """The id of the entity that the resource belongs to."""
    return state.id.removesuffix(f"@{state.scope}") if state.scope else state.id


def _sight(entity: CanonicalEntity) -> NodeSight:
    return NodeSight(
        id=entity.entity_id,
        scope=entity.scope,
        health=entity.health_state,
        freshness=entity.freshness,
        reasons=tuple(reason.detail for reason in entity.health_reasons[:REASONS_MAX]),
        sources=entity.sources,
        gone=entity.deleted_at is not None,
    )
