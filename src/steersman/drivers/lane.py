"""A lane: one owned thread that does one driver's blocking work, one piece at a time.

Files, psutil and device libraries block, and some of them for ever (a dead disk, a wedged device). The
event loop waits beside the lane, under a time-out; a piece that has not ended by then keeps its lane, and
the next call is refused at once instead of piling up behind it. So a wedged device costs one thread, and
the other parts of a source, which have lanes of their own, do not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from steersman.drivers.api import SourceError
from steersman.kernel.tasks import OwnedThread

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0
"""How long closing a lane waits for the piece that still runs in it."""


class Lane:
    """Runs blocking calls of one owner. `name` names the thread; `place` is said in errors."""

    def __init__(self, name: str, place: str) -> None:
        self._name = name
        self._place = place
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: OwnedThread | None = None
        self._busy = False
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a piece runs now, perhaps one whose caller has gone."""
        return self._busy

    @property
    def started(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """The answer of `work`, done in the lane's thread. Its own errors pass as they are.

        Raises `SourceError` where it takes longer than `timeout_s`, where an earlier piece still has not
        ended, and after `close`. A cancelled caller leaves the piece to end by itself; its answer is dropped.
        """
        if self._closed:
            raise SourceError(f"{self._place}: the driver is closed")
        if self._busy:
            raise SourceError(
                f"{self._place} still hangs in an earlier reading; not asked again until that ends"
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._busy = True

        def settle(value: T | None, error: BaseException | None) -> None:
            self._busy = False
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

        if self._thread is None:
            self._thread = OwnedThread(self._name, self._work, self._stop).start()
        self._todo.put(piece)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            if answer.done() and not answer.cancelled():
                raise  # the work's own
            raise SourceError(f"{self._place} gave no answer within {timeout_s:g} s") from error

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the thread. Repeating it does nothing. Raises `TasksLeft` where the piece in it hangs."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        # The last piece tells the loop, so that waiting here takes no second thread.
        self._todo.put(lambda: _tell(loop, lambda: None if ended.done() else ended.set_result(None)))
        self._stop()
        try:
            async with asyncio.timeout(timeout_s):
                await ended
        except TimeoutError:
            pass  # thread.close says it with the thread's name
        finally:
            thread.close(timeout_s=_LAST_STEP_S if ended.done() else 0.0)

    def _stop(self) -> None:
        self._todo.put(None)

    def _work(self) -> None:
        while (piece := self._todo.get()) is not None:
            piece()


_LAST_STEP_S = 1.0  # between its last piece and its end a thread only leaves a loop


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], Any]) -> None:
    """Call `what` in the loop; nobody listens any more where the loop has closed."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        pass
