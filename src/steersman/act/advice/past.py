"""Times that are past, by a wall clock that may have been set back since.

A time that was kept while the clock was far ahead lies in the future once the clock is set right, and what
waits for it to be long ago would wait until the clock has caught up. Such a time counts as the moment at
which it was first met: so every wait ends, at most its own length later, and none ends early.
"""

from __future__ import annotations

from datetime import datetime

from steersman.kernel.clock import Clock

MET_MAX = 10_000
"""Times in the future that are remembered; the one that was met first goes first, and is met anew."""


class Past:
    """When things were, none of it later than now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._met: dict[str, datetime] = {}

    def at(self, name: str, when: datetime) -> datetime:
        """`when`; or, where that is still to come, the moment at which `name` was first asked for."""
        now = self._clock.now()
        if when <= now:
            self._met.pop(name, None)
            return when
        met = self._met.get(name)
        if met is None or met > now:
            self._met[name] = met = now
            if len(self._met) > MET_MAX:
                del self._met[next(iter(self._met))]
        return met
