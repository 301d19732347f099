"""One entity as the bus holds it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.state.history import History
from steersman.state.layer import Arrival, Layer, Stamp, rebased, rebased_stamp, same_voice
from steersman.state.sources import Source

NEVER = float("inf")


class Moved(Struct, frozen=True, gc=False):
    """What was said of a name is counted to another entity since then: it is the same thing."""

    scope: str
    entity_id: str
    stamp: Stamp


class Cell(Struct, eq=False, gc=False):
    """An entity's layers and what belongs to them; mutable, one for each key, never shared with callers.

    Not tracked by the garbage collector, nor is anything that it holds but its history: nothing there leads
    back to it, and a full collection that visits 100,000 cells would hold the event loop.

    - `layers`: what is known; empty for a tombstone. `ghost`: a tombstone's last layers, for display.
    - `revision`: the bus revision of its last change; -1 once it is forgotten altogether.
    - `floor`: when it was last deleted; nothing observed up to then counts any more.
    - `moved`: where what was said of it counts now, on a tombstone that is there because of that.
    - `mixed`: it has names of another scope too.
    - `announced`: how current it was, in one word (`Standing.signature`), when subscribers were last told.
    - `plain`: fresh as a whole, and one layer for each source: what the hot path takes on itself.
    - `bucket`: its place in checkpoints; -1 until one is made.
    - `alarm`: monotonic second at which the wheel looks at it next; NEVER where it is not on the wheel.
    - `sample_at`: monotonic second from which the next change is sampled for `history`.
    """

    entity_type: EntityType
    scope: str
    entity_id: str
    layers: tuple[Layer, ...] = ()
    ghost: tuple[Layer, ...] = ()
    revision: int = 0
    floor: Stamp | None = None
    moved: Moved | None = None
    mixed: bool = False
    announced: str = ""
    plain: bool = False
    bucket: int = -1
    alarm: float = NEVER
    sample_at: float = 0.0
    history: History | None = None

    @property
    def key(self) -> EntityKey:
        """The entity's identity; made when asked, so that no cell keeps one."""
        return EntityKey(self.entity_type, self.scope, self.entity_id)

    @property
    def deleted_at(self) -> datetime | None:
        """Since when it is gone; None for what lives."""
        if self.layers:
            return None
        gone = self.moved.stamp if self.moved is not None else self.floor
        return gone.observed_at if gone is not None else None

    def rejects(
        self, source: Source, fragment: StateFragment, observed_at: datetime, floor: Stamp | None
    ) -> bool:
        """Whether a fragment is stale as a whole: older than the newest of its source, or from before
        `floor`, when what it names was deleted."""
        if floor is not None and observed_at <= floor.observed_at:
            return True
        return any(
            observed_at < layer.observed_at and same_voice(layer, source, fragment) for layer in self.layers
        )

    def rebase(self, now: Arrival) -> None:
        """Put what lies ahead of a wall clock that was set back onto the new clock, at its true age. Else a
        source that stamps with this clock would count as stale until the clock caught up."""
        if any(layer.observed_at > now.wall for layer in self.layers):
            self.layers = tuple(rebased(layer, now) for layer in self.layers)
        if self.floor is not None:
            self.floor = rebased_stamp(self.floor, now)
        if self.moved is not None:
            self.moved = Moved(self.moved.scope, self.moved.entity_id, rebased_stamp(self.moved.stamp, now))
