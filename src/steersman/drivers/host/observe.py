"""The host driver: this machine as a node, its GPUs, chosen processes, endpoints and files.

Its sections run side by side: blocking ones each in a lane of its own, probes on the loop, all within the
source's time-out. A section that fails is a warning and an incomplete picture; only where every section
failed is the source down.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.host.gpu import GpuMemory, GpuPicture, without_nvml
from steersman.drivers.host.jobs import JobPicture, JobTracker
from steersman.drivers.host.machine import LocalMachine, Machine
from steersman.drivers.host.node import Rates, node_fields
from steersman.drivers.host.nvml import Nvml, NvmlFailed, NvmlMissing, NvmlReading
from steersman.drivers.host.options import HostOptions
from steersman.drivers.host.presence import Presence, look_for_accelerators
from steersman.drivers.host.probe import EndpointFacts, Prober, Probes
from steersman.drivers.host.processes import Processes, ProcessTable
from steersman.drivers.host.readings import MachineReading
from steersman.drivers.lane import Lane
from steersman.drivers.watch.snapshots import Baselines, FilesPicture, Snapshots
from steersman.kinds.entity import EntityKey, EntityType

T = TypeVar("T")

SECTION_SHARE = 0.9
"""Share of the source's time-out that a section gets, so that a picture without it is still in time."""


NVML_CLOSE_TIMEOUT_S = 0.5
"""How long releasing NVML may take."""

FIRST_SPAN_S = 0.3
"""Time between the two readings of the first look. On one CPU it is a little more than `MIN_CPU_WINDOW_S`
asks for, and the first picture is there within half a second of its start."""
FIRST_SHARE = 0.5
"""Share of a section's time within which its second reading must begin; where the first was too slow for
that, the rates come with the second look."""


class HostParts(Struct, frozen=True):
    """The seams to the real machine; None means the real thing. Tests and trials pass the fakes.

    `root` is where the kernel's trees (/proc, /sys, /dev) are looked for.
    """

    machine: Machine | None = None
    nvml: Nvml | None = None
    prober: Prober | None = None
    root: Path = Path("/")


class HostDriver:
    """Observes the machine that Steersman runs on. See docs/reference/drivers/host.md."""

    name: ClassVar[str] = "host"
    Options: ClassVar[type[Struct]] = HostOptions
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self, options: HostOptions, context: DriverContext, parts: HostParts | None = None) -> None:
        parts = parts or HostParts()
        self._options = options
        self._context = context
        self._root = parts.root
        self._machine: Machine = parts.machine or LocalMachine(parts.root / "proc", parts.root / "sys")
        self._nvml = parts.nvml or Nvml()
        self._rates = Rates()
        self._gpus = GpuMemory()
        self._processes = Processes(options.jobs, parts.root / "proc")
        self._tracker: JobTracker | None = None
        self._table_before: ProcessTable | None = None
        self._jobs_whole = False
        self._snapshots = Snapshots(options.files, Baselines(options.baselines))
        self._prober = parts.prober
        self._probes: Probes | None = None
        self._node = options.node or os.uname().nodename
        self._booted_at: datetime | None = None
        self._lanes = {
            section: Lane(f"{context.source}-{section}", place)
            for section, place in (
                ("machine", "this machine"),
                ("gpus", "NVML"),
                ("jobs", "the process table"),
                ("files", "a watched file"),
            )
        }

    async def observe(self) -> Observation:
        """One look at everything. Raises `SourceError` where nothing at all could be read."""
        at = self._context.clock.now()
        errors: list[SourceError] = []
        async with asyncio.TaskGroup() as sections:
            reading = sections.create_task(self._section(errors, True, self._read_machine))
            nvml = sections.create_task(self._section(errors, self._options.gpus, self._read_gpus))
            chosen = sections.create_task(
                self._section(errors, bool(self._options.jobs), self._read_processes)
            )
            probed = sections.create_task(
                self._section(errors, bool(self._options.endpoints), self._read_endpoints)
            )
            watched = sections.create_task(self._section(errors, bool(self._options.files), self._read_files))
        machine, gpus, table = reading.result(), nvml.result(), chosen.result()
        endpoints, files = probed.result(), watched.result()
        if errors and machine is gpus is table is endpoints is files is None:
            raise errors[0]
        seen = Observation(complete=not errors, warnings=[error.detail for error in errors])
        if machine is not None:
            self._node = self._options.node or machine.hostname
            self._booted_at = machine.booted_at
        jobs = self._job_picture(table)
        picture = self._gpu_picture(gpus, jobs)
        if machine is not None:
            self._tell_node(seen, at, machine, picture)
        if picture is not None:
            self._tell_gpus(seen, at, picture)
        if jobs is not None:
            self._tell_jobs(seen, at, jobs, picture)
        if not self._jobs_whole and (not self._options.jobs or (jobs is not None and not jobs.warnings)):
            # Jobs that ended, or were taken out of the configuration, while nobody was here to see it.
            self._jobs_whole, seen.whole = True, (EntityType.JOB,)
        for endpoint in endpoints or []:
            self._tell(
                seen, EntityType.SERVICE, endpoint.endpoint.name, endpoint.observed_at, endpoint.fields
            )
        if files is not None:
            self._tell_files(seen, at, files)
        return seen

    async def close(self) -> None:
        """End probes, lanes and NVML. Repeating it does nothing."""
        try:
            if self._probes is not None:
                await self._probes.close()
            await self._close_nvml()
        finally:
            ends = await asyncio.gather(
                *(lane.close() for lane in self._lanes.values()), return_exceptions=True
            )
        for end in ends:
            if end is not None:
                raise end  # a thread that hangs; the others have ended

    async def _close_nvml(self) -> None:
        if not self._lanes["gpus"].started:
            return
        try:
            await self._lanes["gpus"].run(self._nvml.close, NVML_CLOSE_TIMEOUT_S)
        except SourceError:
            pass  # a wedged GPU; closing its lane says so

    async def _section(
        self, errors: list[SourceError], wanted: bool, read: Callable[[], Awaitable[T]]
    ) -> T | None:
        if not wanted:
            return None
        try:
            return await read()
        except SourceError as error:
            errors.append(error)
            return None

    @property
    def _section_s(self) -> float:
        return self._context.timeout_s * SECTION_SHARE

    async def _in_lane(
        self, section: str, what: str, read: Callable[[], T], timeout_s: float | None = None
    ) -> T:
        try:
            return await self._lanes[section].run(read, timeout_s or self._section_s)
        except OSError as error:
            raise SourceError(f"{what} can't be read: {(error.strerror or 'error').lower()}") from error
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            # An answer that makes no sense is named by kind alone: its text may hold what a file held.
            raise SourceError(f"{what} gave an answer that makes no sense: {type(error).__name__}") from None

    async def _read_twice(
        self, section: str, what: str, read: Callable[[], T], keep: Callable[[T], None]
    ) -> T:
        """The first look: read, hand that to `keep`, wait a moment, read again. Rates need two readings, and
        the first picture that anybody sees should have them."""
        clock = self._context.clock
        began_s = clock.monotonic()
        first = await self._in_lane(section, what, read)
        if clock.monotonic() - began_s + FIRST_SPAN_S > self._section_s * FIRST_SHARE:
            return first
        keep(first)
        await clock.sleep(FIRST_SPAN_S)
        return await self._in_lane(section, what, read, self._section_s - (clock.monotonic() - began_s))

    async def _read_machine(self) -> MachineReading:
        if self._rates.begun:
            return await self._in_lane("machine", "this machine", self._machine.read)
        return await self._read_twice("machine", "this machine", self._machine.read, self._rates.begin)

    async def _read_gpus(self) -> tuple[NvmlReading | None, Presence]:
        def read() -> tuple[NvmlReading | None, Presence]:
            presence = look_for_accelerators(self._root)
            try:
                return self._nvml.read(), presence
            except NvmlMissing:
                return None, presence

        try:
            return await self._in_lane("gpus", "NVML", read)
        except NvmlFailed as error:
            raise SourceError(str(error)) from error

    async def _read_processes(self) -> ProcessTable:
        def read() -> ProcessTable:
            return self._processes.read(self._context.clock.now().timestamp())

        def keep(table: ProcessTable) -> None:
            self._table_before = table

        if self._tracker is not None:
            return await self._in_lane("jobs", "the process table", read)
        return await self._read_twice("jobs", "the process table", read, keep)

    async def _read_endpoints(self) -> list[EndpointFacts]:
        if self._probes is None:
            self._probes = Probes(
                self._options.endpoints,
                self._prober or _http_prober(self._context.clock.monotonic),
                self._context.clock,
                self._context.rng,
                f"{self._context.source}-probes",
            )
        return await self._probes.collect(min(PATIENCE_S, self._context.timeout_s * SECTION_SHARE))

    async def _read_files(self) -> FilesPicture:
        now = self._context.clock.now()
        return await self._in_lane("files", "watched files", lambda: self._snapshots.read(now))

    def _job_picture(self, table: ProcessTable | None) -> JobPicture | None:
        if table is None:
            return None
        if self._tracker is None:
            self._tracker = JobTracker(self._options.jobs, self._node)
            if self._table_before is not None:
                self._tracker.begin(self._table_before)
                self._table_before = None
        return self._tracker.picture(table, self._booted_at)

    def _gpu_picture(
        self, read: tuple[NvmlReading | None, Presence] | None, jobs: JobPicture | None
    ) -> GpuPicture | None:
        if read is None:
            return None
        reading, presence = read
        if reading is None:
            return without_nvml(presence)
        return self._gpus.picture(reading, presence, jobs.by_pid if jobs is not None else None)

    def _tell_node(
        self, seen: Observation, at: datetime, machine: MachineReading, gpus: GpuPicture | None
    ) -> None:
        self._note(seen, machine.warnings)
        labels = {"hostname": machine.hostname}
        if machine.arch:
            labels["arch"] = machine.arch
        fields = node_fields(machine, self._rates, gpus.count if gpus is not None else None)
        self._tell(seen, EntityType.NODE, self._node, at, fields, labels)

    def _tell_gpus(self, seen: Observation, at: datetime, picture: GpuPicture) -> None:
        self._note(seen, picture.warnings)
        seen.drift.extend(picture.drift)
        seen.gone.extend(EntityKey(EntityType.GPU, self._context.scope, gone) for gone in picture.gone)
        for gpu in picture.gpus:
            labels = {**gpu.labels, "node": self._node}
            fields = {**gpu.fields, "node": self._node}
            self._tell(seen, EntityType.GPU, gpu.entity_id, at, fields, labels, gpu.clear)

    def _tell_jobs(self, seen: Observation, at: datetime, jobs: JobPicture, gpus: GpuPicture | None) -> None:
        self._note(seen, jobs.warnings)
        for job in jobs.jobs:
            fields = (
                job.fields
                if gpus is None or gpus.count is None
                else {**job.fields, **gpus.of_job(job.entity_id)}
            )
            self._tell(seen, EntityType.JOB, job.entity_id, at, fields, job.labels, job.clear)
        seen.gone.extend(EntityKey(EntityType.JOB, self._context.scope, gone) for gone in jobs.gone)

    def _tell_files(self, seen: Observation, at: datetime, picture: FilesPicture) -> None:
        self._note(seen, picture.warnings)
        for file in picture.files:
            labels = {"node": self._node, "path": file.path}
            if file.name:
                labels["name"] = file.name
            entity_id = f"{self._node}:{file.path}"
            fields = {"path": file.path, **file.fields}
            self._tell(seen, EntityType.CONFIG_SNAPSHOT, entity_id, at, fields, labels, file.clear)

    def _tell(
        self,
        seen: Observation,
        entity_type: EntityType,
        entity_id: str,
        at: datetime,
        fields: dict[str, Any],
        labels: dict[str, str] | None = None,
        clear: tuple[str, ...] = (),
    ) -> None:
        labels = {**(labels or {}), **self._options.labels}
        seen.tell(self._context, self.name, (entity_type, entity_id), at, fields, labels, clear)

    @staticmethod
    def _note(seen: Observation, warnings: list[str]) -> None:
        """A warning says that something is missing: the picture is not complete."""
        seen.warnings.extend(warnings)
        seen.complete = seen.complete and not warnings


PATIENCE_S = 1.0
"""How long one call waits for probes; a slower one is told by the call after it ends."""


def _http_prober(monotonic: Callable[[], float]) -> Prober:
    # aiohttp takes a third of a second to import; a host without endpoints never pays for it.
    from steersman.drivers.host.client import ProbeClient

    return ProbeClient(monotonic)
