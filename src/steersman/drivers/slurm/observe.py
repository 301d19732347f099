"""The slurm driver: a cluster, by slurmrestd or commands, as nodes, jobs, queues, tenants and a scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.slurm.act import SlurmOperations
from steersman.drivers.slurm.changes import Changes
from steersman.drivers.slurm.client import RestCluster
from steersman.drivers.slurm.commands import CommandCluster
from steersman.drivers.slurm.entities import SOURCE_TYPE, Fragments, Translator
from steersman.drivers.slurm.options import API_VERSIONS, SlurmOptions
from steersman.drivers.slurm.picture import Picture
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.kinds.step import StepHandler

LOOK_SHARE = 0.85
"""Share of the source's time-out that asking may take; telling has what is left of it."""
INLINE_MAX = 50
"""Nodes and jobs that are turned into fragments in the loop; more in the cluster's thread."""

_KEPT = (EntityType.NODE, EntityType.JOB, EntityType.QUEUE, EntityType.TENANT_SCOPE)


class SlurmDriver:
    """Observes a Slurm cluster and acts on it. See docs/reference/drivers/slurm.md."""

    name: ClassVar[str] = SOURCE_TYPE
    Options: ClassVar[type[Struct]] = SlurmOptions
    default_interval_s: ClassVar[float] = 30.0

    def __init__(self, options: SlurmOptions, context: DriverContext) -> None:
        self._options = options
        self._context = context
        self._rest = RestCluster(options, context) if options.url else None
        self._commands = CommandCluster(options, context)
        changes = Changes(options, context.clock, self._rest, self._commands)
        self._operations = SlurmOperations(changes, context.clock)
        self._translator = Translator(options, context)
        self._seen: dict[EntityType, dict[EntityKey, frozenset[str]]] = {}

    def operations(self) -> Mapping[str, StepHandler]:
        """What it can do to its cluster; see docs/reference/drivers/slurm.md."""
        return self._operations.handlers()

    @property
    def _cluster(self) -> RestCluster | CommandCluster:
        return self._rest if self._rest is not None and self._options.by_rest else self._commands

    async def observe(self) -> Observation:
        """Look once. Raises `SourceError`."""
        clock, timeout_s = self._context.clock, self._context.timeout_s
        at, begun_s = clock.now(), clock.monotonic()
        cluster = self._cluster
        picture = await cluster.look(timeout_s * LOOK_SHARE)
        if _size(picture) <= INLINE_MAX:
            found = self._translator.fragments(picture, at)
        else:
            left_s = max(0.01, timeout_s - (clock.monotonic() - begun_s))
            found = await cluster.run(lambda: self._translator.fragments(picture, at), left_s)
        return self._judge(picture, found)

    async def close(self) -> None:
        """Close connections and threads. Repeating it does nothing."""
        try:
            if self._rest is not None:
                await self._rest.close()
        finally:
            await self._commands.close()

    def _judge(self, picture: Picture, found: Fragments) -> Observation:
        """What of it is new, gone and no longer so."""
        seen = Observation(warnings=[*picture.warnings, *found.warnings])
        whole = self._whole(picture)
        now: dict[EntityType, dict[EntityKey, frozenset[str]]] = {}
        for fragment in found.told:
            key, names = fragment.key, frozenset(fragment.fields)
            before = self._seen.get(fragment.entity_type, {}).get(key, frozenset())
            now.setdefault(fragment.entity_type, {})[key] = names
            seen.fragments.append(_cleared(fragment, before - names))
        first: list[EntityType] = []
        for entity_type in _KEPT:
            told = now.get(entity_type, {})
            if entity_type not in whole:
                self._seen[entity_type] = {**self._seen.get(entity_type, {}), **told}
                continue
            if entity_type in self._seen:
                seen.gone += [key for key in self._seen[entity_type] if key not in told]
            elif (
                entity_type is not EntityType.TENANT_SCOPE
            ):  # an account without jobs is not told, and not gone
                first.append(entity_type)
            self._seen[entity_type] = told
        seen.whole = tuple(first)
        for listing in (picture.nodes, picture.jobs, picture.partitions, picture.reservations):
            if listing is not None:
                seen.warnings += listing.warnings
                seen.drift += listing.drift
        if isinstance(self._cluster, RestCluster) and self._cluster.newer:
            newer = ", ".join(self._cluster.newer)
            seen.drift.append(f"slurmrestd has {newer}; this driver knows up to {API_VERSIONS[0]}")
        seen.complete = not seen.warnings
        return seen

    def _whole(self, picture: Picture) -> set[EntityType]:
        """Types of which the picture has everything; a list with a record that could not be read has not."""
        whole: set[EntityType] = set()
        jobs = picture.jobs is not None and not picture.jobs.warnings
        partitions = picture.partitions is not None and not picture.partitions.warnings
        if picture.nodes is not None and not picture.nodes.warnings:
            whole.add(EntityType.NODE)
        if jobs:
            whole.add(EntityType.JOB)
        if jobs and partitions:
            whole.update({EntityType.QUEUE, EntityType.TENANT_SCOPE})
        return whole


def _cleared(fragment: StateFragment, names: frozenset[str]) -> StateFragment:
    """The fragment, erasing what was told before and is no more (a drain's reason)."""
    if not names:
        return fragment
    return StateFragment(
        source_type=fragment.source_type,
        entity_type=fragment.entity_type,
        entity_id=fragment.entity_id,
        observed_at=fragment.observed_at,
        fields=fragment.fields,
        labels=fragment.labels,
        source=fragment.source,
        clear=tuple(sorted(names)),
    )


def _size(picture: Picture) -> int:
    return sum(len(listing.items) for listing in (picture.nodes, picture.jobs) if listing is not None)
