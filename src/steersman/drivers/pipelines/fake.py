"""Airflow and Dagster in a box: their APIs as far as they are asked, over real HTTP; they can misbehave."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

from steersman.drivers.pipelines.picture import as_dict
from steersman.drivers.web.fake import FakeSystem, Request, Response, WebFake
from steersman.kernel.clock import SystemClock


class FakeAirflow(FakeSystem):
    """Speaks v2, or v1 where `version` says so. `dags`, `runs` and `tasks` (by DAG and run) are what it has;
    `answers` stand for the whole answer of a path's last part. `web` has the faults."""

    def __init__(self, version: str = "v2", *, authorization: str = "") -> None:
        self.version = version
        self.authorization = authorization
        self.ahead = timedelta()
        self.dags: list[Any] = []
        self.runs: list[Any] = []
        self.tasks: dict[tuple[str, str], list[Any]] = {}
        self.health: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.web = WebFake(self._answer)
        self.beat()

    def at(self, age_s: float) -> str:
        """A time so long ago, by its clock, as it writes one."""
        now = SystemClock().now().astimezone(UTC) + self.ahead
        return (now - timedelta(seconds=age_s)).isoformat()

    def beat(self, age_s: float = 3.0, status: str = "healthy") -> None:
        """The scheduler's last sign of life."""
        self.health = {
            "metadatabase": {"status": "healthy"},
            "scheduler": {"status": status, "latest_scheduler_heartbeat": self.at(age_s)},
            "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
        }

    def add(self, dag_id: str, *states: str, paused: bool = False, due_in_s: float = 600.0) -> None:
        """A DAG with runs in these states, the newest last, an hour apart, and a task for each of them."""
        due = "next_dagrun_run_after" if self.version == "v2" else "next_dagrun_create_after"
        self.dags.append({"dag_id": dag_id, "is_paused": paused, due: self.at(-due_in_s)})
        for number, state in enumerate(states):
            age_s = 3600.0 * (len(states) - number)
            ended = self.at(age_s - 60) if state in ("success", "failed") else None
            run = {"dag_id": dag_id, "dag_run_id": f"scheduled__{number}", "state": state}
            self.runs.append({**run, "start_date": self.at(age_s), "end_date": ended})
            self.tasks[dag_id, f"scheduled__{number}"] = [
                {"task_id": "load", "state": state, "end_date": ended, "try_number": 1, "map_index": -1}
            ]

    async def _answer(self, request: Request) -> Response:
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b'{"detail": "Unauthorized"}', 401, "application/json")
        path, _, query = request.path.partition("?")
        base = f"/api/{self.version}"
        if not path.startswith(base + "/"):
            return _json({"detail": "Not Found"}, 404)
        parts = [unquote(part) for part in path.removeprefix(base).strip("/").split("/")]
        if parts[-1] in self.answers:
            return _json(self.answers[parts[-1]])
        if parts == (["monitor", "health"] if self.version == "v2" else ["health"]):
            return _json(self.health)
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        if parts == ["dags"]:
            return _json(_page("dags", self.dags, asked))
        if parts == ["dags", "~", "dagRuns"]:
            runs = [run for run in self.runs if asked.get("state") in (None, run["state"])]
            key = asked.get("order_by", "").lstrip("-")
            runs.sort(key=lambda run: str(run.get(key) or ""), reverse=asked.get("order_by", "")[:1] == "-")
            return _json(_page("dag_runs", runs, asked))
        if len(parts) == 5 and parts[4] == "taskInstances":
            return _json(_page("task_instances", self.tasks.get((parts[1], parts[3]), []), asked))
        return _json({"detail": "Not Found"}, 404)


class FakeDagster(FakeSystem):
    """Answers the queries for runs, assets, daemons. `freshness` is the field that its schema has for it."""

    def __init__(self, *, authorization: str = "", freshness: str = "freshnessStatusInfo") -> None:
        self.authorization = authorization
        self.freshness = freshness
        self.ahead_s = 0.0
        self.runs: list[Any] = []
        self.assets: list[Any] = []
        self.daemons: list[Any] = []
        self.answers: dict[str, Any] = {}
        self.web = WebFake(self._answer)
        self.beat()

    def at(self, age_s: float) -> float:
        """A time so long ago, by its clock, in seconds since 1970."""
        return SystemClock().now().timestamp() + self.ahead_s - age_s

    def beat(self, age_s: float = 3.0, *, healthy: bool = True) -> None:
        """The scheduler's last sign of life; another daemon is not needed here."""
        last = self.at(age_s)
        self.daemons = [
            {"daemonType": "SCHEDULER", "required": True, "healthy": healthy, "lastHeartbeatTime": last},
            {"daemonType": "BACKFILL", "required": False, "healthy": None, "lastHeartbeatTime": None},
        ]

    def add(self, job: str, *statuses: str) -> None:
        """A job with runs of these statuses, the newest last, an hour apart."""
        for number, status in enumerate(statuses):
            age_s = 3600.0 * (len(statuses) - number)
            ended = self.at(age_s - 60) if status in ("SUCCESS", "FAILURE", "CANCELED") else None
            run = {"runId": f"{job}-{number}", "jobName": job, "status": status}
            self.runs.insert(0, {**run, "startTime": self.at(age_s), "endTime": ended})

    def make(self, *path: str, age_s: float = 60.0, status: str = "HEALTHY", lag_minutes: float = 5) -> None:
        """An asset that was made so long ago."""
        self.assets.append(
            {
                "assetKey": {"path": list(path)},
                "assetMaterializations": [{"timestamp": str(int(self.at(age_s) * 1000))}],
                "freshnessStatusInfo": {"freshnessStatus": status},
                "freshnessInfo": {"currentLagMinutes": lag_minutes},
            }
        )

    async def _answer(self, request: Request) -> Response:
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b"login", 401, "text/html")
        if request.method != "POST" or request.path.partition("?")[0] != "/graphql":
            return Response(b"<html></html>", 200, "text/html")
        asked = json.loads(request.body)
        query: str = asked["query"]
        for name in ("Runs", "Assets", "Daemons"):
            if query.startswith(f"query {name}") and name in self.answers:
                return _json(self.answers[name])
        for field in ("freshnessStatusInfo", "freshnessInfo"):
            if field in query and field != self.freshness:
                error = {"message": f'Cannot query field "{field}" on type "AssetNode".'}
                return _json({"data": None, "errors": [error]})
        if query.startswith("query Runs"):
            wanted: list[str] | None = as_dict(asked["variables"]["filter"]).get("statuses")
            runs = [run for run in self.runs if wanted is None or run.get("status") in wanted]
            found = {"__typename": "Runs", "results": runs[: asked["variables"]["limit"]]}
            return _json({"data": {"runsOrError": found}})
        if query.startswith("query Assets"):
            kept = ("assetKey", "assetMaterializations", self.freshness)
            nodes = [{name: asset.get(name) for name in kept} for asset in self.assets]
            return _json({"data": {"assetNodes": nodes}})
        return _json({"data": {"instance": {"daemonHealth": {"allDaemonStatuses": self.daemons}}}})


def _page(key: str, items: list[Any], asked: dict[str, str]) -> dict[str, Any]:
    start, limit = int(asked.get("offset", "0")), min(100, int(asked.get("limit", "100")))
    return {key: items[start : start + limit], "total_entries": len(items)}


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body, default=_text).encode(), status, "application/json")


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
