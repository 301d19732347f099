"""The client that probes HTTP(S) endpoints. This module alone imports aiohttp.

Each probe opens its own connection, as a new caller would: a server that only serves the connections it
already has is down. A failure is an answer here, not an exception: one word that says what kind it was.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from msgspec import Struct

from steersman.drivers.host.certificate import expires_at
from steersman.drivers.host.options import Endpoint

BODY_MAX_BYTES = 256 * 1024
"""What is read of an answer; the rest is not waited for, and an endless answer is still an answer."""
CONNECTIONS_MAX = 64
REDIRECTS_MAX = 5
HEADER_MAX_BYTES = 16 * 1024


_peer_expiry: ContextVar[datetime | None] = ContextVar("peer_expiry", default=None)


class _Connector(aiohttp.TCPConnector):
    """Notes the expiry of the peer's certificate while there is a connection: a short answer has given it
    back before anybody can ask."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        transport = connection.transport
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport is not None else None
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        _peer_expiry.set(expires_at(der) if der else None)
        return connection


class ProbeAnswer(Struct, frozen=True):
    """What one probe found. `latency_s` is from the first packet to the last byte read, None without an
    answer. `error` is "" where all is well, else a word: refused, timeout, dns, tls, closed, truncated,
    protocol, redirects, unreachable, text_missing, or `status N`."""

    latency_s: float | None = None
    status: int | None = None
    error: str = ""
    tls_expires_at: datetime | None = None


class ProbeClient:
    """Sends probes. `monotonic` measures latency."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._session: aiohttp.ClientSession | None = None

    async def probe(self, endpoint: Endpoint) -> ProbeAnswer:
        """One request and its judgement, within the endpoint's time-out. Cancelling closes the connection."""
        began_s = self._monotonic()
        try:
            async with asyncio.timeout(endpoint.timeout):
                return await self._ask(endpoint, began_s)
        except TimeoutError:
            return ProbeAnswer(error="timeout")
        except aiohttp.ClientError as error:
            return ProbeAnswer(error=_word(error))
        except (ValueError, OSError, asyncio.LimitOverrunError) as error:  # an answer that is not HTTP at all
            return ProbeAnswer(error="unreachable" if isinstance(error, OSError) else "protocol")

    async def close(self) -> None:
        """Close the session. Repeating it does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, endpoint: Endpoint, began_s: float) -> ProbeAnswer:
        _peer_expiry.set(None)
        headers = {"Accept-Encoding": "identity", "User-Agent": "steersman-probe"}
        if endpoint.header and endpoint.header_value is not None:
            headers[endpoint.header] = endpoint.header_value.reveal()
        async with self._opened().request(
            endpoint.method,
            endpoint.url,
            headers=headers,
            allow_redirects=endpoint.follow_redirects,
            max_redirects=REDIRECTS_MAX,
            ssl=endpoint.verify_tls,
        ) as response:
            body = await _read_bounded(response)
            latency_s = self._monotonic() - began_s
        expiry = _peer_expiry.get()
        error = ""
        if response.status not in endpoint.expect_status:
            error = f"status {response.status}"
        elif endpoint.expect_text is not None and endpoint.expect_text.encode() not in body:
            error = "text_missing"
        return ProbeAnswer(latency_s, response.status, error, expiry)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=CONNECTIONS_MAX, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None),  # the probe has its own
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                max_line_size=HEADER_MAX_BYTES,
                max_field_size=HEADER_MAX_BYTES,
            )
        return self._session


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while len(body) < BODY_MAX_BYTES:
        chunk = await response.content.read(BODY_MAX_BYTES - len(body))
        if not chunk:
            return bytes(body)
        body += chunk
    response.close()  # there is more, and nobody needs it
    return bytes(body)


def _word(error: aiohttp.ClientError) -> str:
    """The kind of a failure in one word. The error's own text may hold the URL, which may hold a secret."""
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "refused" if isinstance(error.os_error, ConnectionRefusedError) else "unreachable"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "redirects"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "closed"
    return "truncated" if isinstance(error, aiohttp.ClientPayloadError) else "protocol"
