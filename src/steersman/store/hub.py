"""The watch hub: from one stream of commits to a thousand watchers, without a buffer for each.

It lives on the event loop. The store publishes each group of commits once; the hub keeps the newest of them
in one bounded ring, and hands the part under a prefix to that prefix's *channel*, which all its watchers
share. A watcher is a place in its channel. So publishing costs nothing for a watcher but a wake-up, and one
that is slow costs nothing at all: when the ring has moved past its place, it reads what it missed from the
store's history, and comes back.

Going from history to the channel is where watches lose events. The rule here: a channel knows the revision
(`base`) behind which it holds everything, so a watcher that has seen history up to that far may change over,
and takes from the channel only what is newer than what it has seen. Both are looked at in one step of the
loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from msgspec import Struct

from steersman.kernel.bounds import MIB
from steersman.store import rules
from steersman.store.api import Event, StoreClosed

RING_EVENTS_MAX = 16_384
"""Events of the newest commits that are kept in memory for watchers that are a little behind."""

RING_MAX_BYTES = 32 * MIB
"""Values held by the ring."""


class Commit(Struct, frozen=True, gc=False):
    """One commit as watchers see it: events in key order, `size_bytes` of their values."""

    revision: int
    events: tuple[Event, ...]
    size_bytes: int


class Changes(Struct, frozen=True):
    """A piece of history: events behind a place, and the place to go on from.

    `seen` is the revision up to which the history was read whole (at `more=False`: the snapshot's). With
    `more` there are further events behind `place`, an opaque number that the reader gave.
    """

    events: Sequence[Event]
    seen: int
    place: int
    more: bool


ReadHistory = Callable[[str, int, int | None], Awaitable[Changes]]
"""(prefix, after_revision, place) -> Changes. Raises `Compacted`, `FutureRevision`, `StoreUnavailable`."""


class _Channel:
    """The ring's commits under one prefix, for all who watch it."""

    def __init__(self, prefix: str, base: int) -> None:
        self.prefix = prefix
        self.base = base  # everything behind this revision is in `commits`
        self.commits: deque[tuple[int, Sequence[Event]]] = deque()
        self.first = 0  # the number of commits[0], counted over the channel's life
        self.watchers = 0
        self.sleepers: dict[asyncio.Future[None], None] = {}

    def place_behind(self, revision: int) -> int:
        """The number of the first commit that is newer than `revision`."""
        place = self.first + len(self.commits)
        for newer, _ in reversed(self.commits):
            if newer <= revision:
                break
            place -= 1
        return place

    def wake(self) -> None:
        sleepers, self.sleepers = self.sleepers, {}
        for future in sleepers:
            if not future.done():
                future.set_result(None)


class WatchHub:
    """Fan-out of commits. All methods belong to the event loop's thread."""

    def __init__(self, read_history: ReadHistory, revision: int = 0) -> None:
        self.revision = revision
        self.compacted = 0
        self._read_history = read_history
        self._channels: dict[str, _Channel] = {}
        self._lengths: list[int] = []  # of the channels' prefixes, each once
        self._ring: deque[tuple[Commit, list[_Channel]]] = deque()
        self._ring_events = 0
        self._ring_bytes = 0
        self.closed = False

    @property
    def channels(self) -> int:
        """How many prefixes are watched."""
        return len(self._channels)

    @property
    def ring_events(self) -> int:
        """Events that are kept for watchers."""
        return self._ring_events

    def publish(self, commits: Iterable[Commit]) -> None:
        """Hand on the next commits, in order; each watcher concerned is woken once."""
        woken: dict[_Channel, None] = {}
        for commit in commits:
            self.revision = commit.revision
            channels = self._sort(commit) if self._channels else []
            if channels:
                woken.update(dict.fromkeys(channels))
                self._ring.append((commit, channels))
                self._ring_events += len(commit.events)
                self._ring_bytes += commit.size_bytes
                self._trim()
        for channel in woken:
            channel.wake()

    def lose_to(self, revision: int) -> None:
        """Say that commits up to `revision` were made that can't be published: watchers read them."""
        self.revision = max(self.revision, revision)
        while self._ring:
            self._drop_oldest()
        for channel in self._channels.values():
            channel.base = self.revision
            channel.first += 1  # nobody's place is good any more
            channel.wake()

    def watch(self, prefix: str, after_revision: int) -> HubWatch:
        """A watcher; use it with `async with`."""
        return HubWatch(self, self._read_history, prefix, after_revision)

    def close(self) -> None:
        """End all watchers."""
        self.closed = True
        for channel in self._channels.values():
            channel.wake()

    def enter(self, prefix: str) -> _Channel:
        """Take a share in the prefix's channel; it is there while somebody has one."""
        channel = self._channels.get(prefix)
        if channel is None:
            channel = self._channels[prefix] = _Channel(prefix, self.revision)
            self._lengths = sorted({len(prefix) for prefix in self._channels})
        channel.watchers += 1
        return channel

    def leave(self, channel: _Channel) -> None:
        """Give the share back."""
        channel.watchers -= 1
        if channel.watchers == 0:
            del self._channels[channel.prefix]
            self._lengths = sorted({len(prefix) for prefix in self._channels})

    def _sort(self, commit: Commit) -> list[_Channel]:
        """Put a commit's events into the channels they belong to; those channels."""
        found: dict[_Channel, list[Event]] = {}
        for event in commit.events:
            key = event.key
            for length in self._lengths:
                if length > len(key):
                    break
                channel = self._channels.get(key[:length])
                if channel is not None:
                    found.setdefault(channel, []).append(event)
        for channel, events in found.items():
            channel.commits.append((commit.revision, events))
        return list(found)

    def _trim(self) -> None:
        while self._ring_events > RING_EVENTS_MAX or self._ring_bytes > RING_MAX_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        commit, channels = self._ring.popleft()
        self._ring_events -= len(commit.events)
        self._ring_bytes -= commit.size_bytes
        for channel in channels:
            channel.commits.popleft()
            channel.first += 1
            channel.base = commit.revision


class HubWatch:
    """One watcher: an async iterator over the events, from history and then from its channel."""

    def __init__(self, hub: WatchHub, read_history: ReadHistory, prefix: str, after_revision: int) -> None:
        self._hub = hub
        self._read_history = read_history
        self._prefix = prefix
        self._seen = after_revision  # everything up to here was delivered, or is in _ready
        self._history_place: int | None = None
        self._from_history = False
        self._channel: _Channel | None = None
        self._place: int | None = None  # in the channel; None while reading history
        self._ready: Sequence[Event] = ()
        self._next = 0
        self._asleep: asyncio.Future[None] | None = None

    async def __aenter__(self) -> AsyncIterator[Event]:
        if self._hub.closed:
            raise rules.closed("the store")
        self._channel = self._hub.enter(self._prefix)
        return self

    async def __aexit__(self, *exc: object) -> None:
        channel, self._channel = self._channel, None
        self._ready = ()
        if channel is not None:
            self._hub.leave(channel)
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(None)  # another task waits in here: for it, this is the end

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while self._next >= len(self._ready):
            channel = self._channel
            if channel is None or self._hub.closed:
                raise StopAsyncIteration
            if not self._take(channel):
                if self._place is not None:
                    await self._sleep(channel)
                    continue
                try:
                    await self._read()
                except StoreClosed:
                    if self._hub.closed:
                        raise StopAsyncIteration from None  # the end, as for one that slept
                    raise
        event = self._ready[self._next]
        self._next += 1
        return event

    def _take(self, channel: _Channel) -> bool:
        """Take the next commit from the channel; False where there is none, or this is not its time."""
        if self._place is not None and self._place < channel.first:
            self._place = None  # too slow: the ring moved past us, history has the rest
        if self._place is None:
            if not self._may_change_over(channel):
                return False
            self._place = channel.place_behind(self._seen)
        while (at := self._place - channel.first) < len(channel.commits):
            revision, events = channel.commits[at]
            self._place += 1
            if revision > self._seen:  # history may have been ahead of what is published
                self._seen = revision
                self._ready = events
                self._next = 0
                return True
        return False

    def _may_change_over(self, channel: _Channel) -> bool:
        """Whether the channel has everything behind what this watcher has seen."""
        if self._history_place is not None or self._seen < channel.base:
            return False
        if self._from_history:
            return True
        # The first look: a revision that was never given, or history that is gone, is history's to refuse.
        return self._hub.compacted - 1 <= self._seen <= self._hub.revision

    async def _read(self) -> None:
        """Read the next piece of history."""
        changes = await self._read_history(self._prefix, self._seen, self._history_place)
        self._ready = changes.events
        self._next = 0
        self._from_history = True
        if changes.more:
            self._history_place = changes.place
        else:
            self._history_place = None
            self._seen = max(self._seen, changes.seen)

    async def _sleep(self, channel: _Channel) -> None:
        future = self._asleep = asyncio.get_running_loop().create_future()
        channel.sleepers[future] = None
        try:
            await future
        finally:
            channel.sleepers.pop(future, None)
            self._asleep = None
