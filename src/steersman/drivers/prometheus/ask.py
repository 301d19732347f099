"""Asks the API: many queries beside each other, under a bound, all within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.exposition.reader import INLINE_MAX_BYTES
from steersman.drivers.lane import Lane
from steersman.drivers.prometheus.answers import SERIES_MAX, Vector, read_answer
from steersman.drivers.web.client import CONNECTIONS_MAX, Answer, WebClient

QUERIES_AT_ONCE = CONNECTIONS_MAX
"""Prometheus works on 20 queries at once for everybody (--query.max-concurrency); we take a fifth of that."""
QUERY_PATH = "/api/v1/query"

K = TypeVar("K")


class Asker:
    """One API, over kept connections. `lane` decodes what is large."""

    def __init__(self, client: WebClient, lane: Lane, context: DriverContext) -> None:
        self._client = client
        self._lane = lane
        self._context = context
        self._method = "POST"

    async def moment(self, deadline_s: float) -> float:
        """The API's own time: what everything else is evaluated at. Raises `SourceError`."""
        vector = await self._one("time()", None, deadline_s)
        if vector.at_s is None:
            raise SourceError(f"{self._client.place}{QUERY_PATH}: it does not say what time it is")
        return vector.at_s

    async def all(
        self, queries: Sequence[tuple[K, str]], at_s: float, deadline_s: float
    ) -> tuple[dict[K, Vector], dict[K, SourceError]]:
        """The answers by the queries' keys, and the failures of those that have none. Nothing is raised."""
        answers: dict[K, Vector] = {}
        failures: dict[K, SourceError] = {}
        places = asyncio.Semaphore(QUERIES_AT_ONCE)

        async def one(key: K, text: str) -> None:
            async with places:
                try:
                    answers[key] = await self._one(text, at_s, deadline_s)
                except SourceError as error:
                    failures[key] = error

        async with asyncio.TaskGroup() as group:
            for key, text in queries:
                group.create_task(one(key, text))
        return answers, failures

    async def _one(self, text: str, at_s: float | None, deadline_s: float) -> Vector:
        left_s = deadline_s - self._context.clock.monotonic()
        if left_s <= 0:
            raise SourceError(f"{self._client.place}{QUERY_PATH}: no time was left to ask")
        form = {"query": text, "timeout": f"{left_s:.3f}", "limit": str(SERIES_MAX + 1)}
        if at_s is not None:
            form["time"] = f"{at_s:.3f}"
        answer = await self._send(form, left_s)
        if len(answer.body) <= INLINE_MAX_BYTES and not self._lane.busy:
            return read_answer(answer)
        left_s = max(0.0, deadline_s - self._context.clock.monotonic())
        return await self._lane.run(lambda: read_answer(answer), left_s)

    async def _send(self, form: Mapping[str, str], timeout_s: float) -> Answer:
        """In the body, as a query may be longer than a URL; in the URL where a proxy takes nothing else."""
        if self._method == "POST":
            answer = await self._client.ask("POST", QUERY_PATH, timeout_s=timeout_s, form=form)
            if answer.status != 405:
                return answer
            self._method = "GET"
        return await self._client.get(QUERY_PATH, timeout_s=timeout_s, params=form)
