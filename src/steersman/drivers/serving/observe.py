"""The serving driver: a page of metrics by its stack's table, or the OpenAI list of models; and readiness."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.exposition import EndpointReader
from steersman.drivers.serving.activity import with_readiness, with_states, with_traffic
from steersman.drivers.serving.endpoint import ModelsReader
from steersman.drivers.serving.options import ServingOptions
from steersman.drivers.web.client import WebClient

HEALTH_TIMEOUT_S = 5.0
"""A server that takes longer to say that it is ready is not ready; those of the stacks answer from memory."""
HEALTH_SHARE = 0.15
"""Share of the source's time-out that is kept for readiness at least."""
HEALTH_MAX_BYTES = 64 * 1024
_MISTAKEN = frozenset({400, 401, 403, 404, 405, 406})
"""Statuses that speak of the question and not of the server's readiness."""
_ALL_REVISIONS = frozenset({"triton"})
"""Stacks whose page shows every revision of a model, so that shares of its requests can be told."""


class ServingDriver:
    """Observes one model server. See docs/reference/drivers/serving.md."""

    name: ClassVar[str] = "serving"
    Options: ClassVar[type[Struct]] = ServingOptions
    default_interval_s: ClassVar[float] = 15.0

    def __init__(self, options: ServingOptions, context: DriverContext) -> None:
        self._options = options
        self._context = context
        self._reader: EndpointReader | ModelsReader = (
            ModelsReader(options, context)
            if options.flavor == "openai"
            else EndpointReader(options, options.tables, context, options.given)
        )
        self._health: WebClient | None = (
            options.open_client(context.clock, options.health_url, own=options.health_is_near)
            if options.health_url is not None
            else None
        )

    async def observe(self) -> Observation:
        """Look once. Raises `SourceError` where the page or the list can't be read."""
        started_s = self._context.clock.monotonic()
        seen = await self._reader.read()
        seen.fragments = with_states(seen.fragments)
        if self._options.flavor in _ALL_REVISIONS:
            seen.fragments = with_traffic(seen.fragments)
        if self._health is not None:
            left_s = self._context.timeout_s - (self._context.clock.monotonic() - started_s)
            await self._probe(self._health, seen, max(left_s, self._context.timeout_s * HEALTH_SHARE))
        return seen

    async def close(self) -> None:
        """Close the connections and the thread. Repeating it does nothing."""
        try:
            await self._reader.close()
        finally:
            if self._health is not None:
                await self._health.close()

    async def _probe(self, client: WebClient, seen: Observation, left_s: float) -> None:
        """Ask whether it is ready, and tell it of each service. What speaks of us is a warning."""
        try:
            timeout_s = min(HEALTH_TIMEOUT_S, left_s)
            answer = await client.ask("GET", timeout_s=timeout_s, max_bytes=HEALTH_MAX_BYTES)
        except SourceError as error:
            seen.fragments = with_readiness(seen.fragments, up=False, error=error.detail)
            return
        if answer.status in _MISTAKEN:
            seen.complete = False
            seen.warnings.append(f"{answer.place} answered status {answer.status}: is health_url right?")
            return
        ready = 200 <= answer.status < 300
        error = "" if ready else f"{answer.place} answered status {answer.status}"
        seen.fragments = with_readiness(seen.fragments, up=ready, error=error)
