"""Finding out who holds up the event loop.

A coroutine runs in steps, from one await to the next, and while a step runs nothing else does. `Stepped`
wraps a coroutine and keeps the length of its longest step, so that a blocking call is charged to the one
who made it and not to whoever waited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Stepped(Coroutine[Any, Any, T]):
    """The coroutine it wraps, measured: give it to a task in its place.

    `longest_step_s` is real time (the event loop's own time may stand still during a step).
    """

    def __init__(
        self, coro: Coroutine[Any, Any, T], measure: Callable[[], float] = time.perf_counter
    ) -> None:
        self._coro = coro
        self._measure = measure
        self.longest_step_s = 0.0

    def send(self, value: Any) -> Any:
        """Run one step."""
        began_s = self._measure()
        try:
            return self._coro.send(value)
        finally:
            self._note(began_s)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        """Run one step that begins with an exception."""
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        began_s = self._measure()
        try:
            return self._coro.throw(error if tb is None else error.with_traceback(tb))
        finally:
            self._note(began_s)

    def close(self) -> None:
        """End the coroutine without running it further."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coro.__await__()

    def _note(self, began_s: float) -> None:
        self.longest_step_s = max(self.longest_step_s, self._measure() - began_s)
