"""The config driver: files, folders and git worktrees of this machine, each kind in a lane of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation, SourceError
from steersman.drivers.config.client import Git
from steersman.drivers.config.folders import FolderHash
from steersman.drivers.config.options import ConfigOptions
from steersman.drivers.config.worktree import worktree_fields
from steersman.drivers.lane import Lane
from steersman.drivers.watch.snapshots import Baselines, FileFacts, FilesPicture, Snapshots, cleared
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import SCOPE_LABEL, FragmentInvalid, StateFragment

SECTION_SHARE = 0.9
"""Share of the source's time-out that a kind gets, so that a picture without it is still in time."""
CONTENT_FIELDS = ("branch", "upstream", "ahead", "behind", "in_progress")
"""What a worktree may have now and not have later."""


class ConfigDriver:
    """Observes configuration on this machine. See docs/reference/drivers/config.md."""

    name: ClassVar[str] = "config"
    Options: ClassVar[type[Struct]] = ConfigOptions
    default_interval_s: ClassVar[float] = 60.0

    def __init__(self, options: ConfigOptions, context: DriverContext) -> None:
        self._options = options
        self._context = context
        self._node = options.node or os.uname().nodename
        key = options.seal_key.reveal().encode() if options.seal_key is not None else None
        self._baselines = Baselines(options.baselines, key)
        self._files = Snapshots(options.files, self._baselines)
        self._folders = [(folder, FolderHash(folder)) for folder in options.folders]
        self._whole_told = False
        self._lanes = {
            "file": Lane(f"{context.source}-files", "a watched file"),
            "folder": Lane(f"{context.source}-folders", "a watched folder"),
            "worktree": Lane(f"{context.source}-worktrees", "a git worktree"),
        }

    async def observe(self) -> Observation:
        """One look at everything. Raises `SourceError` where no kind could be read."""
        now = self._context.clock.now()
        errors: list[SourceError] = []
        pictures: dict[str, FilesPicture] = {}
        wanted: dict[str, Callable[[], FilesPicture]] = {}
        if self._options.files:
            wanted["file"] = lambda: self._files.read(now)
        if self._options.folders:
            wanted["folder"] = lambda: self._read_folders(now)
        if self._options.worktrees:
            until_s = self._context.clock.monotonic() + self._context.timeout_s * SECTION_SHARE
            wanted["worktree"] = lambda: self._read_worktrees(now, until_s)

        async def read(kind: str) -> None:
            timeout_s = self._context.timeout_s * SECTION_SHARE
            try:
                pictures[kind] = await self._lanes[kind].run(wanted[kind], timeout_s)
            except SourceError as error:
                errors.append(error)
            except OSError as error:
                errors.append(
                    SourceError(f"a watched {kind} can't be read: {(error.strerror or '').lower()}")
                )

        async with asyncio.TaskGroup() as kinds:
            for kind in wanted:
                kinds.create_task(read(kind))
        if not pictures:
            raise errors[0]
        seen = Observation(warnings=[error.detail for error in errors])
        for kind, picture in pictures.items():
            seen.warnings += picture.warnings
            for fact in picture.files:
                self._tell(seen, kind, fact, now)
        seen.complete = not seen.warnings
        if seen.complete and not self._whole_told:
            self._whole_told, seen.whole = True, (EntityType.CONFIG_SNAPSHOT,)
        return seen

    async def close(self) -> None:
        """End the lanes. Repeating it does nothing."""
        ends = await asyncio.gather(*(lane.close() for lane in self._lanes.values()), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    # ---- inside a lane

    def _read_folders(self, now: datetime) -> FilesPicture:
        seen = FilesPicture()
        for folder, reader in self._folders:
            fields = self._baselines.judge(reader.read(now), folder.path, folder.baseline, seen.warnings, now)
            seen.files.append(FileFacts(folder.path, folder.name, fields, cleared(fields)))
        self._baselines.save(seen.warnings)
        return seen

    def _read_worktrees(self, now: datetime, until_s: float) -> FilesPicture:
        seen = FilesPicture()
        monotonic = self._context.clock.monotonic
        for tree in self._options.worktrees:
            git = Git(
                self._options.git,
                tree.path,
                trusted=tree.trusted,
                left_s=lambda: max(0.0, until_s - monotonic()),
            )
            read = worktree_fields(git, tree.path, now)
            right = f"git:{tree.commit}" if tree.commit else None
            fields = self._baselines.judge(read, tree.path, right, seen.warnings, now)
            absent = tuple(name for name in CONTENT_FIELDS if fields.get(name) is None)
            seen.files.append(FileFacts(tree.path, tree.name, fields, cleared(fields) + absent))
        self._baselines.save(seen.warnings)
        return seen

    def _tell(self, seen: Observation, kind: str, fact: FileFacts, at: datetime) -> None:
        labels: dict[str, Any] = {"node": self._node, "path": fact.path, "kind": kind}
        if fact.name:
            labels["name"] = fact.name
        labels |= self._options.labels
        if self._context.scope:
            labels[SCOPE_LABEL] = self._context.scope
        try:
            fragment = StateFragment(
                source_type=self.name,
                source=self._context.source,
                entity_type=EntityType.CONFIG_SNAPSHOT,
                entity_id=f"{self._node}:{fact.path}",
                observed_at=at,
                fields={"path": fact.path, **fact.fields},
                labels=labels,
                clear=fact.clear,
            )
        except FragmentInvalid as error:  # a path longer than anything takes: one entity, not the look
            seen.warnings.append(f"{kind} {fact.path[:64]}: {error.detail}")
        else:
            seen.fragments.append(fragment)
