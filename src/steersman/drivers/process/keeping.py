"""Keeping one process running: started, watched, started again with growing waits, ended."""

from __future__ import annotations

import asyncio
from datetime import datetime

from steersman.drivers.api import SourceError
from steersman.drivers.process.command import CommandInvalid
from steersman.drivers.process.launcher import Launcher, Service, ServiceEnd
from steersman.drivers.process.options import ProcessRule
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.retry import Backoff

NOT_STARTED_CODE = 126
"""The exit code of a process that could not be started at all."""

_log = get_logger("drivers.process")


class Keeper:
    """One process of the configuration, and how it fares."""

    def __init__(self, rule: ProcessRule, launcher: Launcher, clock: Clock, rng: Rng) -> None:
        self.rule = rule
        self.state = "pending"
        self.service: Service | None = None
        self.restarts = 0
        self.exit_code: int | None = None
        self.detail = ""
        self.started_at: datetime | None = None
        self.started_s = 0.0
        self.settled = asyncio.Event()
        """Set once the first start has come to something."""
        self._launcher = launcher
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(first_s=float(rule.backoff), max_s=float(rule.max_backoff))

    async def keep(self) -> None:
        """Run it, again and again as its rule says; returns when it is not to be started any more."""
        failures = 0
        while True:
            end = await self._live()
            self.exit_code, self.detail = end.code, end.detail
            self.state = "completed" if end.code == 0 else "failed"
            self.settled.set()
            again = self.rule.restart == "always" or (self.rule.restart == "on_failure" and end.code != 0)
            if not again:
                return
            ran_s = self._clock.monotonic() - self.started_s
            failures = 1 if ran_s >= self.rule.steady else failures + 1
            delay_s = self._backoff.delay_s(failures, self._rng)
            _log.warning(
                "process_ended", process=self.rule.name, code=end.code, restart_in_s=round(delay_s, 2)
            )
            await self._clock.sleep(delay_s)
            self.restarts += 1

    async def _live(self) -> ServiceEnd:
        """One life, from its start to its end. Being cancelled ends it."""
        self.started_s = self._clock.monotonic()
        try:
            service = await self._launcher.start(self.rule)
        except (OSError, CommandInvalid, SourceError) as error:
            return ServiceEnd(NOT_STARTED_CODE, f"could not be started: {error}")
        self.service = service
        self.started_at = self._clock.now()
        self.state = "running"
        self.settled.set()
        try:
            return await service.ended()
        finally:
            self.service = None
            await service.stop()
