"""Dagster's GraphQL API: runs of jobs, assets with their freshness, daemons.

A query that names a field which the version does not have fails as a whole, in `errors` of an answer with
status 200. So what came late (freshness) is asked for apart, and in the words of two versions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.drivers.pipelines.options import PipelinesOptions
from steersman.drivers.pipelines.picture import Daemon, Picture, Stage, as_dict, as_list
from steersman.drivers.web.client import WebClient
from steersman.kernel.clock import Clock

RUNS_MAX = 200
"""Newest runs that are read; and as many of those that went well."""
ASSETS_MAX = 5_000
"""Assets that are told."""
REQUEST_TIMEOUT_S = 10.0
TEXT_MAX_CHARS = 160

STATUSES = frozenset(
    (
        "QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "SUCCESS", "FAILURE",
        "CANCELING", "CANCELED",
    )
)  # fmt: skip
"""RunStatus of Dagster's schema."""
FRESHNESS = frozenset(["HEALTHY", "WARNING", "DEGRADED", "UNKNOWN", "NOT_APPLICABLE"])
"""AssetHealthStatus of Dagster's schema."""

_RUNS = """query Runs($limit: Int!, $filter: RunsFilter) {
  runsOrError(limit: $limit, filter: $filter) { __typename
    ... on Runs { results { runId jobName status startTime endTime } }
    ... on PythonError { message } ... on InvalidPipelineRunsFilterError { message } } }"""
_DAEMONS = """query Daemons { instance { daemonHealth { allDaemonStatuses {
  daemonType required healthy lastHeartbeatTime } } } }"""
_ASSETS = (
    """query Assets { assetNodes { assetKey { path } assetMaterializations(limit: 1) { timestamp } %s } }"""
)
_FRESH = ("freshnessStatusInfo { freshnessStatus }", "freshnessInfo { currentLagMinutes }", "")
"""What newer, older and oldest versions say of freshness."""


class Run(Struct):
    """One run. Times are seconds since 1970."""

    job_name: str = msgspec.field(name="jobName")
    run_id: str = msgspec.field(name="runId", default="")
    status: str | None = None
    start: float | None = msgspec.field(name="startTime", default=None)
    end: float | None = msgspec.field(name="endTime", default=None)


class Key(Struct):
    """An asset's name."""

    path: list[str]


class Materialization(Struct):
    """When an asset was made: milliseconds since 1970, as a text."""

    timestamp: str | None = None


class Status(Struct):
    """What newer versions say of freshness."""

    status: str | None = msgspec.field(name="freshnessStatus", default=None)


class Lag(Struct):
    """What older versions say of freshness."""

    minutes: float | None = msgspec.field(name="currentLagMinutes", default=None)


class Asset(Struct):
    """One asset."""

    key: Key = msgspec.field(name="assetKey")
    made: list[Materialization] | None = msgspec.field(name="assetMaterializations", default=None)
    status: Status | None = msgspec.field(name="freshnessStatusInfo", default=None)
    lag: Lag | None = msgspec.field(name="freshnessInfo", default=None)


class DaemonStatus(Struct):
    """One daemon. A heartbeat is seconds since 1970."""

    kind: str = msgspec.field(name="daemonType")
    required: bool | None = None
    healthy: bool | None = None
    beat: float | None = msgspec.field(name="lastHeartbeatTime", default=None)


class _Refused(SourceError):
    """The query was answered with errors; the words are the server's, cut short."""


class Dagster:
    """Looks at one Dagster."""

    def __init__(self, options: PipelinesOptions, client: WebClient, clock: Clock) -> None:
        self._options = options
        self._client = client
        self._clock = clock
        self._fresh = 0
        self._until_s = 0.0

    async def look(self, until_s: float) -> Picture:
        """One look, which ends by `until_s` on the monotonic clock. Raises `SourceError`."""
        self._until_s = until_s
        picture = Picture(self._clock.now(), self._client.place)
        runs = await self._runs(picture, None)
        won: list[Run] = []
        try:
            won = await self._runs(picture, {"statuses": ["SUCCESS"]})
        except SourceError as error:
            picture.warn(f"runs that went well: {error.detail}")
        _tell_jobs(picture, self._options, runs, won)
        for what in (self._assets, self._daemons):
            try:
                await what(picture)
            except SourceError as error:
                picture.warn(error.detail)
        return picture

    async def _runs(self, picture: Picture, only: dict[str, Any] | None) -> list[Run]:
        data = await self._ask(_RUNS, {"limit": RUNS_MAX, "filter": only})
        found = as_dict(data.get("runsOrError"))
        kind = found.get("__typename")
        if kind != "Runs":
            said = f"{_short(kind)}: {_short(found.get('message'))}"
            raise SourceError(f"{self._client.place}: its answer has no runs: {said}")
        return picture.items(found.get("results"), Run, "runs")

    async def _assets(self, picture: Picture) -> None:
        while True:
            try:
                data = await self._ask(_ASSETS % _FRESH[self._fresh], {})
                break
            except _Refused:
                if self._fresh + 1 == len(_FRESH):
                    self._fresh = 0  # it was no matter of the version
                    raise
                self._fresh += 1
        assets = picture.items(data.get("assetNodes"), Asset, "assets")
        if len(assets) > ASSETS_MAX:
            picture.warn(f"{len(assets)} assets; the first {ASSETS_MAX} are told")
        for asset in assets[:ASSETS_MAX]:
            name = "/".join(asset.key.path)
            if not name or not self._options.wants(name):
                continue
            state = asset.status.status if asset.status is not None else None
            if state is not None and state not in FRESHNESS:
                picture.odd(f"freshness: unknown word {state[:64]!r}")
            minutes = asset.lag.minutes if asset.lag is not None else None
            lag_s = minutes * 60 if minutes is not None and minutes >= 0 else None
            made = _made_at(picture, asset)
            picture.add(Stage(f"asset/{name}", f"asset/{name}", state, lag_s, made, labels={"kind": "asset"}))

    async def _daemons(self, picture: Picture) -> None:
        data = await self._ask(_DAEMONS, {})
        health = as_dict(as_dict(data.get("instance")).get("daemonHealth"))
        for one in picture.items(health.get("allDaemonStatuses"), DaemonStatus, "daemons"):
            if one.required is not False:
                picture.daemons.append(Daemon(one.kind.lower(), one.healthy, _time(picture, one.beat)))

    async def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        left_s = self._until_s - self._clock.monotonic()
        if left_s <= 0:
            raise SourceError(f"{self._client.place}: no time was left for a query")
        answer = await self._client.ask(
            "POST",
            "/graphql",
            timeout_s=min(REQUEST_TIMEOUT_S, left_s),
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode({"query": query, "variables": variables}),
        )
        if answer.status == 400:  # how it answers a query that its schema does not have
            raise _Refused(f"{answer.place} refused the query")
        body = answer.expect().json(dict[str, Any])
        errors = body.get("errors")
        if errors:
            first = as_dict((as_list(errors) or [None])[0])
            raise _Refused(f"{answer.place} answered with errors: {_short(first.get('message'))}")
        if not isinstance(body.get("data"), dict):
            raise SourceError(f"{answer.place}: its answer has no data")
        return as_dict(body["data"])


def _tell_jobs(picture: Picture, options: PipelinesOptions, runs: list[Run], won: list[Run]) -> None:
    """Each job in the state of its newest run. Runs come newest first."""
    success: dict[str, datetime] = {}
    for run in (*won, *runs):
        ended = _time(picture, run.end)
        if run.status == "SUCCESS" and ended is not None:
            success[run.job_name] = max(ended, success.get(run.job_name, ended))
    latest: dict[str, Run] = {}
    for run in (*runs, *won):
        latest.setdefault(run.job_name, run)
    for name, run in latest.items():
        if not name or not options.wants(name):
            continue
        if run.status is not None and run.status not in STATUSES:
            picture.odd(f"stage_state: unknown word {run.status[:64]!r}")
        stage = Stage(f"job/{name}", f"job/{name}", run.status, None, success.get(name))
        stage.labels = {"kind": "job"} | ({"run": run.run_id} if run.run_id else {})
        picture.add(stage)


def _made_at(picture: Picture, asset: Asset) -> datetime | None:
    if not asset.made or asset.made[0].timestamp is None:
        return None
    try:
        return _time(picture, float(asset.made[0].timestamp) / 1000)
    except ValueError:
        picture.odd("assets: a time that is no number")
        return None


def _time(picture: Picture, seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return picture.time(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        picture.odd("a time that is out of range")
        return None


def _short(text: object) -> str:
    return text[:TEXT_MAX_CHARS].replace("\n", " ") if isinstance(text, str) else "no message"
