"""Who speaks to the bus: what each source promised, and when it was last heard.

A source is known by its configured name. One that only pushes and was never declared is taken as it comes,
with the default cadence and priority 0.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from steersman.kinds.explanation import UNHEARD, SourceStatus
from steersman.state.layer import Arrival
from steersman.state.limits import BusFull, BusLimits

ALIVE = "alive"
FAILING = "failing"
SILENT = "silent"

FRESH_CADENCES = 2.0
"""What was said so many cadences ago is still fresh: one scrape may be missed."""
DEAD_AFTER_CADENCES = 5.0
"""A source silent for longer than this many cadences is dead: five scrapes missed in a row."""


SEARCH_GAP_S = 60.0
"""How often all are looked through for such as hold nothing, where there is no room for another."""


class SourceInfo(Struct, frozen=True):
    """What a source promises.

    - `cadence_s`: how often it repeats what it knows; ages are judged against it.
    - `priority`: decides between two sources that state a field at the same instant; the higher one wins.
    - `repeats`: False for a source that speaks only when something changes (a watch). What it said then holds
      for as long as the source itself is alive.
    - `lag_s`: how old its values may be on arrival in normal operation (an exporter's own collect interval
      behind a scrape); allowed for on top of the cadence.
    """

    name: str
    source_type: str
    cadence_s: float
    priority: int = 0
    repeats: bool = True
    lag_s: float = 0.0


class Source:
    """The bus's own record of a source; mutable, one for each name, shared by all that it said."""

    __slots__ = (
        "cadence_s",
        "declared",
        "detail",
        "failures",
        "fresh_s",
        "heard",
        "info",
        "lag_s",
        "name",
        "rank",
    )

    def __init__(self, info: SourceInfo, *, declared: bool) -> None:
        self.heard: Arrival | None = None
        self.failures = 0
        self.detail = ""
        self.name = info.name
        self.redefine(info, declared=declared)

    def redefine(self, info: SourceInfo, *, declared: bool) -> None:
        """Take on another promise; what it said before is judged by the new one from now on."""
        self.info = info
        self.declared = declared
        self.rank = info.priority
        self.cadence_s = info.cadence_s
        self.lag_s = info.lag_s
        self.fresh_s = FRESH_CADENCES * info.cadence_s + info.lag_s

    def silence_s(self, now: Arrival) -> float:
        """How long it has not been heard; infinite where it never was."""
        return now.monotonic - self.heard.monotonic if self.heard is not None else float("inf")

    def is_back(self, now: Arrival) -> bool:
        """Whether hearing it now makes younger what it said before: it was dead, or it speaks only of changes
        and was silent for so long that what it holds is no longer fresh."""
        return self.is_dead(now) or (not self.info.repeats and self.silence_s(now) > self.fresh_s)

    def is_dead(self, now: Arrival) -> bool:
        """Whether it has been silent for longer than any hiccup explains."""
        return self.silence_s(now) > DEAD_AFTER_CADENCES * self.cadence_s + self.lag_s

    def status(self, now: Arrival) -> SourceStatus:
        """For people and programs."""
        if self.heard is None:
            state = FAILING if self.failures else UNHEARD
        elif self.is_dead(now):
            state = SILENT
        else:
            state = FAILING if self.failures else ALIVE
        return SourceStatus(
            name=self.name,
            source_type=self.info.source_type,
            cadence_s=self.cadence_s,
            priority=self.rank,
            declared=self.declared,
            state=state,
            heard_at=self.heard.wall if self.heard is not None else None,
            silent_s=self.silence_s(now) if self.heard is not None else None,
            failures=self.failures,
            detail=self.detail,
        )


class Sources:
    """All sources by name."""

    def __init__(
        self, limits: BusLimits, in_use: Callable[[], set[str]], monotonic: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._in_use = in_use
        self._monotonic = monotonic
        self._searched_s = float("-inf")
        self._by_name: dict[str, Source] = {}

    def declare(self, info: SourceInfo) -> Source:
        """Register or redefine. Raises `BusFull`."""
        source = self._by_name.get(info.name)
        if source is None:
            return self._add(info, declared=True)
        source.redefine(info, declared=True)
        return source

    def of(self, name: str, source_type: str) -> Source:
        """The source of a fragment; taken as undeclared where it is new. Raises `BusFull`."""
        source = self._by_name.get(name)
        if source is None:
            info = SourceInfo(name, source_type, self._limits.cadence_default_s)
            source = self._add(info, declared=False)
        return source

    def get(self, name: str) -> Source | None:
        """The source of that name, if there is one."""
        return self._by_name.get(name)

    def all(self) -> list[Source]:
        """Every source, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def __len__(self) -> int:
        return len(self._by_name)

    def _add(self, info: SourceInfo, *, declared: bool) -> Source:
        limit = self._limits.sources_max
        if len(self._by_name) >= limit and not self._make_room():
            raise BusFull(
                f"source {info.name!r} is one too many: the bus knows {limit} sources; "
                "push under fewer names",
                limit=limit,
            )
        source = self._by_name[info.name] = Source(info, declared=declared)
        return source

    def _make_room(self) -> bool:
        """Forget the sources that nobody declared and that hold nothing any more: senders that take another
        name with each of their lives. Whether there were any. The search takes tens of milliseconds in a
        large fleet, so it is not made for each one who is refused."""
        now_s = self._monotonic()
        if now_s - self._searched_s < SEARCH_GAP_S:
            return False
        self._searched_s = now_s
        used = self._in_use()
        idle = [name for name, s in self._by_name.items() if not s.declared and name not in used]
        for name in idle:
            del self._by_name[name]
        return bool(idle)
