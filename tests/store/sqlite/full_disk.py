"""The program that test_faults.py runs on a disk that is really full: `full_disk.py FOLDER disk|limit`.

With `disk` the folder is a small file system, with `limit` the process may write files only up to a size.
It fails with a traceback where the store breaks its word.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Put, StoreUnavailable
from steersman.store.sqlite import SqliteStore
from steersman.store.sqlite.failures import StoreFull
from steersman.testing.store_expect import put, refused

KIB = 1024
FILLER_BYTES = 1024 * KIB
LIMIT_BYTES = 2048 * KIB


def fill(folder: Path, how: str) -> None:
    if how == "disk":
        (folder / "filler").write_bytes(bytes(FILLER_BYTES))
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))


def make_space(folder: Path, how: str) -> None:
    if how == "disk":
        (folder / "filler").unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def write_until_full(store: SqliteStore, acknowledged: dict[str, bytes]) -> StoreFull:
    for number in range(10_000):
        key, value = f"k/{number:05d}", bytes([number % 251]) * 16 * KIB
        try:
            await store.commit([], [Put(key, value)])
        except StoreFull as error:
            return error
        acknowledged[key] = value
    raise AssertionError("the disk did not get full")


async def contents(store: SqliteStore) -> dict[str, bytes]:
    return {record.key: record.value for record in (await store.list("k/")).records}


async def main(folder: Path, how: str) -> None:
    path = folder / "store.db"
    acknowledged: dict[str, bytes] = {}
    fill(folder, how)
    async with SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0)) as store:
        lease = await store.lease(10)
        async with store.watch("k/", 0) as events:
            error = await write_until_full(store, acknowledged)
            assert str(path) in error.detail
            assert error.facts["file"] == str(path)
            assert error.facts["outcome"] == ("not_done" if how == "disk" else "unknown"), error.facts
            assert await contents(store) == acknowledged, "reading goes on, and shows what was acknowledged"
            assert (await store.get("k/00000")) is not None

            # Commits that share a transaction with one that can't fit are judged each by itself.
            big = {f"k/big{n}": bytes(2048 * KIB) for n in range(3)}
            small = {f"k/small{n}": b"s" for n in range(30)}

            async def one(key: str, value: bytes) -> StoreUnavailable | None:
                try:
                    await store.commit([], [Put(key, value)])
                except StoreUnavailable as refused:
                    return refused
                acknowledged[key] = value
                return None

            outcomes = await asyncio.gather(*(one(k, v) for k, v in (small | big).items()))
            assert all(isinstance(outcome, StoreFull) for outcome in outcomes[-3:]), outcomes[-3:]
            if how == "disk":
                assert any(outcome is None for outcome in outcomes[:30]), "small ones found room"
            assert await contents(store) == acknowledged

            await store.get("k/00000")
            make_space(folder, how)
            revision = await store.revision()
            assert revision == len(acknowledged)
            assert await store.commit([], [Put("k/after", b"room")]) == revision + 1
            acknowledged["k/after"] = b"room"
            await store.renew(lease)
            seen = [(await anext(events)) for _ in range(len(acknowledged))]
            assert [event.revision for event in seen] == list(range(1, len(acknowledged) + 1))
        await store.check()
    async with SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0)) as store:
        assert await contents(store) == acknowledged
    print(f"ok {len(acknowledged)}")


async def open_on_a_full_disk(folder: Path) -> None:
    """No room even for an empty store: it says so, and works once there is some."""
    for old in folder.glob("store.db*"):
        old.unlink()
    path = folder / "new.db"
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4 * KIB))
        except OSError:
            pass
    with refused(StoreFull, file=str(path)):
        async with SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0)):
            pass
    (folder / "filler").unlink()
    clock = ManualClock()
    async with SqliteStore(path, clock=clock, rng=seeded_rng(0)) as store:
        await put(store, "a", lease=(await store.lease(100)).id)
        clock.advance(50)
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4 * KIB))
            except OSError:
                pass
        # Closing on a full disk is quiet; the lease has at most the time that it had when it was granted.
    (folder / "filler").unlink()
    clock = ManualClock()
    async with SqliteStore(path, clock=clock, rng=seeded_rng(0)) as store:
        assert await store.get("a") is not None
        clock.advance(100)
        assert await store.get("a") is None


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
    if sys.argv[2] == "disk":
        asyncio.run(open_on_a_full_disk(Path(sys.argv[1])))
