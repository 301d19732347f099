"""A lane: one owned thread that does one driver's blocking work, one piece at a time.

Files, psutil and device libraries block, and some of them for ever (a dead disk, a wedged device). The
event loop waits beside the lane, under a time-out; a piece that has not ended by then keeps its lane, and
later calls wait for it, each under a time-out of its own, instead of piling up behind it. So a wedged device
costs one thread, and the other parts of a source, which have lanes of their own, do not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from steersman.drivers.api import SourceError
from steersman.kernel.tasks import OwnedThread

T = TypeVar("T")

CLOSE_TIMEOUT_S = 2.0
"""How long closing a lane waits for the piece that still runs in it."""

_TURN_S = 0.0005


class Lane:
    """Runs blocking calls of one owner. `name` names the thread; `place` is said in errors."""

    def __init__(self, name: str, place: str) -> None:
        self._name = name
        self._place = place
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: OwnedThread | None = None
        self._free: asyncio.Event | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a piece runs now, perhaps one whose caller has gone."""
        return self._free is not None and not self._free.is_set()

    @property
    def started(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """The answer of `work`, done in the lane's thread. Its own errors pass as they are.

        Raises `SourceError` where it takes longer than `timeout_s`, where an earlier piece does not end in
        that time, and after `close`. A cancelled caller leaves the piece to end by itself; its answer is
        dropped.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        asked = False
        try:
            async with asyncio.timeout(timeout_s):
                free = await self._ready()
                asked = True
                self._start(work, answer, free, loop)
                return await answer
        except TimeoutError as error:
            if answer.done() and not answer.cancelled():
                raise  # the work's own
            if asked:
                raise SourceError(f"{self._place} gave no answer within {timeout_s:g} s") from error
            raise SourceError(
                f"{self._place} still hangs in an earlier reading; not asked again until that ends"
            ) from error

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the thread. Repeating it does nothing. Raises `TasksLeft` where the piece in it hangs."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        # The last piece tells the loop, so that waiting here takes no second thread.
        self._todo.put(lambda: _tell(loop, lambda: None if ended.done() else ended.set_result(None)))
        self._stop()
        try:
            async with asyncio.timeout(timeout_s):
                await ended
                while thread.alive:  # between its last piece and its end a thread only leaves a loop
                    await _turn(loop)
        except TimeoutError:
            pass  # thread.close says it with the thread's name
        finally:
            thread.close(timeout_s=0.0)

    async def _ready(self) -> asyncio.Event:
        """Wait until the lane is free and has a thread; the mark that says so. Raises `SourceError` after
        `close`."""
        if self._free is None:
            self._free = asyncio.Event()
            self._free.set()
        while not self._free.is_set():
            await self._free.wait()
        if self._closed:
            raise SourceError(f"{self._place}: the driver is closed")
        if self._thread is None:
            self._thread = OwnedThread(self._name, self._work, self._stop).start()
        return self._free

    def _start(
        self,
        work: Callable[[], T],
        answer: asyncio.Future[T],
        free: asyncio.Event,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Hand `work` to the thread; `answer` is settled in the loop."""
        free.clear()

        def settle(value: T | None, error: BaseException | None) -> None:
            free.set()
            if answer.done():
                return  # the caller was cancelled or ran out of time
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)  # type: ignore[arg-type]  # no error: it is work's answer

        def piece() -> None:
            value: T | None = None
            failure: BaseException | None = None
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                failure = error
            _tell(loop, lambda: settle(value, failure))

        self._todo.put(piece)

    def _stop(self) -> None:
        self._todo.put(None)

    def _work(self) -> None:
        while (piece := self._todo.get()) is not None:
            piece()


async def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let a moment pass without holding the interpreter from the thread that is waited for."""
    passed: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(_TURN_S, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], Any]) -> None:
    """Call `what` in the loop; nobody listens any more where the loop has closed."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        pass
