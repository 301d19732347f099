"""W&B in a box: the three queries of its GraphQL API over real HTTP, with a database of dicts.

It does not read GraphQL: it knows the queries that it is asked by their names. `web` has the faults, and
`limited` the one that W&B shows most: too many requests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from steersman.drivers.web.fake import FakeSystem, Request, Response, WebFake
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng

Json = dict[str, Any]


class FakeWandb(FakeSystem):
    """Serves `projects`: lists of runs (dicts of W&B's own shape) by the project's name.

    `authorization` is demanded where it is set. `limited`: the headers of a refusal for too many requests,
    None for none. `errors`: what is answered beside `data`. `ahead_s`: how far its clock is ahead.
    """

    def __init__(self, clock: Clock, rng: Rng, *, entity: str = "lab", authorization: str = "") -> None:
        self._clock = clock
        self._rng = rng
        self.entity = entity
        self.authorization = authorization
        self.limited: dict[str, str] | None = None
        self.errors: list[Json] = []
        self.ahead_s = 0.0
        self.projects: dict[str, list[Json]] = {}
        self.web = WebFake(self._answer)

    def time(self, ago_s: float = 0.0) -> str:
        """A time as W&B writes it: UTC, without saying so."""
        when = self._clock.now().astimezone(UTC) + timedelta(seconds=self.ahead_s - ago_s)
        return datetime.isoformat(when.replace(tzinfo=None), timespec="seconds")

    def add_run(
        self,
        project: str,
        state: str = "running",
        *,
        ago_s: float = 0.0,
        summary: Json | None = None,
        config: Json | None = None,
    ) -> Json:
        """A run whose last heartbeat was so long ago; the dict may be changed."""
        settings = {name: {"value": value, "desc": None} for name, value in (config or {}).items()}
        run: Json = {
            "name": f"{self._rng.getrandbits(40):010x}",
            "displayName": f"wise-sun-{len(self.projects.get(project, []))}",
            "state": state,
            "group": "",
            "jobType": None,
            "sweepName": None,
            "createdAt": self.time(ago_s + 60.0),
            "heartbeatAt": self.time(ago_s) if state != "pending" else None,
            "summaryMetrics": msgspec.json.encode(summary or {}).decode(),
            "config": msgspec.json.encode(settings).decode(),
            "user": {"username": "ada"},
        }
        self.projects.setdefault(project, []).append(run)
        return run

    # ---- what is asked

    async def _answer(self, request: Request) -> Response:
        if request.path != "/graphql" or request.method != "POST":
            return Response(b"not found", 404)
        if self.limited is not None:
            return Response(b"rate limit exceeded", 429, headers=self.limited)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b'{"errors":[{"message":"user is not logged in"}]}', 401, "application/json")
        asked = msgspec.json.decode(request.body)
        name = asked["query"].split("(")[0].split("{")[0].split()[-1]
        known = {"Viewer": self._viewer, "Projects": self._models, "Runs": self._runs}
        if name not in known:
            return _json({"errors": [{"message": f"unknown query {name}"}]}, 400)
        reply: Json = {"data": known[name](asked["variables"])}
        if self.errors:
            reply["errors"] = self.errors
        return _json(reply)

    def _viewer(self, _asked: Json) -> Json:
        return {"viewer": {"entity": self.entity}}

    def _models(self, asked: Json) -> Json:
        names = [{"name": name} for name in self.projects] if asked["entity"] == self.entity else []
        return {"models": _page(names, asked)}

    def _runs(self, asked: Json) -> Json:
        project = self.projects.get(asked["project"])
        if project is None or asked["entity"] != self.entity:
            return {"project": None}
        filters = msgspec.json.decode(asked["filters"])
        runs = [run for run in project if all(run.get(key) == value for key, value in filters.items())]
        runs.sort(key=lambda run: str(run.get("heartbeatAt") or ""), reverse=True)
        if not asked["config"]:
            runs = [{key: value for key, value in run.items() if key != "config"} for run in runs]
        return {"project": {"runs": _page(runs, asked)}}


def _page(items: list[Json], asked: Json) -> Json:
    start = int(asked["cursor"] or 0)
    end = start + int(asked["first"])
    info = {"endCursor": str(end), "hasNextPage": end < len(items)}
    return {"edges": [{"node": item} for item in items[start:end]], "pageInfo": info}


def _json(answer: Json, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, "application/json")
