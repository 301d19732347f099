"""The client of W&B's GraphQL API: pages by cursor, and silence where it is told to wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.wandb.options import WandbOptions
from steersman.drivers.wandb.shapes import PROJECTS, RUNS, VIEWER, Data, Page, Reply
from steersman.drivers.web.client import Answer
from steersman.drivers.web.look import Look

PATH = "/graphql"
PAGE = 100
"""Items asked for at once. A summary may have a thousand metrics: a page of runs is some megabytes then."""
WAIT_S = 60.0
"""How long it is left alone after a refusal for too many requests that does not say how long."""
WAIT_MAX_S = 3_600.0
"""Nobody's word keeps us away for longer."""
MESSAGE_MAX_CHARS = 160


class Items(Struct):
    """One page: its items, undecoded, and the cursor of the next one ("" where it is the last)."""

    nodes: list[Raw]
    cursor: str


class WandbClient:
    """Asks one server with one key. Every call raises `SourceError`."""

    def __init__(self, options: WandbOptions, context: DriverContext) -> None:
        self._web = options.open_client(context.clock)
        self._clock = context.clock
        self._with_config = options.job_config is not None
        self._quiet_until_s = 0.0
        self.place = options.place

    async def default_entity(self, look: Look) -> str:
        """The entity that the key's owner works for."""
        data = await self._ask(look, VIEWER, {})
        if data.viewer is None or not data.viewer.entity:
            raise SourceError(f"{self.place}: the key belongs to nobody with an entity; give one as entity")
        return data.viewer.entity

    async def projects(self, look: Look, entity: str, cursor: str) -> Items:
        """A page of the projects of an entity."""
        data = await self._ask(look, PROJECTS, {"entity": entity, "cursor": cursor or None, "first": PAGE})
        return _items(data.models)

    async def runs(
        self, look: Look, entity: str, project: str, filters: Mapping[str, Any], cursor: str
    ) -> Items | None:
        """A page of a project's runs, those with the newest heartbeat first; None where there is no such
        project, or none that the key may see."""
        variables = {
            "entity": entity,
            "project": project,
            "cursor": cursor or None,
            "first": PAGE,
            "order": "-heartbeat_at",
            "filters": msgspec.json.encode(filters).decode(),
            "config": self._with_config,
        }
        data = await self._ask(look, RUNS, variables)
        return _items(data.project.runs) if data.project is not None else None

    async def close(self) -> None:
        """Close its connections. Repeating it does nothing."""
        await self._web.close()

    # ---- inside

    async def _ask(self, look: Look, query: str, variables: Mapping[str, Any]) -> Data:
        wait_s = self._quiet_until_s - self._clock.monotonic()
        if wait_s > 0:
            raise SourceError(f"{self.place} limits our requests (status 429); asked again in {wait_s:.0f} s")
        answer = await self._web.ask(
            "POST",
            PATH,
            timeout_s=look.left_s(),
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode({"query": query, "variables": variables}),
        )
        if answer.status == 429:
            wait_s = self._wait_s(answer)
            self._quiet_until_s = self._clock.monotonic() + wait_s
            raise SourceError(f"{self.place} limits our requests (status 429); asked again in {wait_s:.0f} s")
        reply = await look.read(_good(answer), Reply)
        if reply.errors:
            told = "; ".join(_plain(error.message) for error in reply.errors[:3])
            raise SourceError(f"{answer.place} answered with errors: {told}")
        if reply.data is None:
            raise SourceError(f"{answer.place}: its answer has no data; is there a W&B server at this url?")
        return reply.data

    def _wait_s(self, answer: Answer) -> float:
        """How long to leave it alone, by its own word."""
        for name in ("retry-after", "ratelimit-reset"):
            text = answer.headers.get(name, "").strip()
            try:
                return min(WAIT_MAX_S, max(1.0, float(text)))
            except ValueError:
                pass
            try:
                when = parsedate_to_datetime(text)
            except (ValueError, TypeError):
                continue
            left_s = (_aware(when) - self._clock.now()).total_seconds()
            return min(WAIT_MAX_S, max(1.0, left_s))
        return WAIT_S


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def _items(page: Page | None) -> Items:
    if page is None:
        return Items([], "")
    more = page.page_info.end_cursor if page.page_info.has_next_page else None
    return Items([edge.node for edge in page.edges], more or "")


def _good(answer: Answer) -> Answer:
    if answer.status == 200:
        return answer
    hints = {
        401: " (it wants another api_key)",
        403: " (the api_key may not read that)",
        404: " (there is no W&B API at this url)",
    }
    hint = hints.get(answer.status, "")
    raise SourceError(f"{answer.place} answered status {answer.status}; expected 200{hint}")


def _plain(message: str) -> str:
    """A message in one line; it names entities and projects, never the key, which is no part of a query."""
    return "".join(char if char.isprintable() else " " for char in message[:MESSAGE_MAX_CHARS]).strip()
