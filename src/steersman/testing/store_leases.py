"""Checks of the store's contract: leases on a clock that is moved by hand, and what a restart keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput
from steersman.store.api import (
    LEASE_TTL_MAX_S,
    LEASE_TTL_MIN_S,
    Check,
    Compacted,
    Delete,
    Event,
    Held,
    Lease,
    LeaseExpired,
    Put,
    Record,
    Store,
)
from steersman.testing.store_expect import MakeStore, equal, keys, put, refused, take, true


async def check_a_lease_ends_with_its_keys(make: MakeStore) -> None:
    """At its time, not before, all its keys go in one commit, and watchers see it without anybody asking."""
    clock = ManualClock()
    async with make(clock) as store:
        lease = await store.lease(10)
        equal(lease.ttl_s, 10.0, "the lease's time to live")
        await store.commit([], [Put("b", b"", lease=lease.id), Put("a", b"", lease=lease.id), Put("c", b"")])
        record = await store.get("a")
        equal(record and record.lease, lease.id, "the lease that a key hangs on")
        clock.advance(9.999)
        equal(await keys(store), ["a", "b", "c"], "a moment before the end")
        async with store.watch("", 1) as events:
            clock.advance(0.001)
            equal(await take(events, 2), [Event("a", 2, None), Event("b", 2, None)], "what a watcher sees")
        equal(await keys(store), ["c"], "after the end")
        equal(await store.revision(), 2, "the revision: one commit")


async def check_reading_never_sees_a_dead_lease(make: MakeStore) -> None:
    """The clock jumps, and at once somebody reads: what hung on the lease is gone for them."""
    clock = ManualClock()
    async with make(clock) as store:
        for ask in (store.get, keys_under(store), version_zero(store)):
            lease = await store.lease(5)
            await put(store, "a", lease=lease.id)
            clock.advance(5)
            answer = await ask("a")
            true(not answer, f"it was still there: {answer}")


def keys_under(store: Store) -> Callable[[str], Awaitable[object]]:
    """Asks for the keys under a prefix."""
    return lambda prefix: keys(store, prefix)


def version_zero(store: Store) -> Callable[[str], Awaitable[object]]:
    """Asks a commit whether the key is absent."""

    async def ask(key: str) -> None:
        await store.commit([Check(key, 0)], [])

    return ask


async def check_renewing(make: MakeStore) -> None:
    """Each renewal starts the time anew; once it has ended there is no way back."""
    clock = ManualClock()
    async with make(clock) as store:
        lease = await store.lease(10)
        await put(store, "a", lease=lease.id)
        for _ in range(5):
            clock.advance(9)
            await store.renew(lease)
        equal(await keys(store), ["a"], "after 45 seconds of renewals")
        clock.advance(10)
        with refused(LeaseExpired, lease=lease.id):
            await store.renew(lease)
        equal(await keys(store), [], "after the end")
        with refused(LeaseExpired, lease=lease.id):
            await put(store, "a", lease=lease.id)
        with refused(LeaseExpired, lease=lease.id):
            await store.commit([Held(lease.id, lease.epoch)], [Put("a", b"")])
        await store.revoke(lease)
        equal(await store.revision(), 2, "the revision: a lease's end with keys, and nothing else")


async def check_revoking(make: MakeStore) -> None:
    """A lease ended by hand takes its keys along at once, in one commit; doing it again is no error."""
    async with make(ManualClock()) as store:
        lease, other = await store.lease(10), await store.lease(10)
        await store.commit([], [Put("a", b"", lease=lease.id), Put("b", b"", lease=other.id)])
        await store.revoke(lease)
        await store.revoke(lease)
        equal(await keys(store), ["b"], "what is left")
        equal(await store.revision(), 2, "the revision")
        with refused(LeaseExpired):
            await store.renew(lease)
        await store.revoke(await store.lease(10))
        equal(await store.revision(), 2, "the revision after a lease without keys has ended")


async def check_a_key_changes_its_lease(make: MakeStore) -> None:
    """A key hangs on the lease of its last write only: on another, on none, or on it again after deletion."""
    clock = ManualClock()
    async with make(clock) as store:
        first, second = await store.lease(10), await store.lease(20)
        for key in ("to-other", "to-none", "deleted", "again"):
            await put(store, key, lease=first.id)
        await put(store, "to-other", lease=second.id)
        await put(store, "to-none")
        await store.commit([], [Delete("deleted"), Delete("again")])
        await put(store, "again", lease=first.id)
        clock.advance(10)
        equal(await keys(store), ["to-none", "to-other"], "when the first lease has ended")
        clock.advance(10)
        equal(await keys(store), ["to-none"], "when the second has ended")


async def check_the_fence(make: MakeStore) -> None:
    """A commit that names lease and epoch is made while they hold, and refused with no trace afterwards."""
    clock = ManualClock()
    async with make(clock) as store:
        old = await store.lease(10)
        await store.commit([Held(old.id, old.epoch)], [Put("leader", b"old", lease=old.id)])
        clock.advance(10)
        new = await store.lease(10)
        true(new.epoch > old.epoch and new.id != old.id, "a later lease has a higher epoch and its own id")
        await store.commit(
            [Held(new.id, new.epoch), Check("leader", 0)], [Put("leader", b"new", lease=new.id)]
        )
        with refused(LeaseExpired, lease=old.id):
            await store.commit([Held(old.id, old.epoch)], [Put("leader", b"old", lease=None)])
        with refused(LeaseExpired, lease=new.id):
            await store.commit([Held(new.id, old.epoch)], [Put("leader", b"old")])
        with refused(LeaseExpired):
            await store.renew(Lease(id=new.id, epoch=old.epoch, ttl_s=10))
        await store.revoke(Lease(id=new.id, epoch=old.epoch, ttl_s=10))
        record = await store.get("leader")
        equal(record and record.value, b"new", "the leader")


async def check_times_to_live(make: MakeStore) -> None:
    """Both bounds are allowed, what lies outside is not."""
    async with make(ManualClock()) as store:
        for ttl_s in (0, -1, LEASE_TTL_MIN_S / 2, LEASE_TTL_MAX_S * 2, float("nan"), float("inf")):
            with refused(InvalidInput):
                await store.lease(ttl_s)
        equal((await store.lease(LEASE_TTL_MIN_S)).ttl_s, LEASE_TTL_MIN_S, "the shortest")
        equal((await store.lease(LEASE_TTL_MAX_S)).ttl_s, LEASE_TTL_MAX_S, "the longest")


async def check_many_leases_end_in_order(make: MakeStore) -> None:
    """Hundreds of leases, renewed and revoked at random places, end at their own times, one commit each."""
    clock = ManualClock()
    async with make(clock) as store:
        leases = await asyncio.gather(*(store.lease(10 + n % 7) for n in range(300)))
        equal(len({lease.epoch for lease in leases}), 300, "the epochs, each once")
        await asyncio.gather(*(put(store, f"{n:03d}", lease=lease.id) for n, lease in enumerate(leases)))
        clock.advance(5)
        for lease in leases[::3]:
            await store.renew(lease)
        for lease in leases[1::30]:
            await store.revoke(lease)
        start = await store.revision()
        clock.advance(5)
        for second in range(10, 22):
            left = {
                f"{n:03d}"
                for n in range(300)
                if n % 30 != 1 and 10 + n % 7 + (5 if n % 3 == 0 else 0) > second
            }
            equal(set(await keys(store)), left, f"what is left after {second} seconds")
            clock.advance(1)
        equal(await store.revision() - start, 290, "one revision for each lease that ended by itself")


async def check_the_wall_clock_does_not_matter(make: MakeStore) -> None:
    """An operator sets the clock back a year and on two: no lease ends early, none lives longer."""
    clock = ManualClock()
    async with make(clock) as store:
        lease = await store.lease(10)
        await put(store, "a", lease=lease.id)
        clock.advance(5)
        for days in (-365, 730):
            clock.set_wall(clock.now() + timedelta(days=days))
            equal(await keys(store), ["a"], f"after a step of {days} days")
        clock.advance(5)
        equal(await keys(store), [], "at its time")


CHECKS = (
    check_a_lease_ends_with_its_keys,
    check_reading_never_sees_a_dead_lease,
    check_renewing,
    check_revoking,
    check_a_key_changes_its_lease,
    check_the_fence,
    check_times_to_live,
    check_many_leases_end_in_order,
    check_the_wall_clock_does_not_matter,
)


async def check_a_restart_keeps_everything(make: MakeStore) -> None:
    """Records, versions, revisions, history for watchers and the compaction are as they were."""
    async with make(ManualClock()) as store:
        await store.commit([], [Put("a", b"1"), Put("b", b"\0\xff")])
        await put(store, "a", b"2")
        await store.commit([], [Delete("b")])
        await put(store, "c", b"4")
        await store.compact(2)
        before = await store.list("")
    async with make(ManualClock()) as store:
        equal(await store.list(""), before, "the list")
        equal(await store.get("a"), Record("a", b"2", 2, 2), "a record")
        async with store.watch("", 1) as events:
            equal([e.revision for e in await take(events, 3)], [2, 3, 4], "the history")
        async with store.watch("", 0) as events:
            with refused(Compacted, compacted=2):
                await anext(events)
        equal(await put(store, "d"), 5, "the next revision")


async def check_a_restart_keeps_leases(make: MakeStore) -> None:
    """A lease has after a restart the time that it had left; its keys still hang on it; epochs go on."""
    clock = ManualClock()
    async with make(clock) as store:
        lease, brief = await store.lease(60), await store.lease(20)
        await store.commit([], [Put("a", b"", lease=lease.id), Put("b", b"", lease=brief.id)])
        clock.advance(15)
    clock = ManualClock()  # another boot: its monotonic time starts again
    clock.set_wall(clock.now() - timedelta(days=3))
    async with make(clock) as store:
        clock.advance(4.9)
        equal(await keys(store), ["a", "b"], "19.9 seconds into both leases")
        clock.advance(0.1)
        equal(await keys(store), ["a"], "20 seconds into both")
        await store.renew(lease)
        later = await store.lease(10)
        true(later.epoch > brief.epoch > lease.epoch, "epochs grow over restarts")
        clock.advance(59)
        equal(await keys(store), ["a"], "59 seconds after the renewal")
        clock.advance(1)
        equal(await keys(store), [], "60 seconds after it")


async def check_restarts_bring_a_lease_to_its_end(make: MakeStore) -> None:
    """Many short runs add up: a lease that nobody renews does not live for ever."""
    clock = ManualClock()
    async with make(clock) as store:
        await put(store, "a", lease=(await store.lease(60)).id)
    for run in range(12):
        clock = ManualClock()
        async with make(clock) as store:
            equal(await keys(store), ["a"], f"at the start of run {run}")
            clock.advance(5)
    async with make(ManualClock()) as store:
        equal(await keys(store), [], "after twelve runs of five seconds")


async def check_epochs_are_never_given_twice(make: MakeStore) -> None:
    """Also when all leases have ended before the restart."""
    epochs: list[int] = []
    for _ in range(3):
        async with make(ManualClock()) as store:
            lease = await store.lease(10)
            epochs.append(lease.epoch)
            await store.revoke(lease)
    equal(epochs, sorted(set(epochs)), "the epochs")


DURABLE_CHECKS = (
    check_a_restart_keeps_everything,
    check_a_restart_keeps_leases,
    check_restarts_bring_a_lease_to_its_end,
    check_epochs_are_never_given_twice,
)
