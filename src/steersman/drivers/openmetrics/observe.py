"""The openmetrics driver: one exposition endpoint, read through mapping tables."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.lane import Lane
from steersman.drivers.openmetrics.client import Exposition, ExpositionClient
from steersman.drivers.openmetrics.options import OpenMetricsOptions
from steersman.drivers.openmetrics.plan import Plan, Reading
from steersman.drivers.openmetrics.series import Page, SeriesCache
from steersman.kinds.fragment import SCOPE_LABEL

INLINE_MAX_BYTES = 64 * 1024
"""A larger page is read in a thread, so that the event loop stays free; a smaller one takes a millisecond."""
GET_SHARE = 0.8
"""Share of the source's time-out that fetching may take; reading has what is left of it."""


class OpenMetricsDriver:
    """Observes what an exporter shows. See docs/reference/drivers/openmetrics.md."""

    name: ClassVar[str] = "openmetrics"
    Options: ClassVar[type[Struct]] = OpenMetricsOptions
    default_interval_s: ClassVar[float] = 15.0

    def __init__(self, options: OpenMetricsOptions, context: DriverContext) -> None:
        labels = dict(options.labels)
        if context.scope:
            labels[SCOPE_LABEL] = context.scope
        self._context = context
        self._place = options.place
        self._variables = {"@instance": options.instance, "@source": context.source}
        self._variables |= {f"@{name}": text for name, text in options.variables.items()}
        self._client = ExpositionClient(options, context.clock)
        self._plan = Plan(options.tables, context.source, labels)
        self._series = SeriesCache(self._plan.want, self._plan.forget)
        self._lane = Lane(f"{context.source}-page", f"reading the page of {self._place}")

    async def observe(self) -> Observation:
        """Read the page once. Raises `SourceError`."""
        at, at_s = self._context.clock.now(), self._context.clock.monotonic()
        exposition = await self._client.get(self._context.timeout_s * GET_SHARE)
        if len(exposition.body) <= INLINE_MAX_BYTES and not self._lane.busy:
            page, read = self._read(exposition, at, at_s)
        else:
            timeout_s = self._context.timeout_s - (self._context.clock.monotonic() - at_s)
            page, read = await self._lane.run(lambda: self._read(exposition, at, at_s), timeout_s)
        return self._judge(exposition, page, read)

    async def close(self) -> None:
        """Close the connection and the thread. Repeating it does nothing."""
        try:
            await self._client.close()
        finally:
            await self._lane.close()

    def _read(self, exposition: Exposition, at: datetime, at_s: float) -> tuple[Page, Reading]:
        text = exposition.body.decode("utf-8", "surrogateescape")
        if text and not text.endswith("\n"):
            # A sample whose line did not end may be half a number, which reads like a whole one.
            text = text[: text.rfind("\n") + 1]
        page = self._series.read(text, openmetrics=exposition.openmetrics)
        return page, self._plan.build(page, at, at_s, self._variables)

    def _judge(self, exposition: Exposition, page: Page, read: Reading) -> Observation:
        """The observation, or `SourceError` where the page was no exposition or came short."""
        if exposition.openmetrics and not page.ended:
            raise SourceError(f"{self._place}: its answer is cut short (no '# EOF' at the end)")
        if not exposition.body.strip():
            raise SourceError(f"{self._place}: its answer is empty")
        if page.malformed and not page.understood:
            raise SourceError(f"{self._place}: its answer is no exposition: {page.problems[0]}")
        warnings = [f"{self._place}: {problem}" for problem in page.problems]
        hidden = page.malformed - len(page.problems)
        if hidden > 0:
            warnings.append(f"{self._place}: {hidden} more malformed lines")
        if exposition.body and not exposition.body.endswith(b"\n"):
            warnings.append(f"{self._place}: the last line does not end, so it was not read")
        warnings += [f"{self._place}: {warning}" for warning in read.warnings]
        if not read.fragments and not warnings:
            warnings.append(f"{self._place}: none of its metrics is in the mappings of this source")
        return Observation(
            fragments=read.fragments, complete=not warnings, warnings=warnings, drift=read.drift
        )
