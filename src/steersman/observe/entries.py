"""What a recording consists of: everything that passed the inlet, in order, with both times.

Each entry has `at` (the wall clock) and `elapsed_s` (monotonic seconds since the inlet was made). Both are
needed: ages are measured on monotonic time, and the wall clock may have been set while it was recorded.
Encoded as arrays, so a field may only ever be added at the end.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.state.sources import SourceInfo


class Batch(Struct, frozen=True, tag="f", array_like=True):
    """Fragments that arrived together."""

    at: datetime
    elapsed_s: float
    fragments: list[StateFragment]


class Gone(Struct, frozen=True, tag="g", array_like=True):
    """An entity is no more."""

    at: datetime
    elapsed_s: float
    entity_type: EntityType
    scope: str
    entity_id: str
    observed_at: datetime

    @property
    def key(self) -> EntityKey:
        """The entity."""
        return EntityKey(self.entity_type, self.scope, self.entity_id)


class Declared(Struct, frozen=True, tag="d", array_like=True):
    """A source's promise."""

    at: datetime
    elapsed_s: float
    name: str
    source_type: str
    cadence_s: float
    priority: int
    repeats: bool
    lag_s: float

    @classmethod
    def of(cls, at: datetime, elapsed_s: float, info: SourceInfo) -> Declared:
        """The entry for a promise."""
        return cls(
            at,
            elapsed_s,
            info.name,
            info.source_type,
            info.cadence_s,
            info.priority,
            info.repeats,
            info.lag_s,
        )

    @property
    def info(self) -> SourceInfo:
        """The promise."""
        return SourceInfo(
            self.name, self.source_type, self.cadence_s, self.priority, self.repeats, self.lag_s
        )


class Reported(Struct, frozen=True, tag="r", array_like=True):
    """An attempt to read a source ended."""

    at: datetime
    elapsed_s: float
    name: str
    ok: bool
    detail: str


class Dropped(Struct, frozen=True, tag="x", array_like=True):
    """A gap: so many fragments and other entries were not recorded here; the recorder was behind."""

    at: datetime
    elapsed_s: float
    count: int


Entry = Batch | Gone | Declared | Reported | Dropped


def weight(entry: Entry) -> int:
    """How much of a recorder's queue an entry takes: its fragments, at least one."""
    return max(1, len(entry.fragments)) if isinstance(entry, Batch) else 1
