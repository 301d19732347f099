"""The fake's memory: objects, one resource version for all of them, and the history of changes.

As in etcd: every change gets the next version, a read may be of any version that the history still reaches
back to, and the history is cut off at its old end. Objects are never changed in place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from steersman.drivers.kubernetes.fake.refusal import Refusal, expired
from steersman.drivers.kubernetes.fake.tree import Object
from steersman.drivers.kubernetes.shapes import ObjectKey

HISTORY_MAX = 50_000
"""Changes that are remembered; the real server keeps those of five minutes."""
FIRST_VERSION = 1000


class Change(Struct, frozen=True):
    """A change of one object: `old` is None where it was made, `new` where it was deleted. `last` is what a
    watch is told: of a deleted object its last state with the version of its deletion."""

    version: int
    plural: str
    key: ObjectKey
    old: Object | None
    new: Object | None
    last: Object


class Backup(Struct, frozen=True):
    """All objects, and the version that they had come to."""

    version: int
    objects: dict[str, dict[ObjectKey, Object]]


class Storage:
    """Objects by kind (its group and plural) and by namespace and name."""

    def __init__(self) -> None:
        self.version = FIRST_VERSION
        self.oldest = FIRST_VERSION
        """A watch or a read may begin at this version or a later one."""
        self.history: deque[Change] = deque()
        self._objects: dict[str, dict[ObjectKey, Object]] = {}
        self._changed = asyncio.Event()

    def get(self, plural: str, key: ObjectKey) -> Object | None:
        """An object as it is."""
        return self._objects.get(plural, {}).get(key)

    def all(self, plural: str) -> Iterator[Object]:
        """All objects of a kind, as they are; they may be written meanwhile."""
        return iter(list(self._objects.get(plural, {}).values()))

    def everything(self) -> list[tuple[str, ObjectKey]]:
        """The kind and key of everything there is."""
        return [(plural, key) for plural, objects in self._objects.items() for key in objects]

    def put(self, plural: str, key: ObjectKey, new: Object) -> Object:
        """Write an object; as it is written, with its new version."""
        self.version += 1
        meta = {**new["metadata"], "resourceVersion": str(self.version)}
        new = {**new, "metadata": meta}
        objects = self._objects.setdefault(plural, {})
        old = objects.get(key)
        objects[key] = new
        self._remember(Change(self.version, plural, key, old, new, new))
        return new

    def delete(self, plural: str, key: ObjectKey) -> Object:
        """Remove an object; its last state with the version of the deletion."""
        old = self._objects[plural].pop(key)
        self.version += 1
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._remember(Change(self.version, plural, key, old, None, last))
        return last

    def snapshot(self, plural: str, version: int) -> dict[ObjectKey, Object]:
        """All objects of a kind as they were at `version`. Raises `Refusal`: 410 where that is too old, 504
        where it is yet to come."""
        if version > self.version:
            raise Refusal(
                "Timeout",
                f"Too large resource version: {version}, current: {self.version}",
                details={
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
                },
                retry_after_s=1,
            )
        if version < self.oldest:
            raise expired(f"The provided resource version {version} is too old ({self.oldest})")
        found = dict(self._objects.get(plural, {}))
        for change in reversed(self.history):
            if change.version <= version:
                break
            if change.plural != plural:
                continue
            if change.old is None:
                found.pop(change.key, None)
            else:
                found[change.key] = change.old
        return found

    def since(self, version: int) -> list[Change]:
        """The changes after `version`. Raises `Refusal` (410) where they are no longer known."""
        if version < self.oldest:
            raise expired(f"too old resource version: {version} ({self.oldest})")
        found: list[Change] = []
        for change in reversed(self.history):
            if change.version <= version:
                break
            found.append(change)
        found.reverse()
        return found

    def expire(self, keep: int = 0) -> None:
        """Forget the history, but the last `keep` changes."""
        while len(self.history) > keep:
            self.oldest = self.history.popleft().version
        if not keep:
            self.oldest = self.version
        self.wake()

    def backup(self) -> Backup:
        """All that is here now."""
        return Backup(self.version, {plural: dict(objects) for plural, objects in self._objects.items()})

    def restore(self, backup: Backup) -> None:
        """Be as a backup was, its version too, as etcd is after a restore. What was written since is lost."""
        self.version = self.oldest = backup.version
        self.history.clear()
        self._objects = {plural: dict(objects) for plural, objects in backup.objects.items()}
        self.wake()

    def pass_versions(self, count: int = 1) -> None:
        """Let versions go by, as changes of kinds that nobody here reads do."""
        self.version += count
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next change, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _remember(self, change: Change) -> None:
        self.history.append(change)
        while len(self.history) > HISTORY_MAX:
            self.oldest = self.history.popleft().version
        self.wake()
