"""What happens to entities by time alone: ageing, the end of tombstones, samples, sources that come back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fields import REFERENCES
from steersman.state.aging import Wheel
from steersman.state.cell import NEVER, Cell
from steersman.state.freshness import FRESH, standing_of
from steersman.state.health.verdict import is_timed
from steersman.state.index import Index
from steersman.state.layer import Arrival
from steersman.state.limits import BusLimits
from steersman.state.sampler import Sampler
from steersman.state.sources import Source
from steersman.state.tombstones import Tombstones
from steersman.state.view import snapshot_of

DELETED = "deleted"
"""What a tombstone is announced as."""
SEARCH_SLICE = 20_000
"""Entities searched through at a time: about 2 ms."""
TIMED_LOOK_S = 30.0
"""How often an entity is looked at whose health rules read the clock (a heartbeat that is too old)."""


_REFERRED = frozenset(refers for fields in REFERENCES.values() for refers in fields.values())
_NONE: dict[str, EntityType] = {}


class Upkeep:
    """Looks after the cells of one bus. `revise` gives a cell a new revision: subscribers are told of it."""

    def __init__(
        self, index: Index, limits: BusLimits, counts: dict[str, int], revise: Callable[[Cell], None]
    ) -> None:
        self._index = index
        self._counts = counts
        self._revise = revise
        self._wheel = Wheel()
        self._revived: set[str] = set()
        self._redefined: set[str] = set()
        self._renamed: set[EntityKey] = set()
        self._searched_for: tuple[set[str], set[str], set[EntityKey]] = (set(), set(), set())
        self._to_search: list[Cell] = []
        self.sampler = Sampler(limits)
        self.tombstones = Tombstones(limits.tombstones_max, limits.tombstone_ttl_s)

    def settle(self, cell: Cell, now: Arrival) -> None:
        """Note how current the entity is now, and when that may change."""
        state, signature, change_s, _ = _judge(cell, now)
        self.note(cell, state, signature, now.monotonic + change_s)

    def note(self, cell: Cell, state: str, signature: str, alarm: float) -> None:
        """As `settle`, for one who knows the class, what it is told as, and when to look again."""
        layers = cell.layers
        cell.announced = signature
        cell.plain = state == FRESH and (
            len(layers) == 1 or len({layer.source.name for layer in layers}) == len(layers)
        )
        self._wheel.put(cell, alarm)

    def sample(self, cell: Cell, now: Arrival) -> None:
        """Keep a sample of the entity for its history."""
        self.sampler.sample(cell, now, self._index.count)

    def hear(self, source: Source, arrival: Arrival) -> None:
        """The source lives. Where that makes fresh again what it said before, it is looked at."""
        if source.heard is None:
            source.heard = arrival
        elif arrival.monotonic >= source.heard.monotonic:
            if source.is_back(arrival):
                self._revived.add(source.name)
            source.heard = arrival

    def reconsider(self, source: Source) -> None:
        """The source promises something else now: what it holds is looked at again, because by the new
        promise it may be of another class, and may age sooner."""
        self._redefined.add(source.name)

    def rename(self, name: EntityKey) -> None:
        """The name means another entity now: what refers to it looks different, and is told anew."""
        if name.entity_type in _REFERRED:
            self._renamed.add(name)

    def bury(self, cell: Cell, monotonic: float, left_s: float | None = None) -> None:
        """The entity is deleted, and remembered as such."""
        if cell.floor is not None:
            self.sampler.note_absence(cell, cell.floor.observed_at)
        cell.announced = DELETED
        cell.plain = False
        cell.alarm = NEVER
        crowded_out = self.tombstones.bury(cell, monotonic, left_s)
        if crowded_out is not None:
            self._drop(crowded_out)
            self._counts["tombstones_dropped"] += 1

    def make_room(self) -> bool:
        """Forget the oldest deletion for the sake of a new entity; False where there is none."""
        oldest = self.tombstones.pop_oldest()
        if oldest is None:
            return False
        self._drop(oldest)
        self._counts["tombstones_dropped"] += 1
        return True

    def due_at(self, now: Arrival) -> float:
        """Monotonic second at which `sweep` has something to do; infinite where nothing ages."""
        if self._revived or self._redefined or self._renamed or self._to_search:
            return now.monotonic
        return min(self._wheel.due_at(), self.tombstones.due_at())

    def sweep(self, now: Arrival, entities_max: int) -> int:
        """Look at what is due, at most so many; how many were looked at, or `entities_max` where a search for
        what came back has to go on."""
        looked = self._look_at_changed(now, entities_max)
        while looked < entities_max:
            cell = self._wheel.pop(now.monotonic)
            if cell is None:
                break
            looked += 1
            self._look(cell, now)
        while looked < entities_max:
            cell = self.tombstones.pop_due(now.monotonic)
            if cell is None:
                break
            looked += 1
            self._drop(cell)
        return looked

    def _look(self, cell: Cell, now: Arrival) -> None:
        """The entity may have aged: tell of it if so, and come back when it may again."""
        state, signature, change_s, values = _judge(cell, now)
        if signature != cell.announced:
            self._revise(cell)
            self._counts["announced"] += 1
            self.sampler.note(cell, now)
        elif self.sampler.is_due(cell, now.monotonic):
            self.sample(cell, now)
        elif self.sampler.has_news(cell, values):
            self.sampler.note(cell, now)
        # Never the second that is being swept, or the sweep would not end.
        alarm = max(now.monotonic + change_s, math.floor(now.monotonic) + 1)
        self.note(cell, state, signature, alarm)

    def _drop(self, cell: Cell) -> None:
        self._index.remove(cell)
        cell.revision = -1
        cell.alarm = NEVER

    def _look_at_changed(self, now: Arrival, entities_max: int) -> int:
        """Look at what is not fresh and is held by a source that came back, at all that is held by one with a
        new promise, and at what refers to a name that means another entity now. One search serves all of
        these since the last one began, because thousands may come at once."""
        looked = 0
        for _ in range(SEARCH_SLICE):
            if not self._to_search:
                if not (self._revived or self._redefined or self._renamed):
                    return looked
                self._searched_for = self._revived, self._redefined, self._renamed
                self._revived, self._redefined, self._renamed = set(), set(), set()
                self._to_search = list(self._index.cells())
                self._to_search.reverse()  # taken from its end, in the order of the index
                continue
            cell = self._to_search.pop()
            revived, redefined, renamed = self._searched_for
            if renamed and _refers(cell, renamed):
                self._revise(cell)
                self._counts["moved"] += 1
                looked += 1
            late = cell.announced != FRESH
            if not (late or redefined):
                continue
            names = [layer.source.name for layer in cell.layers]
            if any(name in redefined or (late and name in revived) for name in names):
                self._look(cell, now)
                looked += 1
                if looked == entities_max:
                    break
        return entities_max


def _refers(cell: Cell, names: set[EntityKey]) -> bool:
    """Whether a source speaks of one of these names in the entity."""
    for field, refers in REFERENCES.get(cell.entity_type, _NONE).items():
        for layer in cell.layers:
            value = layer.fragment.fields.get(field)
            said = cast("Iterable[Any]", value) if isinstance(value, list | tuple) else (value,)
            if any(isinstance(one, str) and EntityKey(refers, cell.scope, one) in names for one in said):
                return True
    return False


def _judge(cell: Cell, now: Arrival) -> tuple[str, str, float, Mapping[str, Any]]:
    """Its class, all classes in one word, in how many seconds to look again, and its values."""
    entity_type = cell.entity_type
    standing = standing_of(entity_type, cell.layers, now)
    if not is_timed(entity_type):
        return standing.state, standing.signature, standing.change_s, standing.values
    # A rule of its table reads the clock, so its health may change while every field stays as it is.
    health = snapshot_of(entity_type, cell.layers, now)[1]
    look_s = min(standing.change_s, TIMED_LOOK_S)
    return standing.state, f"{standing.signature}; {health}", look_s, standing.values
