"""What a reflector holds, and what of it has changed since somebody looked.

Changes are kept by object, not by event: an object that changed a hundred times between two looks is told
once, as it is. So what waits is never more than the picture and those that left it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from steersman.drivers.kubernetes.shapes import Meta, ObjectKey

UNREADABLE_MAX = 1_000
"""Objects whose trouble is kept by name; more are counted as left out."""


class Held(Struct, frozen=True, gc=False):
    """An object that is held. `uid` tells one incarnation of a name from the next; `value` is what `keep`
    made of it."""

    key: ObjectKey
    uid: str
    value: Any


class Unreadable(Struct, frozen=True):
    """An object that could not be read, and why: never a value out of it."""

    uid: str
    why: str


class Changes(Struct, frozen=True):
    """What changed.

    - `changed`: new and changed objects, as they are now.
    - `gone`: objects that are no more (or of no interest any more), as they last were. A name that was taken
      anew is in both, with two uids.
    - `whole`: `changed` is everything there is; what is not in it is gone. So with the first look, and
      after more had gone than was kept.
    """

    changed: list[Held]
    gone: list[Held]
    whole: bool

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone or self.whole)


class Picture:
    """The objects of one kind. `objects_max` bounds them, and what waits to be drained."""

    def __init__(self, objects_max: int) -> None:
        self.objects_max = objects_max
        self.objects: dict[ObjectKey, Held] = {}
        self.unreadable: dict[ObjectKey, Unreadable] = {}
        self.left_out = 0
        self._known = False
        self._dirty: dict[ObjectKey, None] = {}
        self._gone: dict[tuple[ObjectKey, str], Held] = {}
        self._told: dict[ObjectKey, str] = {}
        self._whole = True

    def replace(self, items: Iterable[tuple[Meta, Any, str]], *, over: int = 0) -> None:
        """Everything there is: who it is, what is held of it (None: nothing), why it could not be read.
        `over` more did not fit."""
        self.left_out = over
        self.unreadable = {}
        fresh: set[ObjectKey] = set()
        for meta, value, trouble in items:
            fresh.add(meta.key)
            self.put(meta, value, trouble, room=self.objects_max + len(self.objects))
        for key in [key for key in self.objects if key not in fresh]:
            self._drop(key)
        for key in list(self.objects)[self.objects_max :]:
            self._drop(key)
            self.left_out += 1
        self._known = True

    def put(self, meta: Meta, value: Any, trouble: str = "", *, room: int | None = None) -> None:
        """An object as it is now."""
        key = meta.key
        if trouble:
            if len(self.unreadable) < UNREADABLE_MAX or key in self.unreadable:
                self.unreadable[key] = Unreadable(meta.uid, trouble)
            else:
                self.left_out += 1
            held = self.objects.get(key)
            if held is not None and held.uid != meta.uid:
                self._drop(key)
            return  # what was held of the same incarnation is the best that is known
        self.unreadable.pop(key, None)
        held = self.objects.get(key)
        if held is not None and (held.uid != meta.uid or value is None):
            self._drop(key)
            held = None
        if value is None:
            return
        if held is None and len(self.objects) >= (self.objects_max if room is None else room):
            self.left_out += 1
            return
        if held is not None and held.value == value:
            return
        self._gone.pop((key, meta.uid), None)
        self.objects[key] = Held(key, meta.uid, value)
        self._dirty[key] = None

    def remove(self, meta: Meta) -> None:
        """An incarnation was deleted; another one of the same name stays."""
        unreadable = self.unreadable.get(meta.key)
        if unreadable is not None and unreadable.uid in ("", meta.uid):
            del self.unreadable[meta.key]
        held = self.objects.get(meta.key)
        if held is not None and (held.uid == meta.uid or not meta.uid):
            self._drop(meta.key)

    def drain(self) -> Changes:
        """What changed since the last drain. Empty before the first list."""
        if not self._known:
            return Changes([], [], False)
        if self._whole:
            changes = Changes(list(self.objects.values()), [], True)
        else:
            changed = [self.objects[key] for key in self._dirty if key in self.objects]
            changes = Changes(changed, list(self._gone.values()), False)
        self._whole = False
        self._dirty, self._gone = {}, {}
        if changes.whole:
            self._told = {}
        for held in changes.gone:
            if self._told.get(held.key) == held.uid:
                del self._told[held.key]
        for held in changes.changed:
            self._told[held.key] = held.uid
        return changes

    def _drop(self, key: ObjectKey) -> None:
        """It is no longer held; told only where somebody knows of it."""
        held = self.objects.pop(key)
        self._dirty.pop(key, None)
        if self._whole or self._told.get(key) != held.uid:
            return
        self._gone[(key, held.uid)] = held
        if len(self._gone) > self.objects_max:
            self._gone.clear()
            self._whole = True
