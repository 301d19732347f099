"""The mlflow driver: runs as experiment trackers, versions of models as model revisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.lane import Lane
from steersman.drivers.mlflow.book import RunBook
from steersman.drivers.mlflow.client import Found, MlflowClient
from steersman.drivers.mlflow.options import MlflowOptions
from steersman.drivers.mlflow.registry import VersionFacts, version_facts
from steersman.drivers.mlflow.runs import RunFacts, run_facts
from steersman.drivers.mlflow.shapes import Experiment, Run, time_of
from steersman.drivers.web.look import Look
from steersman.kinds.entity import EntityKey, EntityType

LOOK_SHARE = 0.9
"""Share of the source's time-out that a look may take, so that what it has is told in time."""
OVERLAP = timedelta(minutes=5)
"""A run's end is stamped by the clock of the machine it ran on: so far behind ours it may be, and is still
found among those that ended since the last look. One that is further behind is asked for by its id."""
CHECKS_MAX = 32
"""Runs that are asked for by id in one look; the rest have their turn in the next ones."""
REGISTRY_LOOKS = 4
"""The registry changes by people's hands: it is read with every so manieth look."""

RUN, REVISION = EntityType.EXPERIMENT_TRACKER, EntityType.MODEL_REVISION
NOT_ENDED = " and ".join(f"attributes.status != '{word}'" for word in ("FINISHED", "FAILED", "KILLED"))
"""MLflow's filters have no "or" and no list of words here; so also a word that is not known is found."""


class MlflowDriver:
    """Observes one MLflow server. See docs/reference/drivers/mlflow.md."""

    name: ClassVar[str] = "mlflow"
    Options: ClassVar[type[Struct]] = MlflowOptions
    default_interval_s: ClassVar[float] = 30.0

    def __init__(self, options: MlflowOptions, context: DriverContext) -> None:
        self._options = options
        self._context = context
        self._lane = Lane(f"{context.source}-answers", f"reading the answers of {options.place}")
        self._client = MlflowClient(options, context)
        self._book = RunBook(float(options.keep_ended), options.runs_max)
        self._looked_at: datetime | None = None
        self._gone: dict[str, None] = {}
        self._told_whole: set[EntityType] = set()
        self._versions: set[str] | None = None
        self._registry_in = 0

    async def observe(self) -> Observation:
        """Read what changed. Raises `SourceError`; a registry that can't be read costs only itself."""
        look = Look(self._context, self._context.timeout_s * LOOK_SHARE, self._options.place, self._lane)
        seen = Observation()
        await self._observe_runs(look, seen)
        if self._options.models:
            try:
                await self._observe_registry(look, seen)
            except SourceError as error:
                look.warnings.append(f"the model registry: {error.detail}")
        seen.warnings += look.warnings
        seen.complete = not seen.warnings
        # From here on nothing waits: what a look that was cut short had found out is told by the next one.
        seen.gone += [EntityKey(RUN, self._context.scope, run_id) for run_id in self._gone]
        self._gone.clear()
        seen.whole = tuple(kind for kind in seen.whole if kind not in self._told_whole)
        self._told_whole.update(seen.whole)
        return seen

    async def close(self) -> None:
        """Close connections and threads. Repeating it does nothing."""
        try:
            await self._client.close()
        finally:
            await self._lane.close()

    # ---- runs

    async def _observe_runs(self, look: Look, seen: Observation) -> None:
        now = self._context.clock.now()
        found = await self._client.experiments(look)
        names = self._chosen(found.items)
        whole = self._whole(look, found, "experiments")
        limit = self._options.runs_max
        since = now - timedelta(seconds=float(self._options.started_within))
        alive = await self._client.runs(
            look, list(names), f"{NOT_ENDED} and attributes.start_time >= {_ms(since)}", limit
        )
        ended = await self._client.runs(look, list(names), _ended_since(self._ended_from(now)), limit)
        whole &= self._whole(look, alive, f"runs that have not ended (runs_max {limit})")
        whole &= self._whole(look, ended, f"runs that ended (runs_max {limit})")
        await self._take(look, [*alive.items, *ended.items], since, now)
        if found.whole:
            self._drop(self._book.elsewhere(names))
        if self._book.has_ended:
            kept_from = now - timedelta(seconds=float(self._options.keep_ended)) - OVERLAP
            deleted = await self._client.runs(look, list(names), _ended_since(kept_from), limit, deleted=True)
            self._drop(run.id for run in deleted.items)
        self._drop(self._book.outlived(now))
        self._looked_at = now  # only now: what was not read to its end is asked for again
        for fact in await self._facts(names, look):
            self._tell(seen, RUN, fact.run_id, now, fact)
        seen.whole += (RUN,) if whole else ()

    async def _take(self, look: Look, listed: Sequence[Run], since: datetime, now: datetime) -> None:
        """Take what was listed, and ask for each run that was alive and is not among it."""
        missing = self._book.vanished({run.id for run in listed})
        self._book.see(listed, now)
        for run in listed:
            self._gone.pop(run.id, None)  # it came back
        for run_id in missing[:CHECKS_MAX]:
            found = await self._client.run(look, run_id)
            if found is None or any(run.deleted or _is_over(run, since) for run in found):
                self._drop([run_id])
            else:
                self._book.see(found, now)
        if len(missing) > CHECKS_MAX:
            look.warnings.append(
                f"{self._client.place}: {len(missing) - CHECKS_MAX} runs are no longer listed; "
                "they are asked for in the next looks"
            )

    def _drop(self, run_ids: Iterable[str]) -> None:
        """Forget runs; those that were known are gone."""
        self._gone.update(dict.fromkeys(self._book.drop(run_ids)))

    def _chosen(self, experiments: Sequence[Experiment]) -> dict[str, str]:
        """Names by id of the experiments that are followed."""
        patterns = self._options.experiments
        return {
            experiment.experiment_id: experiment.name
            for experiment in experiments
            if experiment.experiment_id
            and (not patterns or any(fnmatchcase(experiment.name, pattern) for pattern in patterns))
        }

    def _ended_from(self, now: datetime) -> datetime:
        """From when on ended runs are asked for."""
        kept_from = now - timedelta(seconds=float(self._options.keep_ended))
        return kept_from if self._looked_at is None else max(kept_from, min(self._looked_at, now) - OVERLAP)

    async def _facts(self, names: dict[str, str], look: Look) -> list[RunFacts]:
        runs = [(run, self._book.sign_of_life(run.id)) for run in self._book.runs]

        def read() -> list[RunFacts]:
            return [run_facts(run, sign, names, self._options) for run, sign in runs]

        # Runs may have thousands of metrics each: a thread looks through them.
        return await self._lane.run(read, look.left_s())

    # ---- the registry

    async def _observe_registry(self, look: Look, seen: Observation) -> None:
        if self._registry_in > 0:
            self._registry_in -= 1
            return
        limit = self._options.versions_max
        at = self._context.clock.now()
        models = await self._client.models(look, limit)
        found = await self._client.versions(look, limit)
        whole = self._whole(look, models, f"registered models (versions_max {limit})")
        whole &= self._whole(look, found, f"model versions (versions_max {limit})")
        facts = version_facts(models.items, found.items)
        told = {fact.entity_id for fact in facts}
        for fact in facts:
            self._tell(seen, REVISION, fact.entity_id, at, fact)
        if whole:
            seen.gone += [
                EntityKey(REVISION, self._context.scope, key)
                for key in sorted((self._versions or told) - told)
            ]
            seen.whole += (REVISION,)
            self._versions = told
        self._registry_in = REGISTRY_LOOKS - 1

    # ---- both

    def _whole(self, look: Look, found: Found, what: str) -> bool:
        if not found.whole:
            look.warnings.append(f"{self._client.place} has more {what} than could be read")
        return found.whole

    def _tell(
        self, seen: Observation, kind: EntityType, entity_id: str, at: datetime, fact: RunFacts | VersionFacts
    ) -> None:
        seen.drift += [line for line in fact.drift if line not in seen.drift]
        labels = {**fact.labels, **self._options.labels}
        seen.tell(self._context, self.name, (kind, entity_id), at, fact.fields, labels, fact.clear)


def _is_over(run: Run, since: datetime) -> bool:
    """Whether it began too long ago to be followed on."""
    started_at = time_of(run.info.start_time)
    return not run.ended and started_at is not None and started_at < since


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)


def _ended_since(when: datetime) -> str:
    return f"attributes.end_time >= {_ms(when)}"
