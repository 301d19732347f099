"""Airflow's REST API: v2 (Airflow 3) and v1 (Airflow 2.x), which differ in a path and in names of times.

Read are `monitor/health` (v1: `health`), `dags`, the newest runs of all DAGs, the newest that went well, and
the tasks of each DAG's newest run. All lists are paged and bounded. States are kept in Airflow's words.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.drivers.pipelines.options import PipelinesOptions
from steersman.drivers.pipelines.picture import Daemon, Picture, Stage, as_list
from steersman.drivers.web.client import Answer, WebClient
from steersman.kernel.clock import Clock

PAGE_ITEMS = 100
"""Airflow's own bound for one page (maximum_page_limit)."""
PAGES_MAX = 20
"""Pages of one list: 2,000 DAGs, and as many of their newest runs."""
TASK_RUNS_MAX = 100
"""Runs whose tasks are asked for in one look: a request for each."""
REQUEST_TIMEOUT_S = 10.0
DAEMONS = ("metadatabase", "scheduler", "triggerer", "dag_processor")

STATES = frozenset(
    (
        "queued", "running", "success", "failed", "up_for_retry", "up_for_reschedule",
        "upstream_failed", "skipped", "deferred", "scheduled", "restarting", "removed", "none",
    )
)  # fmt: skip
"""The states of runs and task instances (airflow.utils.state)."""


class Health(Struct, rename={"state": "status"}):
    """What health says of one part."""

    state: str | None = None
    latest_scheduler_heartbeat: datetime | None = None
    latest_triggerer_heartbeat: datetime | None = None
    latest_dag_processor_heartbeat: datetime | None = None


class Dag(Struct):
    """One DAG. The time of its next run has another name in v1."""

    dag_id: str
    is_paused: bool | None = None
    has_import_errors: bool | None = None
    next_dagrun_run_after: datetime | None = None
    next_dagrun_create_after: datetime | None = None

    @property
    def due_at(self) -> datetime | None:
        """When its next run is due."""
        return self.next_dagrun_run_after or self.next_dagrun_create_after


class Run(Struct):
    """One run of a DAG."""

    dag_id: str
    dag_run_id: str
    state: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None


class Task(Struct):
    """One task instance; a mapped task has many."""

    task_id: str
    state: str | None = None
    end_date: datetime | None = None
    try_number: int | None = None
    map_index: int | None = None


class Airflow:
    """Looks at one Airflow."""

    def __init__(self, options: PipelinesOptions, client: WebClient, clock: Clock) -> None:
        self._options = options
        self._client = client
        self._clock = clock
        self._version = ""
        self._until_s = 0.0

    async def look(self, until_s: float) -> Picture:
        """One look, which ends by `until_s` on the monotonic clock. Raises `SourceError`."""
        self._until_s = until_s
        picture = Picture(self._clock.now(), self._client.place)
        await self._health(picture)
        dags = await self._dags(picture)
        runs = await self._runs(picture, "", "-start_date")
        won = await self._runs(picture, "success", "-end_date")
        latest: dict[str, Run] = {}
        for run in runs:
            latest.setdefault(run.dag_id, run)
        success: dict[str, datetime] = {}
        for run in (*won, *runs):
            ended = picture.time(run.end_date)
            if run.state == "success" and ended is not None:
                success[run.dag_id] = max(ended, success.get(run.dag_id, ended))
        for dag in dags:
            picture.add(_stage_of(picture, dag, latest.get(dag.dag_id), success.get(dag.dag_id)))
        if self._options.tasks:
            await self._tasks(picture, [latest[dag.dag_id] for dag in dags if dag.dag_id in latest])
        return picture

    async def _health(self, picture: Picture) -> None:
        answer = await self._get("/api/v2/monitor/health") if self._version != "v1" else None
        if answer is not None and answer.status != 404:
            self._version = "v2"
        else:
            answer = await self._get("/api/v1/health")
            self._version = "v1" if answer.status != 404 else ""
        if answer.status in (404, 405):
            raise SourceError(f"{self._client.place} has neither /api/v2 nor /api/v1: is url its web server?")
        found = answer.expect().json(dict[str, Any])
        for name in DAEMONS:
            if found.get(name) is None:
                continue  # no triggerer runs, or the version has no such part
            for part in picture.items([found[name]], Health, f"health of {name}"):
                beat = getattr(part, f"latest_{name}_heartbeat", None)
                if part.state not in ("healthy", "unhealthy", None):
                    picture.odd(f"health of {name}: unknown word {part.state[:64]!r}")
                up = {"healthy": True, "unhealthy": False}.get(part.state or "")
                if up is not None or beat is not None:
                    picture.daemons.append(Daemon(name, up, picture.time(beat)))

    async def _dags(self, picture: Picture) -> list[Dag]:
        found, whole = await self._pages(picture, "/dags", "dags", {}, must=True)
        warned = len(picture.warnings)
        dags = picture.items(found, Dag, "DAGs")
        if whole and len(picture.warnings) == warned:
            picture.all_pipelines = {dag.dag_id for dag in dags if self._options.wants(dag.dag_id)}
        return [dag for dag in dags if dag.dag_id and self._options.wants(dag.dag_id)]

    async def _runs(self, picture: Picture, state: str, order: str) -> list[Run]:
        params = {"order_by": order} | ({"state": state} if state else {})
        try:
            found, _ = await self._pages(picture, "/dags/~/dagRuns", "dag_runs", params, newest=True)
        except SourceError as error:
            picture.warn(f"runs: {error.detail}")
            return []
        return picture.items(found, Run, "runs")

    async def _tasks(self, picture: Picture, runs: list[Run]) -> None:
        """The tasks of these runs, while there is time."""
        active = sorted(runs, key=lambda run: run.state in ("success",))
        for number, run in enumerate(active[:TASK_RUNS_MAX]):
            if self._clock.monotonic() >= self._until_s:
                picture.warn(f"no time was left for the tasks of {len(active) - number} DAGs")
                return
            path = (
                f"/dags/{quote(run.dag_id, safe='')}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances"
            )
            try:
                found, _ = await self._pages(picture, path, "task_instances", {})
            except SourceError as error:
                picture.warn(f"tasks of {run.dag_id[:64]}: {error.detail}")
                continue
            for task in _joined(picture.items(found, Task, f"tasks of {run.dag_id[:64]}")):
                _check_word(picture, task.state)
                ended = picture.time(task.end_date) if task.state == "success" else None
                more = {"try_number": task.try_number} if task.try_number is not None else {}
                picture.add(
                    Stage(
                        f"{run.dag_id}/{task.task_id}",
                        run.dag_id,
                        task.state or "none",
                        None,
                        ended,
                        more,
                        {"run": run.dag_run_id},
                    )
                )
        if len(active) > TASK_RUNS_MAX:
            picture.warn(f"the tasks of {len(active) - TASK_RUNS_MAX} DAGs were not asked for")

    async def _pages(
        self,
        picture: Picture,
        path: str,
        key: str,
        params: dict[str, str],
        *,
        newest: bool = False,
        must: bool = False,
    ) -> tuple[list[Any], bool]:
        """The items of a list, and whether these are all. Of a list of the `newest` one page will do for each
        hundred DAGs, and that there are older ones is no news."""
        items: list[Any] = []
        pages = max(1, -(-len(picture.all_pipelines or ()) // PAGE_ITEMS)) if newest else PAGES_MAX
        for _ in range(min(pages, PAGES_MAX)):
            asked = {**params, "limit": str(PAGE_ITEMS), "offset": str(len(items))}
            answer = (await self._get(f"/api/{self._version}{path}", asked)).expect()
            body = answer.json(dict[str, Any])
            page = as_list(body.get(key))
            if page is None:
                if must:
                    raise SourceError(f"{answer.place}: its answer has no list under {key!r}")
                picture.warn(f"{key}: expected a list, got {type(body.get(key)).__name__}")
                return items, False
            items += page
            total: Any = body.get("total_entries")
            if not page or (isinstance(total, int) and len(items) >= total) or len(page) < PAGE_ITEMS:
                return items, True
        if not newest:
            picture.warn(f"{key}: more than {PAGES_MAX * PAGE_ITEMS}; the rest is not told")
        return items, False

    async def _get(self, path: str, params: dict[str, str] | None = None) -> Answer:
        left_s = self._until_s - self._clock.monotonic()
        if left_s <= 0:
            raise SourceError(f"{self._client.place}: no time was left for {path.rpartition('/')[2]}")
        return await self._client.get(path, timeout_s=min(REQUEST_TIMEOUT_S, left_s), params=params)


def _stage_of(picture: Picture, dag: Dag, run: Run | None, success: datetime | None) -> Stage:
    """A DAG as a stage: paused by somebody, or in the state of its newest run."""
    _check_word(picture, run.state if run is not None else None)
    last = run.state if run is not None else None
    stage = Stage(dag.dag_id, dag.dag_id, "paused" if dag.is_paused else last, None, success)
    if last is not None:
        stage.more["last_run_state"] = last
    if dag.has_import_errors is not None:
        stage.more["import_errors"] = dag.has_import_errors
    due_at = dag.due_at
    if due_at is not None and due_at.tzinfo is not None and not dag.is_paused:
        stage.lag_seconds = max(0.0, (picture.at - due_at).total_seconds())
    if run is not None:
        stage.labels["run"] = run.dag_run_id
    return stage


def _joined(tasks: list[Task]) -> list[Task]:
    """One for each task: of the instances of a mapped task the one that says most."""
    worst = ("failed", "upstream_failed", "up_for_retry", "running", "queued", "deferred", "scheduled")
    found: dict[str, Task] = {}
    for task in tasks:
        other = found.get(task.task_id)
        rank = worst.index(task.state) if task.state in worst else len(worst)
        if other is None or rank < (worst.index(other.state) if other.state in worst else len(worst)):
            found[task.task_id] = task
    return list(found.values())


def _check_word(picture: Picture, word: str | None) -> None:
    if word is not None and word not in STATES:
        picture.odd(f"stage_state: unknown word {word[:64]!r}")
