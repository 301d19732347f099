"""The process driver: processes of the configuration, kept running, and each told of as a job.

They start with the first look and end with the driver, each with all its children. Where Steersman is killed,
their wrappers end them: they are never there twice.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.process.keeping import Keeper
from steersman.drivers.process.launcher import Launcher, LocalLauncher, Usage
from steersman.drivers.process.options import ProcessOptions
from steersman.kernel.errors import Unavailable
from steersman.kernel.tasks import Restart, Supervisor
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment

STOP_MARGIN_S = 20.0
"""How much longer than the longest grace ending all processes may take."""
FIRST_SHARE = 0.5
"""Share of the source's time-out that the first look waits for the processes to be there."""
READ_SHARE = 0.8


class ProcessDriver:
    """Keeps processes and observes them. See docs/reference/drivers/process.md."""

    name: ClassVar[str] = "process"
    Options: ClassVar[type[Struct]] = ProcessOptions
    default_interval_s: ClassVar[float] = 5.0

    def __init__(
        self, options: ProcessOptions, context: DriverContext, launcher: Launcher | None = None
    ) -> None:
        self._options = options
        self._context = context
        self._launcher: Launcher = launcher or LocalLauncher(context.source, context.clock)
        self._node = options.node or os.uname().nodename
        self._keepers: list[Keeper] = []
        self._tasks: Supervisor | None = None
        self._closed = False
        self._cpu: dict[int, tuple[float, float]] = {}
        self._whole = False

    async def observe(self) -> Observation:
        """Start what is to run, and tell how it fares. Raises `SourceError`."""
        if self._closed:
            raise SourceError("the driver is closed")
        self._begin()
        wait_s = self._context.timeout_s * FIRST_SHARE
        unsettled = [keeper.settled.wait() for keeper in self._keepers if not keeper.settled.is_set()]
        if unsettled:
            try:
                async with asyncio.timeout(wait_s):
                    await asyncio.gather(*unsettled)
            except TimeoutError:
                pass  # it is told of as pending
        pids = [keeper.service.pid for keeper in self._keepers if keeper.service is not None]
        try:
            used = await self._launcher.usage(
                [pid for pid in pids if pid], self._context.timeout_s * READ_SHARE
            )
        except OSError as error:
            raise SourceError(
                f"the process table can't be read: {(error.strerror or 'error').lower()}"
            ) from error
        seen = Observation()
        now_s = self._context.clock.monotonic()
        for keeper in self._keepers:
            seen.fragments.append(self._fragment(keeper, used, now_s))
            if keeper.state == "failed" and keeper.detail:
                seen.warnings.append(f"{keeper.rule.name}: exit code {keeper.exit_code}: {keeper.detail}")
        self._cpu = {pid: (now_s, usage.cpu_s) for pid, usage in used.items()}
        if not self._whole:
            self._whole, seen.whole = True, (EntityType.JOB,)
        return seen

    async def close(self) -> None:
        """End every process with its children. Repeating it does nothing."""
        self._closed = True
        tasks, self._tasks = self._tasks, None
        try:
            if tasks is not None:
                longest_s = max(float(rule.stop_grace) for rule in self._options.processes)
                await self._end_all(tasks, longest_s + STOP_MARGIN_S)
        finally:
            await self._launcher.close()

    def _begin(self) -> None:
        if self._tasks is not None:
            return
        context = self._context
        self._tasks = Supervisor(context.clock, context.rng, name=f"{context.source}-processes")
        self._keepers = [
            Keeper(rule, self._launcher, context.clock, context.rng) for rule in self._options.processes
        ]
        for keeper in self._keepers:
            self._tasks.start(keeper.rule.name, keeper.keep, Restart(max_restarts=None))

    async def _end_all(self, tasks: Supervisor, timeout_s: float) -> None:
        # All at once: one after the other, the graces would add up.
        ends = [tasks.end(keeper.rule.name, timeout_s) for keeper in self._keepers]
        for end in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(end, Unavailable):
                raise end
        await tasks.stop(timeout_s)

    def _fragment(self, keeper: Keeper, used: dict[int, Usage], now_s: float) -> StateFragment:
        rule, service = keeper.rule, keeper.service
        fields: dict[str, Any] = {
            "job_state": keeper.state,
            "command": os.path.basename(rule.argv[0]),
            "node": self._node,
            "restarts": keeper.restarts,
        }
        clear: tuple[str, ...] = ()
        usage = used.get(service.pid) if service is not None else None
        if keeper.started_at is not None:
            fields["started_at"] = keeper.started_at
        if service is not None:
            fields["pid"] = service.pid
            fields["runtime_seconds"] = max(0.0, now_s - keeper.started_s)
            clear = ("exit_code",)
        elif keeper.exit_code is not None:
            fields |= {
                "exit_code": keeper.exit_code,
                "process_count": 0,
                "memory_used": 0,
                "cpu_utilization": 0.0,
            }
            clear = ("pid",)
        if usage is not None and service is not None:
            fields |= {"process_count": usage.processes, "memory_used": usage.memory_bytes}
            before = self._cpu.get(service.pid)
            if before is not None and now_s > before[0]:
                share = (usage.cpu_s - before[1]) / (now_s - before[0]) / (os.cpu_count() or 1)
                fields["cpu_utilization"] = max(0.0, share)
        labels = {"process": rule.name, "node": self._node, **self._options.labels}
        if self._context.scope:
            labels[SCOPE_LABEL] = self._context.scope
        return StateFragment(
            source_type=self.name,
            source=self._context.source,
            entity_type=EntityType.JOB,
            entity_id=f"{self._node}:{rule.name}",
            observed_at=self._context.clock.now(),
            fields=fields,
            labels=labels,
            clear=clear,
        )
