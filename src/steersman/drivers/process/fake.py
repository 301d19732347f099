"""A machine in a box: processes that start, run and end as they are told, without any being there."""

from __future__ import annotations

import asyncio
import errno

from steersman.drivers.api import SourceError
from steersman.drivers.process.launcher import Service, ServiceEnd, Usage
from steersman.drivers.process.options import ProcessRule
from steersman.kernel.clock import Clock


class FakeService:
    """A process that runs until it is ended."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.stopped = False
        self._end: ServiceEnd | None = None
        self._over = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._pid

    async def ended(self) -> ServiceEnd:
        await self._over.wait()
        return self._end or ServiceEnd(0)

    async def stop(self) -> None:
        self.stopped = True
        self._over.set()

    def end(self, code: int, detail: str = "") -> None:
        """Let it end."""
        self._end = ServiceEnd(code, detail)
        self._over.set()


class FakeLauncher:
    """Starts fake processes. `fault`: "hang" (nothing is answered), "refuse" (the process table can't be
    read). `services` holds all that were ever started, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.fault = ""
        self.refusing: set[str] = set()
        """Names that can't be started."""
        self.services: dict[str, list[FakeService]] = {}

    async def start(self, rule: ProcessRule) -> Service:
        if rule.name in self.refusing:
            raise OSError(errno.EAGAIN, "no more processes")
        service = FakeService(1000 + sum(map(len, self.services.values())))
        self.services.setdefault(rule.name, []).append(service)
        return service

    async def usage(self, pids: list[int], timeout_s: float) -> dict[int, Usage]:
        if self.fault == "hang":
            await self._clock.sleep(timeout_s)
            raise SourceError(f"this machine gave no answer within {timeout_s:g} s")
        if self.fault == "refuse":
            raise OSError(errno.EACCES, "Permission denied")
        return {pid: Usage(2, 10_000_000, self._clock.monotonic() * 0.5) for pid in pids}

    async def close(self) -> None:
        """Nothing is held."""
