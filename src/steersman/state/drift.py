"""The signals of drift: counted by kind and content, bounded."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import structs

from steersman.kinds.drift import TYPE, WORD, WRONG_TYPE, DriftSignal
from steersman.kinds.entity import EntityType

DETAIL_MAX_CHARS = 240
"""A line on a screen; details hold words of other systems, which may be of any length."""

_Key = tuple[str, EntityType | None, str, str, str]


class DriftLog:
    """The signals, at most `drift_max` kinds; further kinds are counted and dropped."""

    def __init__(self, drift_max: int) -> None:
        self._drift_max = drift_max
        self._signals: dict[_Key, DriftSignal] = {}
        self.dropped = 0
        self.changes = 0
        """Grows with each signal that is noted."""

    def note(
        self,
        entity_type: EntityType | None,
        field: str,
        detail: str,
        at: datetime,
        *,
        kind: str = "",
        source: str = "",
    ) -> None:
        """Count one. Without a kind: a value of another type, or else an unknown word."""
        kind = kind or (TYPE if detail.startswith(WRONG_TYPE) else WORD)
        detail = detail if len(detail) <= DETAIL_MAX_CHARS else f"{detail[: DETAIL_MAX_CHARS - 3]}..."
        key = (kind, entity_type, field, source, detail)
        old = self._signals.get(key)
        self.changes += 1
        if old is not None:
            count, first_at = old.count + 1, old.first_at
        elif len(self._signals) < self._drift_max:
            count, first_at = 1, at
        else:
            self.dropped += 1
            return
        self._signals[key] = DriftSignal(kind, entity_type, field, source, detail, count, first_at, at)

    def read(self) -> list[DriftSignal]:
        """All of them, the oldest kind first."""
        return list(self._signals.values())

    def restore(self, signals: Iterable[DriftSignal]) -> None:
        """Add what was noted before a restart."""
        for one in signals:
            key = (one.kind, one.entity_type, one.field, one.source, one.detail)
            new = self._signals.get(key)
            if new is not None:
                self._signals[key] = structs.replace(new, count=new.count + one.count, first_at=one.first_at)
            elif len(self._signals) < self._drift_max:
                self._signals[key] = one
