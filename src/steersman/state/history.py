"""The recent past of one entity: numbers for sparklines, changes of health, and its states. Bounded. The
states are saved with the entity; numbers are a monitoring system's to keep for long, and are not."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from steersman.kinds.entity import HealthState
from steersman.kinds.explanation import EntityHistory, HealthChange, Sample
from steersman.state.past import Past

_NAN = float("nan")
_IDLE_NAMES_MAX = 16
"""Names without a value that are let be: looking for them costs more than they take."""
_WHOLE_MAX = 2**64
"""Whole numbers beyond it (whoever puts them in) may not fit a float."""


class History:
    """Rows of numbers in one flat array each for times and values: 8 bytes a number, no object for a row."""

    __slots__ = ("_health", "_names", "_times", "_values", "due_at", "past")

    def __init__(self, past: Past | None = None) -> None:
        self.due_at = 0.0
        """Monotonic second from which the next sample is wanted."""
        self.past = past if past is not None else Past()
        """The states it was in."""
        self._names: tuple[str, ...] = ()
        self._times = array("d")
        self._values = array("d")
        self._health: list[HealthChange] = []

    @property
    def size(self) -> int:
        """Numbers it holds."""
        return len(self._times) + len(self._values)

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return len(self._names)

    def copy(self) -> History:
        """The same, to go on by itself."""
        again = History(self.past.copy())
        again.due_at, again._names = self.due_at, self._names
        again._times, again._values = self._times[:], self._values[:]
        again._health = list(self._health)
        return again

    def add(self, at: datetime, values: Mapping[str, Any], samples_max: int) -> None:
        """Keep the numeric ones among `values`; the oldest rows beyond `samples_max` go."""
        numbers = {n: float(v) for n, v in values.items() if type(v) is float or _is_drawable(v)}
        if any(name not in self._names for name in numbers):
            self._widen(tuple(numbers))
        self._times.append(at.timestamp())
        self._values.extend([numbers.get(name, _NAN) for name in self._names])
        excess = len(self._times) - max(1, samples_max)
        if excess > 0:
            del self._times[:excess]
            del self._values[: excess * len(self._names)]

    def note_health(self, at: datetime, health: HealthState, changes_max: int) -> bool:
        """Keep the health if it differs from the last one; whether it did."""
        if self._health and self._health[-1].health is health:
            return False
        self._health.append(HealthChange(at, health))
        del self._health[: max(0, len(self._health) - changes_max)]
        return True

    def read(self) -> EntityHistory:
        """All of it."""
        width = len(self._names)
        samples: list[Sample] = []
        for i, at in enumerate(self._times):
            row = self._values[i * width : (i + 1) * width]
            values = {n: v for n, v in zip(self._names, row, strict=True) if v == v}
            samples.append(Sample(datetime.fromtimestamp(at, UTC), values))
        return EntityHistory(tuple(samples), tuple(self._health), states=self.past.read())

    def _widen(self, new_names: tuple[str, ...]) -> None:
        """Make room for new names, and take that of names of which no row has a value any more: an entity
        whose fields change their names for ever must not grow for that."""
        width, rows = len(self._names), range(len(self._times))
        old = self._values
        kept = list(range(width))
        if width > 2 * len(new_names) + _IDLE_NAMES_MAX:
            kept = [c for c in kept if any(old[i * width + c] == old[i * width + c] for i in rows)]
        names = tuple(self._names[c] for c in kept)
        added = tuple(n for n in new_names if n not in names)
        values = array("d")
        for i in rows:
            values.extend([old[i * width + c] for c in kept])
            values.extend([_NAN] * len(added))
        self._names = names + added
        self._values = values


def _is_drawable(value: Any) -> bool:
    return type(value) is int and -_WHOLE_MAX <= value <= _WHOLE_MAX
