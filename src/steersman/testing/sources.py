"""A driver that does what it is told, for tests of whatever reads sources: well, late, never, or wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment
from steersman.observe.registry import Source


class NoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Takes no keys."""


class ScriptedDriver:
    """Runs `script` at each observation, and keeps when that was and how many ran at once.

    `node` is the script of a good source, `hang` that of one that never answers.
    """

    name: ClassVar[str] = "scripted"
    Options: ClassVar[type[Struct]] = NoOptions
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self, options: Any = None, context: DriverContext | None = None) -> None:
        self.script: Callable[[], Awaitable[Any]] = self.node
        self.times: list[float] = []
        self.running = 0
        self.most_running = 0
        self.closed = 0
        self.context = context

    async def observe(self) -> Observation:
        self.times.append(asyncio.get_running_loop().time())
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            seen: Observation = await self.script()
            return seen
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.closed += 1

    async def node(self) -> Observation:
        return Observation([node_fragment("n1")])

    async def hang(self) -> Observation:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class RefusesToBeMade(ScriptedDriver):
    """Raises where no driver may: when it is made."""

    def __init__(self, options: Any = None, context: DriverContext | None = None) -> None:
        super().__init__(options, context)
        raise OSError("no such device")


class NotADriver:
    """Lacks everything that a driver has."""


def node_fragment(entity_id: str, source: str = "a", scope: str = "", **fields: Any) -> StateFragment:
    """What `source` says of a node now; half of its CPU in use where no fields are given."""
    return StateFragment(
        "scripted",
        EntityType.NODE,
        entity_id,
        SystemClock().now(),
        fields or {"cpu_utilization": 0.5},
        {SCOPE_LABEL: scope} if scope else {},
        source=source,
    )


def source_of(
    name: str, driver: ScriptedDriver, interval_s: float = 10.0, timeout_s: float = 5.0, scope: str = ""
) -> Source:
    """A source around a driver, as settings would make it."""
    context = DriverContext(name, scope, SystemClock(), seeded_rng(1), interval_s, timeout_s)
    driver.context = context
    return Source(name, driver.name, driver, scope, interval_s, timeout_s)
