"""XIDs that come: what a gauge that never forgets, a count within a window and a total have to say together.

The gauge is the last code, and stays until the driver or the host engine is loaded anew. So its first value
is no event, only a change of it is; the same code twice in a row does not show in it, and a code that comes
just before another one is overwritten. The exporter's own counts show both, where they are switched on.
Pure: no I/O, the times are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, cast

EVENTS_MAX = 1_000
"""Events that are remembered of one GPU; the oldest go first."""

GAUGE, COUNTS, TOTALS = "xid", "xid_counts", "xid_totals"
"""Fields of the mapping: the last code; how many of each code within the exporter's window; and since the
exporter started."""


class XidMemory:
    """Of all GPUs behind one exporter. `window_s`: how far back events are counted. `hold_s`: how long one
    stands while nothing shows that it is over."""

    def __init__(self, window_s: float, hold_s: float) -> None:
        self._window_s = window_s
        self._hold_s = hold_s
        self._gpus: dict[str, _Gpu] = {}

    def __len__(self) -> int:
        return len(self._gpus)

    def look(self, gpu: str, fields: dict[str, Any], at: datetime, at_s: float) -> None:
        """Put into `fields` what their XIDs mean, and take out what is only the exporter's way to count."""
        counts = _numbers(fields.pop(COUNTS, None))
        totals = _numbers(fields.pop(TOTALS, None))
        gauge = fields.get(GAUGE)
        known = self._gpus.get(gpu)
        if known is None and gauge is None and counts is None and totals is None:
            return  # not collected: nothing is known, and that is not "none"
        if known is None:
            known = self._gpus[gpu] = _Gpu()
        known.look(gauge, counts, totals, fields.get("energy_joules"), at, at_s)
        known.forget(at_s, self._window_s, self._hold_s)
        fields["xid_events"] = sorted(known.standing, key=int)
        fields[COUNTS] = known.counted()
        fields["xid_window_seconds"] = self._window_s
        if known.last_at is not None:
            fields["xid_event_at"] = known.last_at

    def forget(self, at_s: float) -> None:
        """Drop GPUs that were not seen for a whole window."""
        self._gpus = {
            gpu: known for gpu, known in self._gpus.items() if at_s - known.seen_s <= self._window_s
        }


class _Gpu:
    """One GPU: what it last showed, what came, and what of that still stands."""

    def __init__(self) -> None:
        self.seen_s = -1.0
        self.standing: dict[str, float] = {}
        self.last_at: datetime | None = None
        self._first = True
        self._gauge: int | None = None
        self._counts: dict[str, float] = {}
        self._totals: dict[str, float] | None = None
        self._energy: float | None = None
        self._events: deque[tuple[float, str, int]] = deque(maxlen=EVENTS_MAX)

    def look(
        self,
        gauge: int | None,
        counts: dict[str, float] | None,
        totals: dict[str, float] | None,
        energy: float | None,
        at: datetime,
        at_s: float,
    ) -> None:
        """Take one page in."""
        if self._loaded_anew(gauge, energy):
            self.standing.clear()
        came: dict[str, int] = {}
        for code, number in self._grown(counts, totals):
            came[code] = max(came.get(code, 0), number)
        changed = gauge is not None and self._gauge is not None and gauge != self._gauge
        if changed and gauge and str(gauge) not in came:
            came[str(gauge)] = 1
        for code, number in came.items():
            self._events.append((at_s, code, number))
            self.standing[code] = at_s
            self.last_at = at
        self._gauge = gauge if gauge is not None else self._gauge
        self._counts = counts if counts is not None else {}
        self._totals = totals if totals is not None else self._totals
        self._energy = energy if energy is not None else self._energy
        self._first = False
        self.seen_s = at_s

    def forget(self, at_s: float, window_s: float, hold_s: float) -> None:
        """Drop events that are older than the window, and those that stood long enough."""
        while self._events and at_s - self._events[0][0] > window_s:
            self._events.popleft()
        self.standing = {code: since for code, since in self.standing.items() if at_s - since <= hold_s}

    def counted(self) -> dict[str, float]:
        """How many events of each code are remembered."""
        found: dict[str, float] = {}
        for _, code, number in self._events:
            found[code] = found.get(code, 0.0) + number
        return found

    def _loaded_anew(self, gauge: int | None, energy: float | None) -> bool:
        """Whether the driver was: the gauge is back at zero, or the energy counter fell."""
        cleared = gauge == 0 and bool(self._gauge)
        return cleared or (energy is not None and self._energy is not None and energy < self._energy)

    def _grown(
        self, counts: dict[str, float] | None, totals: dict[str, float] | None
    ) -> Iterator[tuple[str, int]]:
        """What the exporter's own counts show to have come. A count within a window is of that window also
        on the first page; a total there may be of last year. One that fell was begun anew."""
        for code, value in (counts or {}).items():
            grown = value - self._counts.get(code, 0.0)
            if grown >= 1:
                yield code, int(grown)
        if totals is None or self._first:
            return
        # The exporter shows a total only once it has counted something, so one that is new grew from zero.
        before = self._totals or {}
        for code, value in totals.items():
            last = before.get(code, 0.0)
            grown = value - last if value >= last else value
            if grown >= 1:
                yield code, int(grown)


def _numbers(value: Any) -> dict[str, float] | None:
    """A mapping of codes to counts, without what is no code."""
    if not isinstance(value, dict):
        return None
    items = cast("Mapping[str, float]", value)
    return {str(int(code)): number for code, number in items.items() if code.isascii() and code.isdigit()}
