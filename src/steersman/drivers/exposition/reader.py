"""From an exposition endpoint to an observation: the whole look of a driver that reads one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.exposition.floor import ErrorFloor
from steersman.drivers.exposition.mapping import Mapping
from steersman.drivers.exposition.options import ExpositionOptions
from steersman.drivers.exposition.plan import Plan, Reading
from steersman.drivers.exposition.rules import rules_of
from steersman.drivers.exposition.series import Page, SeriesCache
from steersman.drivers.exposition.shape import PageShape
from steersman.drivers.lane import Lane
from steersman.kinds.fragment import SCOPE_LABEL

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
"""Formats that we read, best first. The protobuf format is not among them."""
INLINE_MAX_BYTES = 64 * 1024
"""A larger page is read in a thread, so that the event loop stays free; a smaller one takes a millisecond."""
GET_SHARE = 0.8
"""Share of the source's time-out that fetching may take; reading has what is left of it."""

_READABLE = frozenset({"application/openmetrics-text", "text/plain", "application/octet-stream", ""})


class _Exposition(Struct, frozen=True):
    """A page as it came. `openmetrics` is whether it says that it is of that format."""

    body: bytes
    openmetrics: bool


class EndpointReader:
    """One endpoint, read again and again over one kept connection. `may_be_empty`: a page without a line is
    an answer there and no failure (an exporter that has collected nothing yet)."""

    def __init__(
        self,
        options: ExpositionOptions,
        tables: Sequence[Mapping],
        context: DriverContext,
        variables: dict[str, str] | None = None,
        *,
        may_be_empty: bool = False,
    ) -> None:
        self._may_be_empty = may_be_empty
        labels = dict(options.labels)
        if context.scope:
            labels[SCOPE_LABEL] = context.scope
        self._context = context
        self._place = options.place
        self._variables = {"@instance": options.instance, "@source": context.source}
        self._variables["@scope"] = context.scope or context.source
        self._variables |= {f"@{name}": text for name, text in options.variables.items()}
        self._variables |= {f"@{name}": text for name, text in (variables or {}).items()}
        self._client = options.open_client(context.clock)
        self._plan = Plan(tables, context.source, labels)
        self._floor = ErrorFloor()
        self._series = SeriesCache(self._plan.want, self._plan.forget)
        self._shape = PageShape(rules_of(tables).known, self._plan.unnamed)
        self._lane = Lane(f"{context.source}-page", f"reading the page of {self._place}")

    async def read(self) -> Observation:
        """Read the page once. Raises `SourceError`."""
        at, at_s = self._context.clock.now(), self._context.clock.monotonic()
        exposition = await self._get(self._context.timeout_s * GET_SHARE)
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

    async def _get(self, timeout_s: float) -> _Exposition:
        answer = (await self._client.get(timeout_s=timeout_s, headers={"Accept": ACCEPT})).expect()
        if answer.kind not in _READABLE:
            raise SourceError(
                f"{self._place} answered {answer.kind[:64]!r}; expected Prometheus text or OpenMetrics"
            )
        return _Exposition(answer.body, answer.kind == "application/openmetrics-text")

    def _read(self, exposition: _Exposition, at: datetime, at_s: float) -> tuple[Page, Reading]:
        text = exposition.body.decode("utf-8", "surrogateescape")
        if text and not text.endswith("\n"):
            # A sample whose line did not end may be half a number, which reads like a whole one.
            text = text[: text.rfind("\n") + 1]
        page = self._series.read(text, openmetrics=exposition.openmetrics)
        read = self._plan.build(page, at, at_s, self._variables)
        self._floor.apply(read.fragments, at_s)
        read.drift += self._shape.signs(text, read.drift)
        return page, read

    def _judge(self, exposition: _Exposition, page: Page, read: Reading) -> Observation:
        """The observation, or `SourceError` where the page was no exposition or came short."""
        if exposition.openmetrics and not page.ended:
            raise SourceError(f"{self._place}: its answer is cut short (no '# EOF' at the end)")
        if not exposition.body.strip():
            if self._may_be_empty:
                return Observation(complete=False, warnings=[f"{self._place}: its page is empty"])
            raise SourceError(f"{self._place}: its answer is empty")
        if page.senseless:
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
