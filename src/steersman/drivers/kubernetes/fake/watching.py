"""Watches: the changes after a version, as they come, with bookmarks, an end, and history that is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from msgspec import Struct

from steersman.drivers.kubernetes.fake.catalogue import Kind
from steersman.drivers.kubernetes.fake.refusal import Refusal
from steersman.drivers.kubernetes.fake.storage import Change, Storage
from steersman.drivers.kubernetes.fake.tree import Object
from steersman.drivers.kubernetes.shapes import INITIAL_EVENTS_END
from steersman.kernel.clock import Clock

Chosen = Callable[[Object], bool]


class WatchRequest(Struct, frozen=True):
    """What a watch asks for. `version` is None for "begin anywhere", which is told as ADDED of everything.
    `initial`: the list first, as ADDED, with a bookmark at its end. `chosen`: by namespace and selectors."""

    kind: Kind
    chosen: Chosen
    version: int | None
    initial: bool
    bookmarks: bool
    timeout_s: float


class Watches:
    """The running watches of one server. `bookmark_s` is the time between bookmarks; `silent` lets streams
    hang without a word; `cut` breaks each off behind its next event, in the middle of the line."""

    def __init__(self, storage: Storage, clock: Clock, bookmark_s: float) -> None:
        self._storage = storage
        self._clock = clock
        self.bookmark_s = bookmark_s
        self.silent = False
        self.cut = False
        self.ended = 0
        """Streams begun before this was counted up are ended: see `end_all`."""
        self.running = 0
        self.tail = b""
        """Put behind the next event as it is: what is no JSON, what is no event."""

    def end_all(self) -> None:
        """End every stream in good order, as a server does that restarts."""
        self.ended += 1
        self._storage.wake()

    async def stream(self, request: WatchRequest) -> AsyncIterator[bytes]:
        """The lines of one watch."""
        self.running += 1
        era = self.ended
        ends_s = self._clock.monotonic() + request.timeout_s
        try:
            at = self._storage.version if request.version is None or request.initial else request.version
            for line in self._initial(request, at):
                yield line
            bookmark_s = self._clock.monotonic() + self.bookmark_s
            while era == self.ended:
                now_s = self._clock.monotonic()
                if not self.silent:
                    try:
                        changes = self._storage.since(at)
                    except Refusal as refused:
                        yield _line("ERROR", refused.status())
                        return
                    for change in changes:
                        at = change.version
                        event = _event(request, change)
                        if event is None:
                            continue
                        if self.cut:
                            yield event[: len(event) // 2]
                            return
                        yield event
                    if self.tail:
                        tail, self.tail = self.tail, b""
                        yield tail
                    at = max(at, self._storage.version)
                    if request.bookmarks and now_s >= bookmark_s:
                        if at <= self._storage.version:  # of a version to come nothing is told, as there
                            yield self._bookmark(request.kind, at)
                        bookmark_s = now_s + self.bookmark_s
                if now_s >= ends_s:
                    return
                await self._storage.wait(
                    max(0.0, min(ends_s, bookmark_s if not self.silent else ends_s) - now_s)
                )
        finally:
            self.running -= 1

    def _initial(self, request: WatchRequest, at: int) -> list[bytes]:
        if request.version is not None and not request.initial:
            return []
        things = self._storage.snapshot(request.kind.resource.plural, at).values()
        lines = [_line("ADDED", thing) for thing in things if request.chosen(thing)]
        if request.initial and request.bookmarks:
            lines.append(self._bookmark(request.kind, at, {INITIAL_EVENTS_END: "true"}))
        return lines

    def _bookmark(self, kind: Kind, version: int, annotations: dict[str, str] | None = None) -> bytes:
        meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        return _line("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta})


def _event(request: WatchRequest, change: Change) -> bytes | None:
    """What a watch is told of a change: an object that comes into what it chose is ADDED, one that leaves it
    is DELETED."""
    if change.plural != request.kind.resource.plural:
        return None
    was = change.old is not None and request.chosen(change.old)
    is_now = change.new is not None and request.chosen(change.new)
    if is_now:
        return _line("MODIFIED" if was else "ADDED", change.last)
    if not was:
        return None
    if change.new is None or change.old is None:
        return _line("DELETED", change.last)
    meta: Any = {**change.old["metadata"], "resourceVersion": str(change.version)}
    return _line("DELETED", {**change.old, "metadata": meta})


def _line(word: str, thing: Object) -> bytes:
    return msgspec.json.encode({"type": word, "object": thing}) + b"\n"
