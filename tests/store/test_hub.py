"""The watch hub alone, with a history that the test writes: hand-over, bounds of the ring, wake-ups."""

from __future__ import annotations

import asyncio

import pytest

from steersman.store import hub as hub_module
from steersman.store.api import Event, FutureRevision, Record
from steersman.store.hub import Changes, Commit, WatchHub
from steersman.store.rules import closed, future_revision
from steersman.testing.store_expect import ended, take


def commit(revision: int, *keys: str, size_bytes: int = 0) -> Commit:
    names = keys or ("k",)
    events = tuple(Event(key, revision, Record(key, b"", 1, revision)) for key in names)
    return Commit(revision, events, size_bytes)


class History:
    """All commits so far, in pieces of `piece` events; reads are counted, and may be held up."""

    def __init__(self, piece: int = 1000) -> None:
        self.commits: list[Commit] = []
        self.reads = 0
        self.piece = piece
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, prefix: str, after: int, place: int | None) -> Changes:
        self.reads += 1
        await self.gate.wait()
        newest = self.commits[-1].revision if self.commits else 0
        if after > newest:
            raise future_revision(after, newest)
        events = [e for c in self.commits if c.revision > after for e in c.events if e.key.startswith(prefix)]
        start = place or 0
        part = events[start : start + self.piece]
        more = start + self.piece < len(events)
        return Changes(events=part, seen=after if more else newest, place=start + self.piece, more=more)


def revisions(events: list[Event]) -> list[int]:
    return [event.revision for event in events]


async def test_history_may_be_ahead_of_what_is_published() -> None:
    """A reader sees a commit before the loop has heard of it: the channel's copy is then passed over."""
    history = History()
    hub = WatchHub(history.read)
    history.commits = [commit(1), commit(2), commit(3)]
    hub.publish(history.commits[:1])
    async with hub.watch("", 0) as events:
        assert revisions(await take(events, 3)) == [1, 2, 3]
        waiting = asyncio.ensure_future(take(events, 2))
        await asyncio.sleep(0)
        hub.publish(history.commits[1:])
        hub.publish([commit(4), commit(5)])
        assert revisions(await waiting) == [4, 5]
    assert history.reads == 1


async def test_commits_published_while_history_is_read_come_once() -> None:
    history = History(piece=2)
    hub = WatchHub(history.read)
    history.commits = [commit(n) for n in range(1, 6)]
    hub.publish(history.commits)
    async with hub.watch("", 0) as events:
        history.gate.clear()
        waiting = asyncio.ensure_future(take(events, 8))
        await asyncio.sleep(0)
        hub.publish([commit(6), commit(7)])
        history.commits += [commit(6)]  # the snapshot that is read has the one, not the other
        history.gate.set()
        hub.publish([commit(8)])
        assert revisions(await waiting) == list(range(1, 9))


async def test_a_watch_from_the_present_reads_no_history() -> None:
    history = History()
    hub = WatchHub(history.read, revision=7)
    async with hub.watch("a/", 7) as events:
        hub.publish([commit(8, "a", "a/1", "b"), commit(9, "b"), commit(10, "a/2")])
        assert [event.key for event in await take(events, 2)] == ["a/1", "a/2"]
    assert history.reads == 0


async def test_the_future_is_refused_also_when_it_comes_true() -> None:
    """Revision 3 is asked for at 2, and exists once the reader looks: it is behind what was asked for."""
    history = History()
    hub = WatchHub(history.read, revision=2)
    history.commits = [commit(1), commit(2)]
    async with hub.watch("", 3) as events:
        with pytest.raises(FutureRevision):
            await anext(events)


async def test_the_ring_is_bounded_and_a_slow_watcher_reads_history() -> None:
    history = History()
    hub = WatchHub(history.read)
    count = hub_module.RING_EVENTS_MAX + 100
    async with hub.watch("", 0) as slow, hub.watch("k", 0) as other:
        history.commits = [commit(n) for n in range(1, count + 1)]
        hub.publish(history.commits)
        history.piece = 5000
        assert revisions(await take(slow, count)) == list(range(1, count + 1))
        assert revisions(await take(other, count)) == list(range(1, count + 1))
    assert history.reads > 0


async def test_the_ring_is_bounded_in_bytes() -> None:
    history = History()
    hub = WatchHub(history.read)
    big = hub_module.RING_MAX_BYTES // 4
    async with hub.watch("", 0) as events:
        history.commits = [commit(n, size_bytes=big) for n in range(1, 11)]
        hub.publish(history.commits)
        assert revisions(await take(events, 10)) == list(range(1, 11))
        assert history.reads == 1, "the first six had left the ring"


async def test_a_watcher_in_the_middle_of_the_ring_falls_out_of_it() -> None:
    """It had begun with the ring, is overtaken, reads history, and comes back to the ring."""
    history = History(piece=300)
    hub = WatchHub(history.read)
    count = hub_module.RING_EVENTS_MAX
    async with hub.watch("", 0) as events:
        first = [commit(n) for n in range(1, 11)]
        hub.publish(first)
        seen = revisions(await take(events, 5))
        rest = [commit(n) for n in range(11, count + 200)]
        history.commits = first + rest
        hub.publish(rest)
        seen += revisions(await take(events, count + 199 - 5))
        reads = history.reads
        hub.publish([commit(count + 200)])
        seen += revisions(await take(events, 1))
    assert seen == list(range(1, count + 201))
    assert reads == history.reads, "back in the ring, nothing is read from history"


async def test_commits_that_could_not_be_published_are_read() -> None:
    """After an error the store knows that revisions were made, not which: watchers find them in history."""
    history = History()
    hub = WatchHub(history.read)
    async with hub.watch("", 0) as events, hub.watch("x", 0) as silent:
        history.commits = [commit(1)]
        hub.publish(history.commits)
        assert revisions(await take(events, 1)) == [1]
        waiting = asyncio.ensure_future(take(events, 3))
        sleeping = asyncio.ensure_future(take(silent, 1))
        await asyncio.sleep(0)
        history.commits += [commit(2), commit(3)]
        hub.lose_to(3)
        await asyncio.sleep(0)
        history.commits += [commit(4, "k", "x")]
        hub.publish(history.commits[3:])
        assert revisions(await waiting) == [2, 3, 4]
        assert revisions(await sleeping) == [4]


async def test_one_wake_up_for_a_group_of_commits() -> None:
    """A watcher that waits is woken once for a whole group, and watchers of other prefixes not at all."""
    history = History()
    hub = WatchHub(history.read)
    taken: list[int] = []

    async def follow(prefix: str) -> None:
        async with hub.watch(prefix, 0) as events:
            async for event in events:
                taken.append(event.revision)

    tasks = [asyncio.ensure_future(follow(prefix)) for prefix in ("k", "other")]
    await asyncio.sleep(0)
    hub.publish([commit(n) for n in range(1, 101)])
    await asyncio.sleep(0)
    assert taken == list(range(1, 101)), "all of it in one turn of the loop"
    hub.close()
    await asyncio.gather(*tasks)


async def test_closing_ends_a_watcher_that_reads_history() -> None:
    history = History()

    async def read(prefix: str, after: int, place: int | None) -> Changes:
        await history.gate.wait()
        raise closed("the store")

    hub = WatchHub(read, revision=1)
    history.gate.clear()
    async with hub.watch("", 0) as events:
        waiting = asyncio.ensure_future(ended(events))
        await asyncio.sleep(0)
        hub.close()
        history.gate.set()
        await waiting


async def test_channels_go_with_their_last_watcher() -> None:
    hub = WatchHub(History().read)
    async with hub.watch("a", 0):
        async with hub.watch("a", 0), hub.watch("b", 0):
            assert hub.channels == 2
        assert hub.channels == 1
    assert hub.channels == 0
    hub.publish([commit(1)])
    assert hub.ring_events == 0, "nothing is kept for nobody"
