"""The states that one entity was in: what it looked like at a moment, and how it came to be so.

Measurements are sampled (`history`); states are kept as they change, because they change seldom and each
change means something. The oldest changes are folded into the first one, so what is remembered is bounded
and still begins with everything that was known at its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from msgspec import Struct

from steersman.kinds.entity import EVENT, VOLATILE, EntityType
from steersman.kinds.explanation import StateChange
from steersman.kinds.fields import FIELDS, FieldSpec

HEALTH = "health_state"
"""The name under which an entity's health is one of its states."""
_WORST_FIRST = ("critical", "degraded", "warning", "healthy", "unknown")
"""Which health counts where two halves of one entity knew another one: one that was known, before none."""
VALUE_MAX_CHARS = 4096
"""A longer text or list (as printed) is kept cut: one entity's states must not fill the memory."""


def _is_state(spec: FieldSpec) -> bool:
    if spec.type in (float, dict):
        return False
    if spec.type is int:
        return spec.pace != VOLATILE
    return spec.type is not datetime or spec.pace not in (VOLATILE, EVENT)


STATES: dict[EntityType, frozenset[str]] = {
    entity_type: frozenset(name for name, spec in specs.items() if _is_state(spec))
    for entity_type, specs in FIELDS.items()
}
"""The declared fields that are states. Times of events (a heartbeat) and measurements are none."""


def states_of(entity_type: EntityType, values: Mapping[str, Any]) -> dict[str, Any]:
    """The states among an entity's values; of fields that its type does not declare, words and flags are."""
    names, declared = STATES[entity_type], FIELDS[entity_type]
    return {
        name: value
        for name, value in values.items()
        if name in names or (name not in declared and type(value) in (str, bool))
    }


class Change(Struct, frozen=True, array_like=True):
    """A change as it is kept: seconds since 1970, and new values by name."""

    at_s: float
    fields: dict[str, Any]


class Past:
    """The changes, oldest first; the first one is everything that was known at the beginning."""

    __slots__ = ("_changes", "_now")

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        self._changes = list(changes)
        self._now: dict[str, Any] = {}
        for change in self._changes:
            _apply(self._now, change.fields)

    def __len__(self) -> int:
        return len(self._changes)

    def note(self, at: datetime, states: dict[str, Any], changes_max: int) -> bool:
        """Keep the states if they differ from the last ones; whether they did. `states` is kept."""
        now = self._now
        if states == now:
            return False
        fields = {
            name: _cut(value) for name, value in states.items() if name not in now or now[name] != value
        }
        fields |= {name: None for name in now if name not in states}
        self._now = fields if fields == states else states  # most never change: one dict, not two
        # The wall clock may have been set back; the order of changes is the order in which they were noticed.
        at_s = max(at.timestamp(), self._changes[-1].at_s) if self._changes else at.timestamp()
        self._changes.append(Change(at_s, fields))
        excess = len(self._changes) - max(1, changes_max)
        if excess > 0:
            first: dict[str, Any] = {}
            for change in self._changes[: excess + 1]:
                _apply(first, change.fields)
            self._changes[: excess + 1] = [Change(self._changes[excess].at_s, first)]
        return True

    def read(self) -> tuple[StateChange, ...]:
        """All changes."""
        return tuple(StateChange(_time(change.at_s), dict(change.fields)) for change in self._changes)

    def kept(self) -> tuple[Change, ...]:
        """All changes, as they are kept. Of one that never changed its health and time are enough: its other
        states are in the entity that is kept with it, see `again`."""
        if len(self._changes) == 1 and HEALTH in self._now:
            return (Change(self._changes[0].at_s, {HEALTH: self._now[HEALTH]}),)
        return tuple(self._changes)

    @classmethod
    def again(cls, kept: Sequence[Change], states: Callable[[], dict[str, Any]]) -> Past:
        """What was kept, again. `states` gives those of the entity as it was when it was kept: they are put
        in at once, because the next ones that are noted may be others, and are no part of what was before."""
        if len(kept) != 1 or not kept[0].fields.keys() <= {HEALTH}:
            return cls(kept)
        past = cls()
        past.note(_time(kept[0].at_s), {**states(), **kept[0].fields}, 1)
        return past

    def copy(self) -> Past:
        """The same, to go on by itself."""
        again = Past(self._changes)
        again._now = self._now
        return again

    def joined(self, other: Past, changes_max: int) -> Past:
        """The past of what turned out to be one entity: the states of both at each moment, this one's where
        both have one. Its health is that of who knew it, the worse one where both did."""
        merged, own, others = Past(), dict[str, Any](), dict[str, Any]()
        changes = [(change.at_s, own, change) for change in self._changes]
        changes += [(change.at_s, others, change) for change in other._changes]
        for at_s, whose, change in sorted(changes, key=lambda one: one[0]):
            _apply(whose, change.fields)
            states = {**others, **own}
            known = [side[HEALTH] for side in (own, others) if HEALTH in side]
            if known:
                states[HEALTH] = min(known, key=_rank)
            merged.note(_time(at_s), states, changes_max)
        return merged

    def holds(self, states: Mapping[str, Any]) -> bool:
        """Whether it knows all of these as they are; it may know others."""
        return states.items() <= self._now.items()


def _apply(fields: dict[str, Any], changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value


def _rank(health: str) -> int:
    return _WORST_FIRST.index(health) if health in _WORST_FIRST else len(_WORST_FIRST)


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > VALUE_MAX_CHARS:
        return value[:VALUE_MAX_CHARS]
    if isinstance(value, list) and len(str(cast("list[Any]", value))) > VALUE_MAX_CHARS:
        return cast("list[Any]", value)[:1]
    return cast("Any", value)


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
