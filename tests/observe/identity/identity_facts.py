"""Fragments as sources would give them, and a door to put them through."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from steersman.kernel.clock import ManualClock
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import IdentitySettings
from steersman.observe.inlet import Inlet
from steersman.state.bus import StateBus

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
NODE, GPU, JOB = EntityType.NODE, EntityType.GPU, EntityType.JOB
SERVICE, TENANT = EntityType.SERVICE, EntityType.TENANT_SCOPE


def at(second: float) -> datetime:
    """So many seconds after the beginning."""
    return BEGIN + timedelta(seconds=second)


def door(
    identity: IdentitySettings | None = None,
    bus: StateBus | None = None,
    managed: Collection[EntityKey] = (),
) -> Inlet:
    """A bus with its door, a minute after the beginning."""
    clock = ManualClock(at(60))
    return Inlet(bus if bus is not None else StateBus(clock), clock, identity, managed.__contains__)


def said(
    source_type: str,
    name: str,
    second: float = 0.0,
    kind: EntityType = NODE,
    *,
    scope: str = "prod",
    source: str = "",
    labels: dict[str, str] | None = None,
    **fields: Any,
) -> StateFragment:
    """A fragment of a source that has its type's name where none is given."""
    return StateFragment(
        source_type, kind, name, at(second), fields, {"cluster": scope, **(labels or {})}, source
    )


def ids(inlet: Inlet, kind: EntityType = NODE) -> list[str]:
    """The ids of all entities of a type."""
    return [entity.entity_id for entity in inlet.bus.entities(kind)]


def key(name: str, kind: EntityType = NODE, scope: str = "prod") -> EntityKey:
    """An entity's key."""
    return EntityKey(kind, scope, name)


def picture(inlet: Inlet) -> dict[str, Any]:
    """Everything that readers can see and that does not depend on when it came in."""
    seen: dict[str, Any] = {}
    for entity in inlet.bus.entities():
        why = inlet.bus.explain(entity.entity_type, entity.entity_id, entity.scope)
        assert why is not None
        fields = {
            name: (f.value, f.source, f.observed_at, sorted((o.source, str(o.value)) for o in f.others))
            for name, f in why.fields.items()
        }
        seen[str(entity.key)] = (
            fields,
            {name: label.value for name, label in why.labels.items()},
            sorted((a.name, a.scope, a.rule, a.evidence, a.sources) for a in why.identity.aliases),
            why.identity.ambiguities,
            entity.health_state,
            entity.confidence_score,
        )
    return seen
