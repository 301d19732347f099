"""Checks of the store's contract: watches. Every change, once, in order, no gap."""

from __future__ import annotations

import asyncio

from steersman.kernel.clock import ManualClock
from steersman.store.api import (
    Compacted,
    Delete,
    Event,
    FutureRevision,
    Put,
    Record,
    Store,
)
from steersman.testing.store_expect import PATIENCE_S, MakeStore, ended, equal, put, refused, take

MANY = 3_000
"""Commits; more than a backend would keep in memory or read at once."""


GLIMPSE_S = 0.0002
"""How long the impatient watcher waits: about as long as an event takes to come."""


async def check_a_watch_from_history_into_the_present(make: MakeStore) -> None:
    """What was there before, then what comes: by revision, and within one by key; deletions too."""
    async with make(ManualClock()) as store:
        await store.commit([], [Put("a/2", b"2"), Put("a/1", b"1"), Put("b", b"")])
        await store.commit([], [Delete("a/1")])
        async with store.watch("a/", 0) as events:
            past = [
                Event("a/1", 1, Record("a/1", b"1", 1, 1)),
                Event("a/2", 1, Record("a/2", b"2", 1, 1)),
                Event("a/1", 2, None),
            ]
            equal(await take(events, 3), past, "the past")
            await put(store, "b")
            await store.commit([], [Put("a/9", b"9"), Delete("a/nope"), Put("a/0", b"0"), Put("c", b"")])
            present = [
                Event("a/0", 4, Record("a/0", b"0", 1, 4)),
                Event("a/9", 4, Record("a/9", b"9", 1, 4)),
            ]
            equal(await take(events, 2), present, "the present")


async def check_where_a_watch_starts(make: MakeStore) -> None:
    """It starts right behind the revision it is given, also at the newest, and refuses the future."""
    async with make(ManualClock()) as store:
        for number in range(1, 6):
            await put(store, f"{number}")
        for after in range(6):
            async with store.watch("", after) as events:
                seen = [event.revision for event in await take(events, 5 - after)]
                equal(seen, list(range(after + 1, 6)), f"the watch after {after}")
        async with store.watch("", 6) as events:
            with refused(FutureRevision, revision=5):
                await anext(events)


async def check_prefixes_see_only_their_own(make: MakeStore) -> None:
    """Watches of nested, equal, longer and empty prefixes, each exactly its part."""
    prefixes = ["", "n", "n/", "n/1", "n/10", "m/", "n/1"]
    async with make(ManualClock()) as store:
        watches = [store.watch(prefix, 0) for prefix in prefixes]
        events = [await watch.__aenter__() for watch in watches]
        names = [f"n/{n}" for n in range(12)] + ["n", "m/1", "o"]
        for name in names:
            await put(store, name)
        for prefix, watch, stream in zip(prefixes, watches, events, strict=True):
            expected = [name for name in names if name.startswith(prefix)]
            equal([e.key for e in await take(stream, len(expected))], expected, f"the watch of {prefix!r}")
            await watch.__aexit__(None, None, None)


async def check_the_hand_over_loses_nothing(make: MakeStore) -> None:
    """Watches that start at every moment of a stream of commits: each sees all of it, once, in order."""
    async with make(ManualClock()) as store:
        count = MANY // 10

        async def watch(start: int) -> None:
            async with store.watch("k/", 0) as events:
                seen = [event.revision for event in await take(events, count)]
            equal(seen, list(range(1, count + 1)), f"the watch that began at commit {start}")

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                if number % 4 == 0:
                    group.create_task(watch(number))
                await put(store, f"k/{number % 7}", b"%d" % number)


async def check_a_slow_watcher_harms_nobody(make: MakeStore) -> None:
    """One that reads one event and then sleeps through many: writers and others go on, and it misses none."""
    async with make(ManualClock()) as store:
        await put(store, "k", b"x")
        async with store.watch("", 0) as slow, store.watch("", 0) as quick:
            equal((await take(slow, 1))[0].revision, 1, "the slow one's first")
            value = bytes(20_000)
            for _ in range(MANY // 100):
                await asyncio.gather(*(put(store, f"k/{n}", value) for n in range(100)))
            for stream in (quick, slow):
                start = 2 if stream is slow else 1
                seen = [event.revision for event in await take(stream, MANY + 2 - start)]
                equal(seen, list(range(start, MANY + 2)), "the revisions seen")
            await put(store, "last")
            equal((await take(slow, 1))[0].key, "last", "the slow one's next, having caught up")


async def check_a_watch_of_compacted_history(make: MakeStore) -> None:
    """History that is gone is refused with the oldest revision; a list then gives where to go on."""
    async with make(ManualClock()) as store:
        for number in range(1, 8):
            await put(store, f"{number % 2}")
        await store.compact(5)
        for after in (0, 3):
            async with store.watch("", after) as events:
                with refused(Compacted, compacted=5):
                    await anext(events)
        async with store.watch("", 4) as events:
            equal([event.revision for event in await take(events, 3)], [5, 6, 7], "from the oldest kept")
        page = await store.list("")
        async with store.watch("", page.revision) as events:
            await put(store, "new")
            equal((await take(events, 1))[0].revision, 8, "from the list on")


async def check_compaction_under_a_watch(make: MakeStore) -> None:
    """A watcher that has seen everything does not notice a compaction."""
    async with make(ManualClock()) as store, store.watch("", 0) as events:
        for number in range(1, 20):
            await store.commit([], [Put("a", b"%d" % number), Delete(f"{number - 1}"), Put(f"{number}", b"")])
            seen = await take(events, 2 if number == 1 else 3)
            equal({event.revision for event in seen}, {number}, "the revision seen")
            await store.compact(number)


async def check_a_watcher_slower_than_compaction(make: MakeStore) -> None:
    """It gets what it missed or is told `Compacted`; a gap it never gets."""
    async with make(ManualClock()) as store, store.watch("k", 0) as events:
        value = bytes(20_000)
        for _ in range(MANY // 100):
            await asyncio.gather(*(put(store, f"k/{n}", value) for n in range(100)))
        await store.compact(MANY)
        seen: list[int] = []
        try:
            async with asyncio.timeout(60):
                while len(seen) < MANY:
                    seen.append((await anext(events)).revision)
        except Compacted as error:
            equal(error.facts["compacted"], MANY, "what the watcher is told")
        equal(seen, list(range(1, len(seen) + 1)), "what it saw before")


async def check_leaving_a_watch(make: MakeStore) -> None:
    """A watch that is left, broken off or cancelled while waiting leaves the others and the store as is."""
    async with make(ManualClock()) as store, store.watch("", 0) as stays:
        async with store.watch("", 0) as left:
            await put(store, "a")
            await take(left, 1)
        await ended(left)

        async def wait() -> None:
            async with store.watch("", 1) as events:
                await anext(events)

        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(wait()) for _ in range(5)]
            await ManualClock().sleep(0)
            for task in waiting:
                task.cancel()
        await put(store, "b")
        equal([event.key for event in await take(stays, 2)], ["a", "b"], "what the one that stays sees")


async def check_giving_up_waiting_loses_nothing(make: MakeStore) -> None:
    """A watcher that waits only so long at a time, as one does that sends heartbeats, misses nothing."""
    async with make(ManualClock()) as store, store.watch("", 0) as events:
        count = MANY // 10
        seen: list[int] = []

        async def write() -> None:
            for number in range(count):
                await put(store, f"k/{number % 5}")

        async def watch() -> None:
            while len(seen) < count:
                try:
                    async with asyncio.timeout(GLIMPSE_S):
                        seen.append((await anext(events)).revision)
                except TimeoutError:
                    await ManualClock().sleep(0)

        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(write(), watch())
        equal(seen, list(range(1, count + 1)), "what it saw")


async def check_closing_the_store_ends_the_watches(make: MakeStore) -> None:
    """A waiting watcher's iteration ends when the store is closed; nobody waits for ever."""
    store: Store = make(ManualClock())
    ended: list[int] = []

    async def watch(number: int) -> None:
        async with store.watch("", 0) as events:
            async for _ in events:
                pass
        ended.append(number)

    async with store, asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(watch(number))
        await put(store, "a")
        for _ in range(5):
            await ManualClock().sleep(0)
        async with asyncio.timeout(30):
            await store.close()
    equal(sorted(ended), list(range(5)), "the watchers that ended")


async def check_a_thousand_watchers(make: MakeStore) -> None:
    """They are just watchers: each sees the commits under its prefix."""
    async with make(ManualClock()) as store:
        count = 1_000

        async def watch(number: int) -> tuple[int, list[str]]:
            prefix = "" if number % 2 else f"k/{number % 20}/"
            async with store.watch(prefix, 0) as events:
                expected = 20 if number % 2 else 1
                return number, [event.key for event in await take(events, expected)]

        async def write() -> None:
            for number in range(20):
                await put(store, f"k/{number}/x")

        *seen, _ = await asyncio.gather(*(watch(number) for number in range(count)), write())
        for number, keys in [pair for pair in seen if pair is not None]:
            expected = [f"k/{n}/x" for n in range(20)] if number % 2 else [f"k/{number % 20}/x"]
            equal(keys, expected, f"watcher {number}")


CHECKS = (
    check_a_watch_from_history_into_the_present,
    check_where_a_watch_starts,
    check_prefixes_see_only_their_own,
    check_the_hand_over_loses_nothing,
    check_a_slow_watcher_harms_nobody,
    check_a_watch_of_compacted_history,
    check_compaction_under_a_watch,
    check_a_watcher_slower_than_compaction,
    check_leaving_a_watch,
    check_giving_up_waiting_loses_nothing,
    check_closing_the_store_ends_the_watches,
    check_a_thousand_watchers,
)
