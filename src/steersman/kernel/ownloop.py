"""An event loop of its own for code that is not trusted with ours.

Foreign async code may block, and then its loop stands still. Run in a loop and thread of its own, that loop
is nobody else's. What blocks there can't be interrupted either; but the caller is free at once when it is
cancelled, `busy` says that the piece has not really ended, and no second one is begun on top of it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from steersman.kernel.errors import Unavailable
from steersman.kernel.tasks import OwnedThread

T = TypeVar("T")

CLOSE_TIMEOUT_S = 2.0
"""How long closing waits for the piece that still runs, in real time."""


class LoopBusy(Unavailable):
    """An earlier piece has not ended: it blocks, or ignores its cancellation."""

    code = "loop_busy"
    title = "Still busy"


class OwnedLoop:
    """One thread with one event loop, for one piece at a time, and what may run beside it. Made at its first
    `run`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.busy = False
        self._thread: OwnedThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._end: asyncio.Event | None = None

    async def run(self, call: Callable[[], Coroutine[Any, Any, T]], *, beside: bool = False) -> T:
        """The answer of `call`, run over there. Its errors pass as they are. Raises `LoopBusy`.

        `beside`: whether another piece may run meanwhile; it is not refused for one and refuses none.
        Cancelling the caller cancels the piece and does not wait for its end.
        """
        if self.busy and not beside:
            raise LoopBusy(
                f"{self.name} has not ended an earlier piece: it blocks, or ignores its cancellation"
            )
        there = await self._started()
        here = asyncio.get_running_loop()
        answer: asyncio.Future[T] = here.create_future()
        pieces: list[asyncio.Task[T]] = []
        self.busy = self.busy or not beside

        def begin() -> None:
            piece = there.create_task(call(), name=self.name)
            pieces.append(piece)
            piece.add_done_callback(ended)

        def ended(piece: asyncio.Task[T]) -> None:
            self.busy = self.busy and beside
            try:
                here.call_soon_threadsafe(settle, piece)
            except RuntimeError:
                pass  # our loop has closed; nobody waits any more

        def settle(piece: asyncio.Task[T]) -> None:
            error = None if piece.cancelled() else piece.exception()
            if answer.done():
                return  # the caller was cancelled; the piece's outcome has been looked at
            if piece.cancelled():
                answer.cancel()
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(piece.result())

        there.call_soon_threadsafe(begin)
        try:
            return await answer
        except asyncio.CancelledError:
            there.call_soon_threadsafe(lambda: [piece.cancel() for piece in pieces])
            raise

    async def aclose(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End loop and thread. Repeating it does nothing. Raises `TasksLeft` where a piece blocks."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.aclose(timeout_s)

    async def _started(self) -> asyncio.AbstractEventLoop:
        if self._thread is None:
            self._loop = None
            ready = self._ready = concurrent.futures.Future()
            self._thread = OwnedThread(self.name, lambda: asyncio.run(self._serve(ready)), self._stop).start()
        loop = self._loop
        if loop is None:  # shielded: who is cancelled here leaves the others their answer
            loop = await asyncio.shield(asyncio.wrap_future(self._ready))
            self._loop = loop
        return loop

    async def _serve(self, ready: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
        self._end = asyncio.Event()
        ready.set_result(asyncio.get_running_loop())
        await self._end.wait()

    def _stop(self) -> None:
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            try:
                loop.call_soon_threadsafe(end.set)
            except RuntimeError:
                pass  # it has ended by itself
