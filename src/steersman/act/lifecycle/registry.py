"""The lifecycle tables of one installation: which are in force, which were, and how resources come over.

A table is known by `name@version`, and what a version says never changes: the store keeps each with the
digest of its content, and another content under the same version is refused. One version of each name is in
force; a resource whose `lifecycle_table` is the bare name follows it, one that names a version stays there.

A new version that no longer has a state in which resources are must say where they go (`migrate`), or the
version before it stays in force. The move is made through the Ledger, one resource at a time; where it was
cut off, opening the registry again goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from steersman.act.lifecycle.lint import Finding
from steersman.act.lifecycle.loading import (
    Loaded,
    Refusal,
    check_phases,
    found_files,
    load_file,
    prepared,
    shipped,
)
from steersman.kernel.errors import Refused, SteersmanError
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.command import Actor, Terms
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.machine import Machine
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.plane_resources import FREEZE_LIFECYCLE, POLICY_LIFECYCLE
from steersman.kinds.policy import RECOMMENDATION_LIFECYCLE
from steersman.kinds.refusal import UnknownLifecycle
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.store.api import PAGE_MAX, Check, Put, Store

LIFECYCLES = "lifecycles/"
"""Prefix of its keys: `lifecycles/<name>@<version>`; `lifecycles/<name>` names the one in force."""
VERSIONS_MAX = 10_000
"""Versions kept in a store."""
PAGE = 500
IMPORTER = Actor("lifecycles", ("importer",))
"""Who moves resources from one version to the next."""
PLANE_TABLES = (RECOMMENDATION_LIFECYCLE, POLICY_LIFECYCLE, FREEZE_LIFECYCLE)
"""Tables of the plane's own resources; no file replaces them."""


class LifecycleChanged(Refused):
    """A version is known with another content. `facts`: `lifecycle`, `file`, `known`, `given` (digests)."""

    code = "lifecycle_changed"
    title = "Lifecycle version says something else now"


class MigrationMissing(Refused):
    """A new version has no place for resources that are there. `facts`: `lifecycle`, `states` (state → how
    many resources are in it), `in_force`."""

    code = "migration_missing"
    title = "Migration missing"


class Page(Protocol):
    """Some resources, and where to go on."""

    @property
    def items(self) -> Iterable[ResourceState]:
        """The resources."""
        ...

    @property
    def after(self) -> str | None:
        """Pass it on for the next page; None is the end."""
        ...


class Resources(Protocol):
    """What the registry needs of the Ledger."""

    async def list(self, kind: str | None = None, *, limit: int = 100, after: str | None = None) -> Page:
        """Some resources, in order."""
        ...

    async def migrate(
        self, ref: ResourceRef, actor: Actor, table: str, to: str = "", *, terms: Terms = ...
    ) -> Any:
        """Put a resource on another table, in a state of it."""
        ...


class LifecycleInfo(Struct, frozen=True, kw_only=True):
    """A table, in short. `in_force`: the version that its bare name stands for."""

    name: str
    version: str
    digest: str
    place: str
    in_force: bool
    findings: tuple[Finding, ...] = ()


class LoadReport(Struct, frozen=True):
    """What opening came to: tables in force as `name@version`, files left out, resources moved."""

    loaded: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    migrated: int = 0


class _Kept(Struct, frozen=True):
    """A version in the store."""

    digest: str
    place: str
    lifecycle: dict[str, Any]


class _InForce(Struct, frozen=True):
    version: str
    states: list[str] = field(default_factory=list[str])


class Lifecycles:
    """The registry. Before `open` it knows the shipped tables and the plane's own.

    `machine` is a dictionary access and may be called from anywhere; `open` is awaited by one task.
    `check` is asked of each phase in a file and raises what its engine has against it.
    """

    def __init__(self, store: Store, check: Callable[[LifecyclePhase], None] | None = None) -> None:
        self._store = store
        self._check = check
        self._plane = {table.name: prepared(table, place="plane") for table in PLANE_TABLES}
        self._versions: dict[str, Loaded] = {}
        self._current: dict[str, Loaded] = {}
        self._refused: tuple[Refusal, ...] = ()
        self._shipped = shipped()
        for loaded in (*self._plane.values(), *self._shipped):
            self._put_in_force(loaded)

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Files that the last `open` left out."""
        return self._refused

    def machine(self, table: str) -> Machine:
        """The machine of `name` (the version in force) or `name@version`. Raises `UnknownLifecycle`."""
        return self.loaded(table).machine

    def loaded(self, table: str) -> Loaded:
        """The same, with its findings, digest and place. Raises `UnknownLifecycle`."""
        found = self._current.get(table) or self._versions.get(table)
        if found is None:
            known = sorted(self._current)
            hint = did_you_mean(table, (*known, *self._versions)) or f"; there are {', '.join(known)}"
            raise UnknownLifecycle(
                f"no lifecycle {table[:128]!r}{hint}", lifecycle=table[:128], lifecycles=known
            )
        return found

    def list(self) -> list[LifecycleInfo]:
        """Every version that is known, by name and version."""
        return [self._info(self._versions[key]) for key in sorted(self._versions)]

    def findings(self, table: str) -> tuple[Finding, ...]:
        """What the linter found in it. Raises `UnknownLifecycle`."""
        return self.loaded(table).findings

    async def open(self, paths: Iterable[Path], resources: Resources) -> LoadReport:
        """Read the store's versions and the files, put in force what may be, and move resources over.

        A bad file stops no other. Raises `StoreUnavailable`, and what the Ledger raises.
        """
        in_force = await self._read_store()
        candidates, refused = self._candidates(paths)
        counts = await self._count(resources)
        for loaded in candidates:
            try:
                await self._adopt(loaded, counts.get(loaded.lifecycle.name, {}), in_force)
            except SteersmanError as error:
                if not isinstance(error, (LifecycleChanged, MigrationMissing)):
                    raise
                refused.append(Refusal(loaded.place, error))
        self._refused = tuple(refused)
        moved = await self._migrate(resources)
        return LoadReport(
            tuple(sorted(loaded.machine.name for loaded in self._current.values())), self._refused, moved
        )

    # ---- reading

    async def _read_store(self) -> dict[str, str]:
        """Take in the versions kept; the name → version that was in force."""
        in_force: dict[str, str] = {}
        after: str | None = None
        while True:
            page = await self._store.list(LIFECYCLES, PAGE_MAX, after)
            for record in page.records:
                if "@" not in record.key:
                    name = msgspec.json.decode(record.value, type=_InForce)
                    in_force[record.key] = name.version
                    continue
                kept = msgspec.json.decode(record.value, type=_Kept)
                known = prepared(Lifecycle.from_dict(kept.lifecycle), place=kept.place)
                self._versions[known.machine.name] = known
            after = page.after
            if after is None or len(self._versions) > VERSIONS_MAX:
                break
        for loaded in list(self._versions.values()):
            if in_force.get(_current_key(loaded.lifecycle.name)) == loaded.lifecycle.version:
                self._current[loaded.lifecycle.name] = loaded
        return in_force

    def _candidates(self, paths: Iterable[Path]) -> tuple[list[Loaded], list[Refusal]]:
        """The tables of the files, and the shipped ones whose names no file takes; what was left out."""
        files, refused = found_files(paths)
        by_name: dict[str, Loaded] = {}
        for file in files:
            try:
                loaded = load_file(file)
                name = loaded.lifecycle.name
                if name in self._plane:
                    raise LifecycleChanged(
                        f"{file}: lifecycle {name} is the plane's own; take another name", lifecycle=name
                    )
                if name in by_name:
                    raise LifecycleChanged(
                        f"{file}: lifecycle {name} is in {by_name[name].place} too; one file has each name",
                        lifecycle=name,
                    )
                if self._check is not None:
                    check_phases(loaded, self._check)
                by_name[name] = loaded
            except SteersmanError as error:
                refused.append(Refusal(str(file), error))
        ours = [loaded for loaded in self._shipped if loaded.lifecycle.name not in by_name]
        return [*ours, *by_name.values()], refused

    async def _count(self, resources: Resources) -> dict[str, dict[str, int]]:
        """How many resources follow each table, by state."""
        counts: dict[str, dict[str, int]] = {}
        async for state in _each(resources):
            by_state = counts.setdefault(state.lifecycle_table, {})
            by_state[state.status] = by_state.get(state.status, 0) + 1
        return counts

    # ---- putting in force

    async def _adopt(self, loaded: Loaded, counts: Mapping[str, int], in_force: Mapping[str, str]) -> None:
        """Put a version in force, or raise why not."""
        lifecycle, name = loaded.lifecycle, loaded.machine.name
        key = _version_key(lifecycle)
        record = await self._store.get(key)
        if record is not None:
            kept = msgspec.json.decode(record.value, type=_Kept)
            if kept.digest != loaded.digest:
                raise LifecycleChanged(
                    f"{loaded.place}: {name} is known with another content (from {kept.place}); a change"
                    " needs a new version",
                    lifecycle=name,
                    file=loaded.place,
                    known=kept.digest,
                    given=loaded.digest,
                )
        homeless = {state: count for state, count in counts.items() if _new_home(lifecycle, state) is None}
        if homeless:
            before = in_force.get(_current_key(lifecycle.name), "")
            words = ", ".join(f"{count} in {state}" for state, count in sorted(homeless.items()))
            raise MigrationMissing(
                f"{loaded.place}: {name} has no place for resources that are there ({words}); say where they"
                f" go, as migrate: {{{min(homeless)}: ...}}; {before or 'nothing'} stays in force",
                lifecycle=name,
                states=homeless,
                in_force=before,
            )
        writes = [Put(_current_key(lifecycle.name), msgspec.json.encode(_InForce(lifecycle.version)))]
        checks: list[Check] = []
        if record is None:
            body = _Kept(loaded.digest, loaded.place, msgspec.to_builtins(lifecycle))
            writes.append(Put(key, msgspec.json.encode(body)))
            checks.append(Check(key, 0))
        if record is None or in_force.get(_current_key(lifecycle.name)) != lifecycle.version:
            await self._store.commit(checks, writes)
        self._put_in_force(loaded)

    def _put_in_force(self, loaded: Loaded) -> None:
        self._versions[loaded.machine.name] = loaded
        self._current[loaded.lifecycle.name] = loaded

    async def _migrate(self, resources: Resources) -> int:
        """Move each resource whose state its table no longer has. Doing it again does nothing."""
        moved = 0
        async for state in _each(resources):
            current = self._current.get(state.lifecycle_table)
            if current is None or state.status in current.lifecycle.state_names():
                continue
            target = _new_home(current.lifecycle, state.status)
            if target is not None:
                terms = Terms(reason=f"{current.machine.name} has no state {state.status}")
                ref = ResourceRef(state.resource_type, state.id)
                await resources.migrate(ref, IMPORTER, state.lifecycle_table, target, terms=terms)
                moved += 1
        return moved

    def _info(self, loaded: Loaded) -> LifecycleInfo:
        lifecycle = loaded.lifecycle
        return LifecycleInfo(
            name=lifecycle.name,
            version=lifecycle.version,
            digest=loaded.digest,
            place=loaded.place,
            in_force=self._current.get(lifecycle.name) is loaded,
            findings=loaded.findings,
        )

    def __iter__(self) -> Iterator[LifecycleInfo]:
        return iter(self.list())


async def _each(resources: Resources):
    """Every resource, page by page."""
    after: str | None = None
    while True:
        page = await resources.list(None, limit=PAGE, after=after)
        for state in page.items:
            yield state
        after = page.after
        if after is None:
            return


def _new_home(lifecycle: Lifecycle, state: str) -> str | None:
    """The state that a resource in `state` has in this version; None where it has none."""
    if state in lifecycle.state_names():
        return state
    return lifecycle.migrate.get(state)


def _version_key(lifecycle: Lifecycle) -> str:
    return f"{LIFECYCLES}{quote(lifecycle.name, safe='')}@{quote(lifecycle.version, safe='')}"


def _current_key(name: str) -> str:
    return f"{LIFECYCLES}{quote(name, safe='')}"
