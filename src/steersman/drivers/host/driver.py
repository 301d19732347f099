"""The host driver: this machine as a node, its GPUs, chosen processes, endpoints and files.

Its sections run side by side, each in a lane or on the loop, each under the source's time-out. A section
that fails is a warning and an incomplete picture; only where every section failed is the source down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.host.machine import LocalMachine, Machine
from steersman.drivers.host.node import Rates, node_fields
from steersman.drivers.host.options import HostOptions
from steersman.drivers.host.readings import MachineReading
from steersman.drivers.lane import Lane
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment

SECTION_SHARE = 0.9
"""Share of the source's time-out that a section gets, so that a picture without it is still in time."""


class HostDriver:
    """Observes the machine that Steersman runs on.

    `machine` is the seam to the real thing; tests and trials pass the fake of it.
    """

    name: ClassVar[str] = "host"
    Options: ClassVar[type[Struct]] = HostOptions
    default_interval_s: ClassVar[float] = 10.0

    def __init__(
        self, options: HostOptions, context: DriverContext, *, machine: Machine | None = None
    ) -> None:
        self._options = options
        self._context = context
        self._machine: Machine = machine or LocalMachine()
        self._lane = Lane(f"{context.source}-machine", "this machine")
        self._rates = Rates()
        self._sections: list[tuple[str, Callable[[Observation], Awaitable[None]]]] = [
            ("node", self._observe_node)
        ]

    async def observe(self) -> Observation:
        """One look at everything. Raises `SourceError` where nothing at all could be read."""
        seen = Observation()
        errors = await asyncio.gather(*(self._guard(observe, seen) for _, observe in self._sections))
        failed = [error for error in errors if error is not None]
        if len(failed) == len(self._sections):
            raise failed[0]
        for error in failed:
            seen.complete = False
            seen.warnings.append(error.detail)
        return seen

    async def close(self) -> None:
        """End the threads. Repeating it does nothing."""
        await self._lane.close()

    async def _guard(
        self, observe: Callable[[Observation], Awaitable[None]], seen: Observation
    ) -> SourceError | None:
        try:
            await observe(seen)
        except SourceError as error:
            return error
        return None

    async def _observe_node(self, seen: Observation) -> None:
        at = self._context.clock.now()
        reading = await self._read_machine()
        seen.warnings.extend(reading.warnings)
        seen.complete = seen.complete and not reading.warnings
        labels = {"hostname": reading.hostname}
        if reading.arch:
            labels["arch"] = reading.arch
        seen.fragments.append(
            StateFragment(
                source_type=self.name,
                source=self._context.source,
                entity_type=EntityType.NODE,
                entity_id=self._options.node or reading.hostname,
                observed_at=at,
                fields=node_fields(reading, self._rates, None),
                labels=self._labels(labels),
            )
        )

    async def _read_machine(self) -> MachineReading:
        timeout_s = self._context.timeout_s * SECTION_SHARE
        try:
            return await self._lane.run(self._machine.read, timeout_s)
        except OSError as error:
            raise SourceError(f"this machine can't be read: {error.strerror or error}") from error

    def _labels(self, labels: dict[str, str]) -> dict[str, str]:
        merged = {**labels, **self._options.labels}
        if self._context.scope:
            merged[SCOPE_LABEL] = self._context.scope
        return merged
