"""Lives of names: a node is made anew, a job's number used again. When the present life of a name began, by
which ids its earlier ones are known, and when it changed. Kept with the entity over a restart, so that a late
word of a life that is over is known for what it is. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec import Struct

from steersman.kinds.entity import EntityKey
from steersman.kinds.explanation import LifeChange
from steersman.state.layer import Stamp

NAMES_MAX = 50_000
"""Names of which earlier lives are remembered; those told of longest ago are forgotten first."""
ENDED_MAX = 8
"""Earlier lives of one name that are known by their ids."""
CHANGES_MAX = 16
"""Changes that are shown of one name."""

V = TypeVar("V")


class Life(Struct, frozen=True):
    """What is remembered of one name: when its present life began (None where that is not known), field and
    value of the ids of lives that ended, and the changes from one to another."""

    begun: Stamp | None = None
    ended: tuple[tuple[str, Any], ...] = ()
    changes: tuple[LifeChange, ...] = ()


class Lives:
    """The lives of all names of one bus, bounded."""

    def __init__(self) -> None:
        self._begun: dict[EntityKey, Stamp] = {}
        self._ended: dict[EntityKey, tuple[tuple[str, Any], ...]] = {}
        self._changes: dict[EntityKey, tuple[LifeChange, ...]] = {}

    def __bool__(self) -> bool:
        """Whether any life is known to have begun."""
        return bool(self._begun)

    def begin(self, name: EntityKey, stamp: Stamp) -> None:
        """The name's present life began then."""
        _put(self._begun, name, stamp)

    def end(self, name: EntityKey, field: str, value: Any) -> None:
        """The life that this id tells is over."""
        ended = self._ended.get(name, ())
        if (field, value) not in ended:
            _put(self._ended, name, (*ended, (field, value))[-ENDED_MAX:])

    def note(self, name: EntityKey, change: LifeChange) -> None:
        """Remember that the name is another thing now."""
        _put(self._changes, name, (*self._changes.get(name, ()), change)[-CHANGES_MAX:])

    def ended(self, name: EntityKey) -> tuple[tuple[str, Any], ...]:
        """Field and value of the ids of the name's lives that are over."""
        return self._ended.get(name, ())

    def begun(self, names: Iterable[EntityKey]) -> Stamp | None:
        """When the present life of a thing of these names began, by the latest of them."""
        known = [self._begun[name] for name in names if name in self._begun]
        return max(known, key=lambda stamp: stamp.observed_at, default=None)

    def changes(self, names: Iterable[EntityKey]) -> tuple[LifeChange, ...]:
        """When one of these names became another thing, oldest first."""
        if not self._changes:
            return ()
        return tuple(sorted((one for n in names for one in self._changes.get(n, ())), key=lambda one: one.at))

    def kept(self, names: Iterable[EntityKey]) -> list[tuple[EntityKey, Life]]:
        """What a checkpoint keeps of these names."""
        found = (
            (n, Life(self._begun.get(n), self._ended.get(n, ()), self._changes.get(n, ()))) for n in names
        )
        return [(name, life) for name, life in found if life != _NOTHING]

    def restore(self, name: EntityKey, life: Life) -> None:
        """What a checkpoint kept of a name."""
        if life.begun is not None:
            _put(self._begun, name, life.begun)
        if life.ended:
            _put(self._ended, name, life.ended[-ENDED_MAX:])
        if life.changes:
            _put(self._changes, name, life.changes[-CHANGES_MAX:])


_NOTHING = Life()


def _put(table: dict[EntityKey, V], name: EntityKey, value: V) -> None:
    table.pop(name, None)
    table[name] = value
    if len(table) > NAMES_MAX:
        del table[next(iter(table))]
