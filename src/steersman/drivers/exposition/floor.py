"""A share of failures needs requests to be a share of: the floor under `error_rate`.

One failed of two requests is a half, and says nothing of a service. So the share is of the last
`REQUESTS_MIN` requests or more: of those between two looks where they were enough, else of those before them
too, as far back as `SPAN_MAX_S`. Where even those are fewer, it is left out, which is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment

REQUESTS_MIN = 20
"""Requests of which a failed one is no more than the 5 % at which health calls a service degraded."""
SPAN_MAX_S = 3600.0
"""How far back requests count: what failed longer ago says nothing of now."""
COUNT_SLACK = 1e-6
"""Counts that were rates in between are not whole to the last digit."""

_TYPES = frozenset({EntityType.SERVICE, EntityType.MODEL_REVISION})


class _Part(Struct, frozen=True):
    """What came in a stretch of time."""

    from_s: float
    to_s: float
    requests: float
    failed: float


class ErrorFloor:
    """Holds the shares of failures of one reader's services to the floor.

    `window_s`: how much time the rates are over. 0: they are from look to look.
    """

    __slots__ = ("_last_s", "_parts", "_window_s")

    def __init__(self, window_s: float = 0.0) -> None:
        self._window_s = window_s
        self._parts: dict[EntityKey, list[_Part]] = {}
        self._last_s: float | None = None

    def apply(self, fragments: Iterable[StateFragment], at_s: float) -> None:
        """Put the share over enough requests into each fragment that has one, or take it out. A fragment that
        does not say how many requests came (`throughput`) is left as it is."""
        last_s, self._last_s = self._last_s, at_s
        if last_s is not None and at_s <= last_s:
            self._parts.clear()  # its clock was put back
            last_s = None
        from_s = at_s - self._window_s if self._window_s else last_s
        for fragment in fragments:
            fields = fragment.fields
            if "error_rate" in fields and "throughput" in fields and fragment.entity_type in _TYPES:
                share = self._share(fragment, from_s, at_s) if from_s is not None else None
                if share is None:
                    del fields["error_rate"]
                else:
                    fields["error_rate"] = share
        for key in [key for key, parts in self._parts.items() if at_s - parts[-1].to_s > SPAN_MAX_S]:
            del self._parts[key]

    def _share(self, fragment: StateFragment, from_s: float, at_s: float) -> float | None:
        """The share of failures over enough requests; None where there were not so many."""
        share, rate = fragment.fields["error_rate"], fragment.fields["throughput"]
        requests = rate * (at_s - from_s)
        now = _Part(from_s, at_s, requests, share * requests)
        key = fragment.key
        counted = [now]
        for part in reversed(self._parts.get(key, ())):
            if requests >= REQUESTS_MIN - COUNT_SLACK or at_s - part.from_s > SPAN_MAX_S:
                break
            if part.to_s <= counted[-1].from_s:  # the windows of two looks may overlap
                counted.append(part)
                requests += part.requests
        enough = requests >= REQUESTS_MIN - COUNT_SLACK
        oldest_s = counted[-1].from_s if enough else at_s - SPAN_MAX_S
        kept = [part for part in self._parts.get(key, ()) if part.from_s >= oldest_s]
        if now.requests > 0:
            kept.append(now)
        if kept:
            self._parts[key] = kept
        if not enough:
            return None
        return share if len(counted) == 1 else min(1.0, sum(part.failed for part in counted) / requests)
