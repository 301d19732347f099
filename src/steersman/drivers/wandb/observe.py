"""The wandb driver: the runs that had a heartbeat lately, or wait for their start, as experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.lane import Lane
from steersman.drivers.wandb.client import WandbClient
from steersman.drivers.wandb.options import WandbOptions
from steersman.drivers.wandb.runs import RunFacts, run_facts
from steersman.drivers.wandb.shapes import ProjectName, Run, time_of
from steersman.drivers.web.look import Look
from steersman.kinds.entity import EntityKey, EntityType

LOOK_SHARE = 0.9
"""Share of the source's time-out that a look may take, so that what it has is told in time."""
PROJECTS_MAX = 100
"""Projects that are followed: each costs two requests with each look."""
PAGES_MAX = 100
"""Pages of one search: a server that goes on naming a next page is not followed for ever."""
ANY: Mapping[str, Any] = {}
WAITING: Mapping[str, Any] = {"state": "pending"}
"""Runs of the launch queue and of sweeps have no heartbeat while they wait."""

RUN = EntityType.EXPERIMENT_TRACKER
_MAGIC = frozenset("*?[")


class _Seen(Struct):
    """What one look gave, by the run's entity id. `whole` is whether that is all there is."""

    facts: dict[str, RunFacts]
    whole: bool = True
    read: int = 0


class WandbDriver:
    """Observes the runs of one entity. See docs/reference/drivers/wandb.md."""

    name: ClassVar[str] = "wandb"
    Options: ClassVar[type[Struct]] = WandbOptions
    default_interval_s: ClassVar[float] = 60.0

    def __init__(self, options: WandbOptions, context: DriverContext) -> None:
        self._options = options
        self._context = context
        self._lane = Lane(f"{context.source}-answers", f"reading the answers of {options.place}")
        self._client = WandbClient(options, context)
        self._entity = options.entity
        self._known: set[str] = set()
        self._whole_told = False

    async def observe(self) -> Observation:
        """Read what lives. Raises `SourceError`; a project that can't be read costs only itself."""
        look = Look(self._context, self._context.timeout_s * LOOK_SHARE, self._options.place, self._lane)
        now = self._context.clock.now()
        if self._entity is None:
            self._entity = await self._client.default_entity(look)
        seen = _Seen({})
        await self._read_projects(look, self._entity, seen, now)
        told = Observation(warnings=look.warnings)
        for entity_id, fact in seen.facts.items():
            self._tell(told, entity_id, now, fact)
        if seen.whole:
            gone = sorted(self._known.difference(seen.facts))
            told.gone += [EntityKey(RUN, self._context.scope, entity_id) for entity_id in gone]
            told.whole = () if self._whole_told else (RUN,)
            self._known, self._whole_told = set(seen.facts), True
        else:
            self._known.update(seen.facts)
        told.complete = not told.warnings
        return told

    async def close(self) -> None:
        """Close connections and the thread. Repeating it does nothing."""
        try:
            await self._client.close()
        finally:
            await self._lane.close()

    # ---- inside

    async def _read_projects(self, look: Look, entity: str, seen: _Seen, now: datetime) -> None:
        projects = await self._projects(look, entity, seen)
        errors: list[SourceError] = []
        for project in projects:
            try:
                await self._read_runs(look, entity, project, seen, now)
            except SourceError as error:
                errors.append(error)
                seen.whole = False
                look.warnings.append(f"project {project!r}: {error.detail}")
        if errors and len(errors) == len(projects):
            raise errors[0]

    async def _projects(self, look: Look, entity: str, seen: _Seen) -> list[str]:
        """The projects that are followed; asked for only where the options do not name them all."""
        wanted = self._options.projects
        if wanted and not any(_MAGIC & set(name) for name in wanted):
            return wanted
        names: list[str] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            page = await self._client.projects(look, entity, cursor)
            found = await look.items(page.nodes, ProjectName, "a project")
            names += [
                project.name
                for project in found
                if project.name and (not wanted or any(fnmatchcase(project.name, p) for p in wanted))
            ]
            cursor = page.cursor
            if not cursor or len(names) > PROJECTS_MAX:
                break
        if cursor or len(names) > PROJECTS_MAX:
            seen.whole = False
            look.warnings.append(
                f"{self._client.place}: more than {PROJECTS_MAX} projects; the rest is not read"
            )
        return names[:PROJECTS_MAX]

    async def _read_runs(self, look: Look, entity: str, project: str, seen: _Seen, now: datetime) -> None:
        """The runs with a heartbeat since `keep_ended`, and those that wait.

        W&B itself calls a run crashed when its heartbeats stop. So those that live are the first ones in the
        order of heartbeats, those that ended lately come next, and what is behind them is old: a page that
        reaches it is the last one that is read.
        """
        since = now - timedelta(seconds=float(self._options.keep_ended))
        for filters in (ANY, WAITING):
            cursor = ""
            for _ in range(PAGES_MAX):
                page = await self._client.runs(look, entity, project, filters, cursor)
                if page is None:
                    seen.whole = False
                    look.warnings.append(
                        f"{self._client.place}: no project {entity}/{project} that this key may see"
                    )
                    return
                runs = await look.items(page.nodes, Run, "a run")
                seen.whole = seen.whole and len(runs) == len(page.nodes)
                old = await self._keep(look, runs, entity, project, seen, since if filters is ANY else None)
                cursor = page.cursor
                if not cursor or old:
                    break
                if seen.read >= self._options.runs_max:
                    break
            else:
                old = False
            if cursor and not old:
                seen.whole = False
                look.warnings.append(
                    f"{self._client.place}: more runs than are read (runs_max {self._options.runs_max})"
                )
                return

    async def _keep(
        self, look: Look, runs: list[Run], entity: str, project: str, seen: _Seen, since: datetime | None
    ) -> bool:
        """Take the runs that count; whether one was older than `since`."""
        old = False
        fresh: list[Run] = []
        for run in runs:
            beat = time_of(run.heartbeat_at) or time_of(run.created_at)
            if since is not None and beat is not None and beat < since:
                old = True
            elif run.name:
                fresh.append(run)
        seen.read += len(fresh)

        def read() -> list[RunFacts]:
            return [run_facts(run, entity, project, self._options) for run in fresh]

        # A summary may have thousands of values: a thread looks through them.
        for fact in await self._lane.run(read, look.left_s()):
            seen.facts[fact.entity_id] = fact
        return old

    def _tell(self, told: Observation, entity_id: str, at: datetime, fact: RunFacts) -> None:
        told.drift += [line for line in fact.drift if line not in told.drift]
        labels = {**fact.labels, **self._options.labels}
        told.tell(self._context, self.name, (RUN, entity_id), at, fact.fields, labels)
