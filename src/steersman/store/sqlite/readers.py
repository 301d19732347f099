"""A small pool of threads that read, each with a connection of its own.

SQLite reads block, so they may not run on the event loop; and each connection sees a state of the file of its
own, so reading never waits for writing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from msgspec import Struct

from steersman.kernel.clock import Clock
from steersman.kernel.tasks import OwnedThread
from steersman.store import rules
from steersman.store.sqlite import failures, file

T = TypeVar("T")

READERS = 2
READS_MAX = 1024
"""Reads that may be under way or queued; further callers wait their turn."""


class _Read(Struct, eq=False):
    """One read: what to do with a connection, and who waits for it."""

    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class Readers:
    """Runs functions with a reading connection. All methods belong to the event loop's thread."""

    def __init__(self, path: Path, clock: Clock, count: int = READERS) -> None:
        self._path = path
        self._clock = clock
        self._queue: SimpleQueue[_Read | None] = SimpleQueue()
        self._room = asyncio.Semaphore(READS_MAX)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._ended = [self._loop.create_future() for _ in range(count)]
        self._threads = [
            OwnedThread(f"store-reader-{number}", lambda end=end: self._work(end), self._stop).start()
            for number, end in enumerate(self._ended)
        ]

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """What `run` returns or raises; SQLite's errors as `StoreUnavailable`."""
        async with self._room:
            if self._closed:
                raise rules.closed(str(self._path))
            future: asyncio.Future[T] = self._loop.create_future()
            self._queue.put(_Read(run, future))
            return await future

    async def close(self) -> None:
        """Finish the reads that are queued, then end the threads."""
        self._closed = True
        for _ in self._threads:
            self._stop()
        await asyncio.gather(*self._ended)
        for thread in self._threads:
            await join(thread, self._clock)

    def _stop(self) -> None:
        self._queue.put(None)

    def _work(self, ended: asyncio.Future[None]) -> None:
        """The body of a thread."""
        db: sqlite3.Connection | None = None
        try:
            while (read := self._queue.get()) is not None:
                result: Any = None
                error: Exception | None = None
                try:
                    if db is None:
                        db = file.open_reader(self._path)
                    result = read.run(db)
                except sqlite3.Error as sqlite_error:
                    error = failures.from_sqlite(sqlite_error, self._path)
                    error.__cause__ = sqlite_error
                    db = _closed(db)
                except Exception as other:  # noqa: BLE001 - it is the caller's, who waits in another thread
                    error = other
                self._loop.call_soon_threadsafe(_settle, read.future, result, error)
                del read, result, error  # nothing is kept alive while waiting
        finally:
            _closed(db)
            self._loop.call_soon_threadsafe(ended.set_result, None)


async def join(thread: OwnedThread, clock: Clock) -> None:
    """Join a thread that has said it is done: what is left of it are a few steps of the interpreter's own."""
    while thread.alive:
        await clock.sleep(0)
    thread.close()


def _closed(db: sqlite3.Connection | None) -> None:
    """Close a connection; a new one is opened at the next read."""
    if db is not None:
        db.close()


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # its caller was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
