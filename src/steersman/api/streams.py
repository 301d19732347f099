"""Answers without an end: how many may be open, and how each is told to end.

A stream ends for one of four reasons: its reader goes away, this side shuts down and says so, its reader
takes nothing for too long, or the token that it was opened with is revoked or expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from steersman.api.auth import Caller, Tokens
from steersman.api.exchange import Disconnected, Exchange
from steersman.api.metrics import ApiMetrics
from steersman.kernel.errors import TooMany, Unavailable
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import Supervisor

STALL_S = 30.0
"""How long a reader may take nothing before its stream is cut."""
RETRY_AFTER_S = 5
SHUTDOWN = "shutdown"
TOKEN_ENDED = "token_ended"  # noqa: S105 - a word of the protocol
"""Why this side ends a stream, as `bye` says it."""

T = TypeVar("T")

_log = get_logger("api.streams")


class StreamsEnded(Unavailable):
    """The server shuts down and opens no stream any more."""

    code = "streams_ended"
    title = "Shutting down"


class TooManyStreams(TooMany):
    """The bound on open streams is reached (`server.streams_max`). `facts`: `limit`, `retry_after_s`."""

    code = "too_many_streams"
    title = "Too many streams"


class Line:
    """One open stream. `ending` is why it is to end; "" while it goes on. `may_go_on` answers whether its
    caller may still be told anything."""

    def __init__(self, exchange: Exchange, may_go_on: Callable[[], bool]) -> None:
        self._exchange = exchange
        self._may_go_on = may_go_on
        self.ending = ""
        self._gone = False
        self._waiting: asyncio.Timeout | None = None

    @property
    def may_tell(self) -> bool:
        """Whether what has come so far may still be told; at a shutdown it may."""
        return self.ending != TOKEN_ENDED

    def end(self, reason: str) -> None:
        """Ask it to end, with a proper last word."""
        self.ending = self.ending or reason
        self._interrupt()

    def hang_up(self) -> None:
        """The reader has gone: end without a word."""
        self._gone = True
        self._interrupt()

    async def wait(self, call: Callable[[], Awaitable[T]], seconds: float) -> T | None:
        """What the call gives; None where it did not come in time, or the stream is to end (what the call
        gave is left out then). Raises `Disconnected` where the reader has gone."""
        result: T | None = None
        if not (self._gone or self.ending):  # else a busy feed would never let it end
            try:
                async with asyncio.timeout(seconds) as self._waiting:
                    result = await call()
            except TimeoutError:
                pass
            finally:
                self._waiting = None
        if self._gone:
            raise Disconnected
        if not self._may_go_on():
            self.ending = self.ending or TOKEN_ENDED
            return None
        return result

    async def send(self, data: bytes, *, more: bool = True) -> None:
        """Write, waiting at most `STALL_S` for a reader that is slow. Raises `TimeoutError`."""
        async with asyncio.timeout(STALL_S):
            await self._exchange.write(data, more=more)

    def _interrupt(self) -> None:
        if self._waiting is not None and not self._waiting.expired():  # else it ends by itself just now
            self._waiting.reschedule(asyncio.get_running_loop().time())


class Lines:
    """All open streams of one API."""

    def __init__(self, supervisor: Supervisor, tokens: Tokens, metrics: ApiMetrics, streams_max: int) -> None:
        self._supervisor = supervisor
        self._tokens = tokens
        self._metrics = metrics
        self._streams_max = streams_max
        self._open: set[Line] = set()
        self._closing = ""

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def open(self, exchange: Exchange) -> AsyncGenerator[Line]:
        """A stream, for as long as the context lasts. Raises `TooManyStreams`, `StreamsEnded`; a reader that
        stalls becomes `Disconnected`."""
        if self._closing:
            raise StreamsEnded(f"no new streams: {self._closing}")
        if len(self._open) >= self._streams_max:
            raise TooManyStreams(
                f"{self._streams_max} streams are open, which is the bound (server.streams_max)",
                limit=self._streams_max,
                retry_after_s=RETRY_AFTER_S,
            )
        line = Line(exchange, partial(self._lives, exchange.caller))
        # The server tells of a reader that went away only to whoever asks; a stream that waits must ask too.
        listener = self._supervisor.spawn("api.listener", exchange.gone())
        listener.add_done_callback(lambda _: line.hang_up())
        self._open.add(line)
        self._metrics.streams.set(len(self._open))
        try:
            yield line
        except TimeoutError:
            self._metrics.drops.inc()
            _log.warning("stream_stalled", route=exchange.route.path, stalled_s=STALL_S)
            raise Disconnected from None
        finally:
            listener.cancel()
            self._open.discard(line)
            self._metrics.streams.set(len(self._open))

    def _lives(self, caller: Caller | None) -> bool:
        return caller is None or not caller.token or self._tokens.lives(caller.token)

    def end_all(self, reason: str) -> None:
        """Ask every stream to end, and open no more."""
        self._closing = reason
        for line in self._open:
            line.end(reason)
