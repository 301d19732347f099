"""The client of an exposition endpoint: one GET, bounded in time and size. This module alone imports aiohttp.

Every failure is a `SourceError` that names the endpoint and the kind of failure. The library's own texts may
hold the URL with its credentials, so they are not repeated.
"""

from __future__ import annotations

import asyncio
import zlib

import aiohttp
from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.drivers.openmetrics.options import OpenMetricsOptions
from steersman.kernel.clock import Clock

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
"""Formats that we read, best first. The protobuf format is not among them."""
CHUNK_BYTES = 256 * 1024
"""What is read, and what is inflated, before others get their turn: a few hundred bytes of gzip can be a
quarter of a megabyte, and a bomb must not hold up the loop while it is found out."""
HEADER_MAX_BYTES = 16 * 1024
REDIRECTS_MAX = 5

_READABLE = frozenset({"application/openmetrics-text", "text/plain", "application/octet-stream", ""})


class Exposition(Struct, frozen=True):
    """A page as it came. `openmetrics` is whether it says that it is of that format."""

    body: bytes
    openmetrics: bool


class ExpositionClient:
    """Gets the page of one endpoint, over one kept connection."""

    def __init__(self, options: OpenMetricsOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._place = options.place
        self._session: aiohttp.ClientSession | None = None

    async def get(self, timeout_s: float) -> Exposition:
        """The page now. Raises `SourceError`. Cancelling closes the connection."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._get()
        except TimeoutError:
            raise SourceError(f"{self._place} gave no whole answer within {timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise SourceError(f"{self._place}: {_reason(error)}") from None
        except (OSError, ValueError) as error:  # an answer that is not HTTP, a socket that can't be made
            raise SourceError(f"{self._place} can't be read: {type(error).__name__}") from None

    async def close(self) -> None:
        """Close the connection. Repeating it does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self) -> Exposition:
        async with self._opened().get(
            self._options.url,
            headers={"Accept": ACCEPT, "Accept-Encoding": "gzip", **self._options.headers()},
            allow_redirects=self._options.follow_redirects,
            max_redirects=REDIRECTS_MAX,
            ssl=self._options.verify_tls,
        ) as response:
            if response.status != 200:
                raise SourceError(f"{self._place} answered status {response.status}; expected 200")
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind not in _READABLE:
                shown = kind[:64]
                raise SourceError(
                    f"{self._place} answered {shown!r}; expected Prometheus text or OpenMetrics"
                )
            encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding not in ("identity", "gzip", ""):
                raise SourceError(f"{self._place} answered in encoding {encoding[:32]!r}; gzip was asked for")
            body = await self._collect(response.content, gzip=encoding == "gzip")
            return Exposition(body, kind == "application/openmetrics-text")

    async def _collect(self, content: aiohttp.StreamReader, *, gzip: bool) -> bytes:
        """The whole body, decompressed as it comes, so that a small bomb stays small."""
        limit = self._options.max_bytes
        parts: list[bytes] = []
        size = 0
        inflate = zlib.decompressobj(wbits=31) if gzip else None
        async for chunk in content.iter_chunked(CHUNK_BYTES):
            while chunk:
                if inflate is None:
                    part, chunk = chunk, b""
                else:
                    try:
                        part = inflate.decompress(chunk, CHUNK_BYTES)
                    except zlib.error:
                        raise SourceError(f"{self._place}: its gzip is broken") from None
                    chunk = inflate.unconsumed_tail
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise SourceError(f"{self._place}: the page has more than {limit} (max_bytes)")
                if chunk:
                    await self._clock.sleep(0)  # others first
        if inflate is not None and not inflate.eof:
            raise SourceError(f"{self._place}: its gzip is cut short")
        return b"".join(parts)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=2),
                timeout=aiohttp.ClientTimeout(total=None),  # `get` bounds the whole call
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=HEADER_MAX_BYTES,
                max_field_size=HEADER_MAX_BYTES,
            )
        return self._session


def _reason(error: aiohttp.ClientError) -> str:
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
    if isinstance(error, aiohttp.TooManyRedirects):
        return f"more than {REDIRECTS_MAX} redirects"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "it closed the connection before answering"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it closed the connection in the middle of its answer"
    return "its answer is not HTTP"
