"""The kubernetes driver: reflectors keep the objects between looks, and a look tells what they come to.

A look asks the server for its version first: that is the sign that it lives. What the reflectors hold is then
true as of now where their watch is open, and as of their last contact where it is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.kubernetes.act import KubernetesOperations
from steersman.drivers.kubernetes.bundles import View
from steersman.drivers.kubernetes.client import KubeClient, KubernetesRefused
from steersman.drivers.kubernetes.configmaps import ConfigMap, config_map_fact
from steersman.drivers.kubernetes.fact import Keep
from steersman.drivers.kubernetes.kinds_read import KINDS, MADE_OF, KindRead
from steersman.drivers.kubernetes.options import KubernetesOptions
from steersman.drivers.kubernetes.picture import ClusterPicture, PictureRules
from steersman.drivers.kubernetes.reflector import Reflector
from steersman.drivers.kubernetes.resources import CONFIG_MAPS, Resource
from steersman.drivers.kubernetes.shapes import ObjectKey, Thing
from steersman.drivers.kubernetes.teller import Teller, Voice
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.entity import EntityType
from steersman.kinds.step import StepHandler

ALIVE_SHARE, CHOOSE_SHARE, READY_SHARE = 0.3, 0.15, 0.3
"""Shares of the source's time-out: within which the server must answer for its version; that asking which
versions it has takes, and reading ConfigMaps; that a look waits for kinds that were never read. The rest is
for telling what is known.
"""
SILENT_AFTER_S = 90.0
"""An open watch is believed for so long after its last word: a bookmark comes about once a minute."""
RESUME_S = 10.0
"""A watch that ended, as each does after some minutes, and is being resumed is no silence for so long."""
SHOWN_MAX = 5
"""Objects of a kind that are named because they can't be read."""
CLOCKS_APART_S = 1e-6
SLICE = 200
"""Objects that are worked on before others get their turn: some milliseconds."""
STOP_TIMEOUT_S = 5.0


class _Stream(Struct):
    """A reflector, its kind, and the namespace that it reads ("" for all)."""

    kind: KindRead
    namespace: str
    reflector: Reflector[Any]


class KubernetesDriver:
    """Observes a cluster, and acts on it. See docs/reference/drivers/kubernetes.md."""

    name: ClassVar[str] = "kubernetes"
    Options: ClassVar[type[Struct]] = KubernetesOptions
    default_interval_s: ClassVar[float] = 15.0

    def __init__(self, options: KubernetesOptions, context: DriverContext) -> None:
        self._options = options
        self._context = context
        self._client = KubeClient(options, context.clock)
        self._tasks: Supervisor | None = None
        self._streams: list[_Stream] = []
        self._pending: deque[tuple[str, str, Any | None]] = deque()
        self._picture = ClusterPicture(
            PictureRules(
                keep=Keep(frozenset(options.keep_labels)),
                dedicated=frozenset(options.dedicated_taints),
                gpu_drivers=tuple(options.gpu_drivers),
            )
        )
        voice = Voice(self.name, context.source, context.scope, options.labels)
        self._teller = Teller(voice)
        self._seen_at: dict[str, datetime] = {}
        self._heard_s: dict[str, float] = {}
        self._whole: set[EntityType] = set()
        self._config_maps_told = False
        self._operations = KubernetesOperations(self._client, context.clock)

    def operations(self) -> Mapping[str, StepHandler]:
        """What it can do to its cluster; see docs/reference/drivers/kubernetes.md."""
        return self._operations.handlers()

    async def observe(self) -> Observation:
        """What changed, and what is told again. Raises `SourceError` where the server does not answer, or
        nothing of it could be read yet."""
        timeout_s = self._context.timeout_s
        version = await self._version(timeout_s * ALIVE_SHARE)
        if self._tasks is None:
            await self._begin(timeout_s * CHOOSE_SHARE)
        await self._await_first(timeout_s * READY_SHARE)
        seen = Observation()
        view = self._judge(seen, version)
        self._drain()
        await self._take()
        now = self._context.clock.now()
        await self._read_config_maps(seen, timeout_s * CHOOSE_SHARE)
        await self._step(self._picture.look(now, view))
        telling = self._teller.tell(self._picture, self._seen_at, now, seen)
        await self._step(telling)
        # From here nothing is awaited: what is told is told, or the look was cancelled before.
        self._finish(seen, view)
        self._teller.told(self._picture)
        return seen

    async def close(self) -> None:
        """End the watches and close the connections. Repeating it does nothing."""
        tasks, self._tasks = self._tasks, None
        self._streams = []
        try:
            if tasks is not None:
                await tasks.stop(STOP_TIMEOUT_S)
        finally:
            await self._client.close()

    # ---- a look

    async def _version(self, timeout_s: float) -> str | None:
        try:
            return (await self._client.version(timeout_s=timeout_s)).git_version or None
        except KubernetesRefused as refused:
            if refused.http_status == 403:
                return None  # it answers; its version is not for everybody
            raise

    async def _begin(self, timeout_s: float) -> None:
        """Make a reflector of each kind, and start them."""
        kinds = [KINDS[name] for name in self._options.resources]
        chosen = await asyncio.gather(*(self._chosen(kind, timeout_s) for kind in kinds))
        context = self._context
        tasks = Supervisor(context.clock, context.rng, name=f"{context.source}-reflectors")
        streams: list[_Stream] = []
        for kind, resource in zip(kinds, chosen, strict=True):
            for namespace in (self._options.namespaces or [""]) if kind.namespaced else [""]:
                reflector: Reflector[Thing] = Reflector(
                    self._client,
                    resource,
                    kind.shape,
                    clock=context.clock,
                    rng=context.rng,
                    keep=kind.keep,
                    namespace=namespace,
                    fields=kind.fields,
                    page_limit=self._options.page_size,
                )
                streams.append(_Stream(kind, namespace, reflector))
        # Nothing is awaited between these: a look that is cancelled leaves all of them or none.
        self._tasks, self._streams = tasks, streams
        for stream in streams:
            tasks.start(
                f"reflect {stream.reflector.resource} {stream.namespace}", stream.reflector.run, ALWAYS
            )

    async def _chosen(self, kind: KindRead, timeout_s: float) -> Resource:
        """The version of a kind that the server has; the preferred one where it has none, or does not say."""
        if len(kind.versions) == 1:
            return kind.versions[0]
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._client.first_served(*kind.versions, timeout_s=timeout_s)
        except (SourceError, TimeoutError):
            found = None
        return found or kind.versions[0]

    async def _await_first(self, timeout_s: float) -> None:
        """Wait for kinds that were never read. Raises `SourceError` where none was."""
        waiting = [stream.reflector for stream in self._streams if not stream.reflector.synced]
        if not waiting:
            return
        answers = await asyncio.gather(
            *(reflector.ready(timeout_s) for reflector in waiting), return_exceptions=True
        )
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        for error in errors:
            if not isinstance(error, SourceError):
                raise error
        if errors and len(errors) == len(self._streams):
            raise errors[0]

    def _judge(self, seen: Observation, version: str | None) -> View:
        """Which kinds are known and heard of; when each was last true; what is wrong with them."""
        known: set[str] = set()
        silent: set[str] = set()
        now, monotonic = self._context.clock.now(), self._context.clock.monotonic()
        for kind in self._options.resources:
            streams = [stream for stream in self._streams if stream.kind.name == kind]
            reflectors = [stream.reflector for stream in streams]
            if all(reflector.served is False for reflector in reflectors):
                self._seen_at[kind] = now
                continue  # an extension that is not installed
            if all(reflector.synced for reflector in reflectors):
                known.add(kind)
            oldest = max(_age_s(reflector, monotonic) for reflector in reflectors)
            if kind in known and any(_is_silent(reflector, monotonic) for reflector in reflectors):
                silent.add(kind)
            if oldest != float("inf"):
                self._heard(kind, now, monotonic - oldest)
            for stream in streams:
                self._complain(seen, stream, _is_silent(stream.reflector, monotonic))
        return View(frozenset(known), frozenset(silent), version)

    def _heard(self, kind: str, now: datetime, at_s: float) -> None:
        """When a kind was last true. A moment that was told already keeps its time: the two clocks are not
        read in one, and would else give it another one each time."""
        before_s = self._heard_s.get(kind)
        if before_s is None or at_s - before_s > CLOCKS_APART_S:
            at = now - timedelta(seconds=self._context.clock.monotonic() - at_s)
            self._heard_s[kind] = at_s
            self._seen_at[kind] = max(at, self._seen_at.get(kind, at))

    def _complain(self, seen: Observation, stream: _Stream, silent: bool) -> None:
        reflector = stream.reflector
        where = f"{stream.kind.name}{f' of {stream.namespace}' if stream.namespace else ''}"
        if silent:
            said = "not heard of any more" if reflector.synced else "not read yet"
            why = reflector.failure.detail if reflector.failure is not None else said
            seen.warnings.append(f"{where}: {why}")
            seen.complete = False
        if not reflector.complete:
            seen.complete = False
            if reflector.left_out:
                seen.warnings.append(f"{where}: {reflector.left_out} objects are more than can be held")
            for key, one in list(reflector.unreadable.items())[:SHOWN_MAX]:
                seen.warnings.append(f"{where}: {'/'.join(part for part in key if part)}: {one.why}")

    def _drain(self) -> None:
        """Queue what the reflectors have seen; a look that is cancelled leaves the queue to the next one."""
        for stream in self._streams:
            kind = stream.kind.name
            changes = stream.reflector.changes()
            if changes.whole:
                present = {_path(held.key) for held in changes.changed}
                for path in self._picture.paths(kind):
                    mine = not stream.namespace or path.partition("/")[0] == stream.namespace
                    if mine and path not in present:
                        self._pending.append((kind, path, None))
            for held in changes.gone:
                self._pending.append((kind, _path(held.key), None))
            for held in changes.changed:
                self._pending.append((kind, _path(held.key), held.value))

    async def _take(self) -> None:
        count = 0
        while self._pending:
            self._picture.apply(*self._pending[0])
            self._pending.popleft()
            count += 1
            if count % SLICE == 0:
                await self._context.clock.sleep(0)

    async def _step(self, steps: Iterator[None]) -> None:
        for count, _ in enumerate(steps, 1):
            if count % SLICE == 0:
                await self._context.clock.sleep(0)

    async def _read_config_maps(self, seen: Observation, timeout_s: float) -> None:
        """Each is asked for by name: its content is hashed as it comes and never held."""
        await asyncio.gather(
            *(self._read_config_map(seen, path, timeout_s) for path in self._options.config_maps)
        )

    async def _read_config_map(self, seen: Observation, path: str, timeout_s: float) -> None:
        namespace, _, name = path.partition("/")
        item: ConfigMap | None = None
        try:
            item = await self._client.get(
                CONFIG_MAPS, name, ConfigMap, namespace=namespace, timeout_s=timeout_s
            )
        except SourceError as error:
            if not (isinstance(error, KubernetesRefused) and error.not_found):
                seen.complete = False
                seen.warnings.append(f"configmap {path}: {error.detail}")
                return
        self._picture.put_fact(config_map_fact(path, item), f"configmaps/{path}")
        self._seen_at[f"configmaps/{path}"] = self._context.clock.now()

    def _finish(self, seen: Observation, view: View) -> None:
        """What else is to be said of the look."""
        seen.drift += self._picture.drift
        for pool in self._picture.incomplete:
            seen.complete = False
            seen.warnings.append(
                f"pool {pool} of devices is being written anew; its devices are as they were"
            )
        for kind, made_of in MADE_OF.items():
            if kind not in self._whole and self._is_whole(made_of, view):
                self._whole.add(kind)
                seen.whole = (*seen.whole, kind)

    def _is_whole(self, made_of: tuple[str, ...], view: View) -> bool:
        """Whether everything is known that entities of a type are made of, and some of it is read."""
        streams = [stream for stream in self._streams if stream.kind.name in made_of]
        if "resourceslices" in made_of and self._picture.incomplete:
            return False
        absent = {stream.kind.name for stream in streams if stream.reflector.served is False}
        return bool(streams) and all(
            stream.kind.name in absent or (stream.kind.name in view.known and stream.reflector.complete)
            for stream in streams
        )


def _path(key: ObjectKey) -> str:
    namespace, name = key
    return f"{namespace}/{name}" if namespace else name


def _age_s(reflector: Reflector[Any], monotonic: float) -> float:
    """How old what it holds may be; 0 where its watch is open and spoke lately; infinite where nothing is."""
    if reflector.last_contact_s is None or not reflector.synced:
        return float("inf")
    age_s = max(0.0, monotonic - reflector.last_contact_s)
    return 0.0 if reflector.following and age_s <= SILENT_AFTER_S else age_s


def _is_silent(reflector: Reflector[Any], monotonic: float) -> bool:
    """Whether nothing is known now of its kind, beyond the moment that resuming a watch takes."""
    age_s = _age_s(reflector, monotonic)
    return age_s > RESUME_S or (age_s > 0.0 and reflector.failure is not None)
