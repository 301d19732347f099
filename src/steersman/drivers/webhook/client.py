"""The client of a receiver: one POST, bounded in time and size. This module alone imports aiohttp.

The library's own texts may hold the URL, so they are not repeated. Redirects are not followed: where they
lead was not checked. Nothing of an answer is used but its status and `Retry-After`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct

from steersman.drivers.webhook.message import Message
from steersman.drivers.webhook.targets import Address, Targets, read_address, refusal
from steersman.kernel.bounds import KIB
from steersman.kernel.clock import Clock, as_utc
from steersman.kernel.errors import Unavailable

TIMEOUT_S = 10.0
"""For a whole attempt: name, connection, answer."""
ANSWER_MAX_BYTES = 64 * KIB
"""What is read of an answer, so that its connection can be kept; over that it is closed."""
HEADER_MAX_BYTES = 16 * KIB
CONNECTIONS_MAX = 16
RESOLVED_MAX = 256
"""Addresses of one receiver's name that are remembered as allowed."""
RETRY_AFTER_MAX_S = 3600.0
"""No receiver may silence itself for longer with one answer."""


class WebhookFailed(Unavailable):
    """An attempt came to no answer: no name, no connection, no time. What the receiver got is not known."""

    code = "webhook_failed"
    title = "Receiver not reached"


class Answer(Struct, frozen=True):
    """What a receiver answered. `retry_after_s`: how long it asks to be left alone, within our bound."""

    status: int
    retry_after_s: float = 0.0

    @property
    def taken(self) -> bool:
        """Whether it took the event."""
        return 200 <= self.status < 300


class WebhookClient:
    """Sends to the receiver of one subscription, so that none waits for another's connections."""

    def __init__(self, targets: Targets, clock: Clock, *, resolver: AbstractResolver | None = None) -> None:
        self._targets = targets
        self._clock = clock
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._resolved: OrderedDict[Address, None] = OrderedDict()

    async def post(self, url: str, message: Message, timeout_s: float = TIMEOUT_S) -> Answer:
        """One attempt. Raises `WebhookFailed`, `TargetRefused`, `UrlInvalid`."""
        self._targets.check_url(url)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._post(url, message)
        except TimeoutError:
            raise WebhookFailed(f"the receiver gave no answer within {timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _AddressRefused):
                raise error.os_error.refusal from None
            raise WebhookFailed(f"the receiver: {_reason(error)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, _AddressRefused):
                raise error.refusal from None
            raise WebhookFailed(f"the receiver: {_reason(error)}") from None

    async def close(self) -> None:
        """Close its connections. Repeating it does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, url: str, message: Message) -> Answer:
        async with self._opened().post(
            url, data=message.body, headers=message.headers, allow_redirects=False
        ) as response:
            size = 0
            async for chunk in response.content.iter_chunked(KIB * 16):
                size += len(chunk)
                if size > ANSWER_MAX_BYTES:
                    response.close()
                    break
            retry_after_s = 0.0
            if response.status in (429, 503):
                retry_after_s = self._retry_after_s(response.headers.get("retry-after", ""))
            return Answer(response.status, retry_after_s)

    def _retry_after_s(self, text: str) -> float:
        """Seconds or a date (RFC 9110, 10.2.3), within our bound; 0 for what is neither."""
        text = text.strip()
        if text.isascii() and text.isdigit():
            seconds = float(text[:9])
        else:
            try:
                seconds = (as_utc(parsedate_to_datetime(text)) - self._clock.now()).total_seconds()
            except (ValueError, TypeError, IndexError):
                return 0.0
        return min(max(0.0, seconds), RETRY_AFTER_MAX_S)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = self._resolver or aiohttp.ThreadedResolver()
            checked = CheckedResolver(resolver, self._targets, self._note)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX,
                    resolver=checked,
                    use_dns_cache=False,  # each connection is judged by what is resolved for it
                    socket_factory=self._socket,
                ),
                timeout=aiohttp.ClientTimeout(total=None),  # `post` bounds the whole call
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                max_line_size=HEADER_MAX_BYTES,
                max_field_size=HEADER_MAX_BYTES,
            )
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        """A socket for one address that is about to be connected to, which the resolver has let through or
        the URL names: the last look, on the address itself."""
        family, kind, protocol, _, place = info
        address = read_address(str(place[0]))
        # Which host it is for is not known here: what a name that is allowed resolved to was noted.
        if address is None or not (address in self._resolved or self._targets.takes("", address)):
            raise _AddressRefused(str(place[0]))
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setblocking(False)
        return made

    def _note(self, address: Address) -> None:
        self._resolved[address] = None
        self._resolved.move_to_end(address)
        if len(self._resolved) > RESOLVED_MAX:
            self._resolved.popitem(last=False)


class CheckedResolver(AbstractResolver):
    """Resolves a name and gives only addresses that may be connected to. The connection is made to one of
    these very addresses, so a name that changes in between gains nothing."""

    def __init__(self, inner: AbstractResolver, targets: Targets, note: Callable[[Address], None]) -> None:
        self._inner = inner
        self._targets = targets
        self._note = note

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The allowed addresses. Raises OSError where the name is not known or none is allowed."""
        found = await self._inner.resolve(host, port, family)
        allowed = [one for one in found if self._allowed(host, one["host"])]
        if found and not allowed:
            raise _AddressRefused(host)
        return allowed

    async def close(self) -> None:
        """Close the inner one."""
        await self._inner.close()

    def _allowed(self, host: str, text: str) -> bool:
        address = read_address(text)
        if address is None or not self._targets.takes(host, address):
            return False
        self._note(address)
        return True


class _AddressRefused(OSError):
    """A refusal in the shape that the library passes on from where it resolves and connects."""

    def __init__(self, target: str) -> None:
        super().__init__("address not allowed")
        self.refusal = refusal(target)


def _reason(error: Exception) -> str:
    """The kind of a failure, in words of our own."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "no TLS connection could be made"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)
        return "the connection was refused" if refused else "no connection could be made"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "it closed the connection before answering"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it closed the connection in the middle of its answer"
    return "its answer is not HTTP" if isinstance(error, aiohttp.ClientError) else type(error).__name__
