"""The two ways to carry a call: blocking and asynchronous. The only module that knows the HTTP library.

The library takes a quarter of a second to import, so it is imported when the first connection is made.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from steersman.client.calls import Call, check
from steersman.client.errors import (
    AnswerTimedOut,
    ApiTooMany,
    ApiUnavailable,
    BadAnswer,
    NotReachable,
    error_of,
)
from steersman.client.watching import SILENCE_MAX_S
from steersman.kernel.bounds import MIB
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kernel.ids import Rng, system_rng
from steersman.kernel.retry import Backoff

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 256 * MIB
"""Largest answer that is read into memory: ten times the largest page."""
ATTEMPTS = 3
RETRY = Backoff(first_s=0.2, max_s=2.0)
CONNECTIONS_MAX = 20
POOL_SHARE = 0.9
"""How much of its time a call may wait for a free connection: less than all, so that the error can say so."""


def base_url(server: str) -> str:
    """A server's address, checked. Raises `InvalidInput`."""
    parts = urlsplit(server if "://" in server else f"http://{server}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise InvalidInput("the server's address can't be read; write it as http://127.0.0.1:7440")
    if parts.username or parts.password:
        raise InvalidInput("the server's address must not hold credentials; give a token instead")
    if parts.query or parts.fragment:
        raise InvalidInput("the server's address must not hold a query or fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class _Shared:
    """What both transports have in common: the address, the headers, and what an error means."""

    def __init__(self, server: str, token: str | None, user_agent: str, rng: Rng | None) -> None:
        self.address = base_url(server)
        self.rng = rng or system_rng()
        self._headers = {"user-agent": user_agent, "accept": "application/json"}
        if token:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise InvalidInput("the token holds characters that no token has; check how it was copied")
            self._headers["authorization"] = f"Bearer {token}"

    def options(self) -> dict[str, Any]:
        """How the library's clients are made."""
        import httpx2  # see the module's docstring

        return {
            "headers": self._headers,
            "follow_redirects": False,  # the token must not travel to where somebody else points
            "limits": httpx2.Limits(
                max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX
            ),
            # A proxy from the environment is for the world outside, never for this machine.
            "trust_env": not _is_local(self.address),
        }

    def request(self, call: Call[Any], *, stream: bool) -> dict[str, Any]:
        """A call as the library's arguments."""
        import httpx2  # see the module's docstring

        read_s = SILENCE_MAX_S if stream else call.timeout_s
        return {
            "method": call.method,
            "url": self.address + call.path,
            "content": call.body,
            "headers": call.headers,
            "timeout": httpx2.Timeout(
                call.timeout_s, connect=CONNECT_TIMEOUT_S, read=read_s, pool=POOL_SHARE * call.timeout_s
            ),
        }

    def meant(self, error: Exception, call: Call[Any]) -> SteersmanError:
        """A failure of the library as one of ours."""
        import httpx2  # see the module's docstring

        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return NotReachable(
                f"no Steersman answers at {self.address}; is it running? `steersman up` starts one",
                server=self.address,
            )
        if isinstance(error, httpx2.PoolTimeout):
            return AnswerTimedOut(
                f"all {CONNECTIONS_MAX} connections of this client are in use (an open watch holds one); end "
                "some, or use another client",
                server=self.address,
            )
        if isinstance(error, httpx2.TimeoutException | TimeoutError):
            return AnswerTimedOut(
                f"{self.address} did not answer {call.method} {call.path.partition('?')[0]} within its time",
                server=self.address,
            )
        return NotReachable(
            f"the connection to {self.address} was cut before the answer was complete", server=self.address
        )

    def delay_s(self, call: Call[Any], error: SteersmanError, attempt: int) -> float | None:
        """How long to wait before the call is tried again; None where it must not be."""
        passing = isinstance(error, NotReachable | AnswerTimedOut | ApiUnavailable | ApiTooMany)
        if not call.repeatable or not passing or attempt >= ATTEMPTS:
            return None
        if isinstance(error, NotReachable) and attempt == 1 and "is it running" in error.detail:
            return None  # nobody listens: that does not pass in a second, and people wait for the answer
        asked_s = error.facts.get("retry_after_s", 0)
        if isinstance(asked_s, int | float) and asked_s > RETRY.max_s:
            return None
        return max(RETRY.delay_s(attempt, self.rng), float(asked_s) if asked_s else 0.0)


class Transport(_Shared):
    """Blocking. May be used from several threads; `close` from any of them ends the waits of the others."""

    def __init__(self, server: str, token: str | None, user_agent: str, rng: Rng | None = None) -> None:
        super().__init__(server, token, user_agent, rng)
        self._client: httpx2.Client | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def run(self, call: Call[T]) -> T:
        """The call's result. Raises `ApiError`s, `NotReachable`, `AnswerTimedOut`, `BadAnswer`."""
        attempt = 0
        while True:
            attempt += 1
            end_s = self.now_s() + call.timeout_s
            try:
                with self._open(call, stream=False) as response:
                    body = _within(self._in_time(response.iter_bytes(), call, end_s))
                    return call.read(check(response.status_code, body))
            except SteersmanError as error:
                delay_s = self.delay_s(call, error, attempt)
                if delay_s is None:
                    raise
            self.pause(delay_s)

    @contextmanager
    def stream(self, call: Call[Any]) -> Generator[Iterator[bytes]]:
        """The bytes of an answer without end, as they come. Leaving the context ends it."""
        with self._open(call, stream=True) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, _within(response.iter_bytes()))
            check_stream(call, response.headers)
            yield self._translated(response.iter_raw(), call)

    def pause(self, seconds: float) -> None:
        """Wait; shorter where the client is closed meanwhile."""
        self._closed.wait(seconds)

    def now_s(self) -> float:
        """Monotonic time."""
        return time.monotonic()  # noqa: TID251 - a blocking client has no event loop's clock to ask

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Close all connections. Repeating it does nothing."""
        self._closed.set()
        with self._lock:
            if self._client is not None:
                self._client.close()

    @contextmanager
    def _open(self, call: Call[Any], *, stream: bool) -> Generator[httpx2.Response]:
        import httpx2  # see the module's docstring

        client = self._connected()
        try:
            with client.stream(**self.request(call, stream=stream)) as response:
                yield response
        except httpx2.HTTPError as error:
            raise self.meant(error, call) from error

    def _translated(self, chunks: Iterator[bytes], call: Call[Any]) -> Iterator[bytes]:
        import httpx2  # see the module's docstring

        try:
            yield from chunks
        except httpx2.HTTPError as error:
            raise self.meant(error, call) from error

    def _in_time(self, chunks: Iterator[bytes], call: Call[Any], end_s: float) -> Iterator[bytes]:
        """The chunks, as long as the call has time: each alone may come in time and the whole never end."""
        for chunk in chunks:
            if self.now_s() > end_s:
                raise self.meant(TimeoutError(), call)
            yield chunk

    def _connected(self) -> httpx2.Client:
        import httpx2  # see the module's docstring

        with self._lock:
            if self._closed.is_set():
                raise NotReachable("this client is closed; make a new one")
            if self._client is None:
                self._client = httpx2.Client(**self.options())
            return self._client


class AsyncTransport(_Shared):
    """Asynchronous, for one event loop."""

    def __init__(self, server: str, token: str | None, user_agent: str, rng: Rng | None = None) -> None:
        super().__init__(server, token, user_agent, rng)
        self._client: httpx2.AsyncClient | None = None
        self._closed = False

    async def run(self, call: Call[T]) -> T:
        """The call's result. Raises `ApiError`s, `NotReachable`, `AnswerTimedOut`, `BadAnswer`."""
        attempt = 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(call.timeout_s):
                    async with self._open(call, stream=False) as response:
                        body = await _within_async(response.aiter_bytes())
                        return call.read(check(response.status_code, body))
            except TimeoutError as error:
                failure = self.meant(error, call)
            except SteersmanError as error:
                failure = error
            delay_s = self.delay_s(call, failure, attempt)
            if delay_s is None:
                raise failure
            await self.pause(delay_s)

    @asynccontextmanager
    async def stream(self, call: Call[Any]) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The bytes of an answer without end, as they come. Leaving the context ends it."""
        async with self._open(call, stream=True) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, await _within_async(response.aiter_bytes()))
            check_stream(call, response.headers)
            yield response.aiter_raw()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)  # noqa: TID251 - a client stands alone: it has no injected Clock

    def now_s(self) -> float:
        """Monotonic time: the event loop's."""
        return asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Close all connections. Repeating it does nothing."""
        self._closed = True
        if self._client is not None:
            await self._client.aclose()

    @asynccontextmanager
    async def _open(self, call: Call[Any], *, stream: bool) -> AsyncGenerator[httpx2.Response]:
        import httpx2  # see the module's docstring

        if self._closed:
            raise NotReachable("this client is closed; make a new one")
        if self._client is None:
            self._client = httpx2.AsyncClient(**self.options())
        try:
            async with self._client.stream(**self.request(call, stream=stream)) as response:
                yield response
        except httpx2.HTTPError as error:
            raise self.meant(error, call) from error


def check_stream(call: Call[Any], headers: Mapping[str, str]) -> None:
    """Raise `BadAnswer` where an answer without end is not of the kind that was asked for."""
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = headers.get("content-encoding", "identity")
    if given != call.media_type or encoding != "identity":
        raise BadAnswer(
            f"the answer is {given[:80] or 'of no type'} ({encoding[:40]}), not {call.media_type}; is it a "
            "Steersman that answers, and does a proxy leave streams alone?"
        )


def _within(chunks: Iterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > ANSWER_MAX_BYTES:
            raise BadAnswer(f"the answer has more than {ANSWER_MAX_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


async def _within_async(chunks: AsyncIterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > ANSWER_MAX_BYTES:
            raise BadAnswer(f"the answer has more than {ANSWER_MAX_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _is_local(address: str) -> bool:
    host = (urlsplit(address).hostname or "").rstrip(".")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or ip.is_unspecified
