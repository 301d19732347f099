"""Signs that a source's shape is not the one we know: unknown words, values of another type."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.kinds.entity import EntityType


class DriftSignal(Struct, frozen=True):
    """One kind of surprise, how often it was met, and when first and last."""

    entity_type: EntityType
    field: str
    detail: str
    count: int
    first_at: datetime
    last_at: datetime


class DriftLog:
    """The signals, at most `drift_max` kinds; further kinds are counted and dropped."""

    def __init__(self, drift_max: int) -> None:
        self._drift_max = drift_max
        self._signals: dict[tuple[EntityType, str, str], DriftSignal] = {}
        self.dropped = 0

    def note(self, entity_type: EntityType, field: str, detail: str, at: datetime) -> None:
        """Count one."""
        key = (entity_type, field, detail)
        old = self._signals.get(key)
        if old is not None:
            count, first_at = old.count + 1, old.first_at
        elif len(self._signals) < self._drift_max:
            count, first_at = 1, at
        else:
            self.dropped += 1
            return
        self._signals[key] = DriftSignal(entity_type, field, detail, count, first_at, at)

    def read(self) -> list[DriftSignal]:
        """All of them, the oldest kind first."""
        return list(self._signals.values())
