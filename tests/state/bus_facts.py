"""Fragments and buses for the tests of the state room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from steersman.kernel.clock import ManualClock
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.state.bus import StateBus
from steersman.state.limits import BusLimits
from steersman.state.sources import SourceInfo

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NODE = EntityType.NODE
GPU = EntityType.GPU
SERVICE = EntityType.SERVICE
JOB = EntityType.JOB


def at(seconds: float) -> datetime:
    """A moment so many seconds after START."""
    return START + timedelta(seconds=seconds)


def world(**limits: Any) -> tuple[StateBus, ManualClock]:
    """A bus on a clock that stands 1,000 s after START; fragments of any earlier second are welcome."""
    clock = ManualClock(at(1000))
    return StateBus(clock, limits=BusLimits(**limits)), clock


def declare(bus: StateBus, name: str, cadence_s: float = 10.0, **terms: Any) -> None:
    bus.declare_source(SourceInfo(name, name, cadence_s, **terms))


def said(
    observed_at: datetime,
    source: str = "a",
    entity_id: str = "n1",
    entity_type: EntityType = NODE,
    labels: dict[str, str] | None = None,
    clear: tuple[str, ...] = (),
    **fields: Any,
) -> StateFragment:
    """A fragment; keyword arguments are its fields."""
    return StateFragment(
        source_type=source,
        entity_type=entity_type,
        entity_id=entity_id,
        observed_at=observed_at,
        fields=fields,
        labels=labels or {},
        source=source,
        clear=clear,
    )


def value_of(bus: StateBus, name: str, entity_id: str = "n1", entity_type: EntityType = NODE) -> Any:
    """A field of an entity, declared or not."""
    entity = bus.get(entity_type, entity_id)
    assert entity is not None
    return getattr(entity, name) if name in entity.__struct_fields__ else entity.extra.get(name)
