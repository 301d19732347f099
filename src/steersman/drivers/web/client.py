"""The client of every driver that speaks HTTP: bounded in time, size, redirects and connections.

Every failure is a `SourceError` that names the place and the kind of failure. The library's own texts may
hold the URL with its credentials, so they are not repeated. Nothing is retried here: intake decides when a
source is asked again.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from steersman.drivers.api import SourceError
from steersman.drivers.web.url import public_url
from steersman.kernel.bounds import KIB, MIB
from steersman.kernel.clock import Clock
from steersman.kernel.quantity import ByteSize
from steersman.kernel.secret import Secret

T = TypeVar("T")

CHUNK_BYTES = 256 * KIB
"""What is read, and what is inflated, before others get their turn: a few hundred bytes of gzip can be a
quarter of a megabyte, and a bomb must not hold up the loop while it is found out."""
HEADER_MAX_BYTES = 16 * KIB
REDIRECTS_MAX = 5
ANSWER_MAX_BYTES = 64 * MIB
LINE_MAX_BYTES = 4 * MIB
"""One line of a stream: the largest object that etcd keeps is 1.5 MiB, its JSON a little more."""
CONNECTIONS_MAX = 4

Headers = Callable[[], Awaitable[Mapping[str, str]]]
"""Asked before each request, so that a token that was renewed on disk is used at once."""


class Tls(Struct, frozen=True):
    """How to trust, and how to be trusted: paths of PEM files. They are read anew for each new connection
    pool and after a failed handshake, so renewed certificates are taken up.

    `ca_pem` and `pair_pem` (certificate and key in one) are for those who hold the text itself.
    `server_name` is the name in the server's certificate where the URL has another.
    """

    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    ca_pem: str | None = None
    pair_pem: Secret | None = None
    server_name: str | None = None

    @property
    def plain(self) -> bool:
        """Whether the system's own trust and no certificate of ours will do."""
        return not (self.ca_file or self.cert_file or self.ca_pem or self.pair_pem)


class Answer(Struct, frozen=True):
    """What came back: status, header values by lower-case name, the whole body, decompressed."""

    place: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The media type, in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self, type: type[T] | Any = Any) -> Any:
        """The body read as JSON into `type`. Raises `SourceError` that says where it is wrong."""
        try:
            return msgspec.json.decode(self.body, type=type)
        except msgspec.ValidationError as error:
            raise SourceError(f"{self.place} answered JSON of another shape: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            what = "nested too deep" if isinstance(error, RecursionError) else "not JSON"
            raise SourceError(f"{self.place}: its answer is {what} ({len(self.body)} bytes)") from None

    def expect(self, *statuses: int) -> Answer:
        """Itself where the status is one of these (200 where none is given), else `SourceError`."""
        if self.status not in (statuses or (200,)):
            wanted = " or ".join(str(status) for status in statuses or (200,))
            raise SourceError(f"{self.place} answered status {self.status}; expected {wanted}")
        return self


class WebClient:
    """Requests to one base URL, or over one unix socket. Closing may be repeated."""

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        headers: Headers | None = None,
        tls: Tls = Tls(),  # noqa: B008 - a frozen value
        unix_socket: str | None = None,
        max_bytes: int = ANSWER_MAX_BYTES,
        follow_redirects: bool = False,
        connections: int = CONNECTIONS_MAX,
    ) -> None:
        self._base = base_url
        self._clock = clock
        self._headers = headers
        self._tls = tls
        self._unix_socket = unix_socket
        self._max_bytes = max_bytes
        self._follow = follow_redirects
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self.place = f"unix:{unix_socket}" if unix_socket else public_url(base_url)
        """Where it goes, as it may be shown."""

    async def get(
        self,
        path: str = "",
        *,
        timeout_s: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The whole answer to a GET. Raises `SourceError`. Cancelling closes the connection."""
        return await self.ask("GET", path, timeout_s=timeout_s, params=params, headers=headers)

    async def ask(
        self,
        method: str,
        path: str = "",
        *,
        timeout_s: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        form: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """The whole answer to a request; any status is one. `path` is put behind the base URL as it is.

        Raises `SourceError` where there is no whole answer: no connection, no time, too large, cut short.
        """
        place = f"{self.place}{path.partition('?')[0]}"
        try:
            with _told(place, timeout_s):
                async with asyncio.timeout(timeout_s):
                    session = await self._opened()
                    async with session.request(
                        method,
                        self._url(path, params),
                        headers={"Accept-Encoding": "gzip", **await self._own_headers(), **(headers or {})},
                        data=body if form is None else aiohttp.FormData(dict(form)),
                        allow_redirects=self._follow,
                        max_redirects=REDIRECTS_MAX,
                        server_hostname=self._tls.server_name,
                    ) as response:
                        whole = await self._collect(place, response, max_bytes or self._max_bytes)
                        found = {name.lower(): value for name, value in response.headers.items()}
                        return Answer(place, response.status, found, whole)
        except SourceError:
            if not self._tls.plain:
                await self.close()  # its certificate may have been renewed on disk
            raise

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        connect_timeout_s: float,
        idle_timeout_s: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Stream]:
        """An answer that is read line by line while it comes. `connect_timeout_s` is for the answer's head,
        `idle_timeout_s` for each wait after that. Raises `SourceError`, also while it is read."""
        place = f"{self.place}{path.partition('?')[0]}"
        with _told(place, connect_timeout_s):
            async with asyncio.timeout(connect_timeout_s):
                session = await self._opened()
                response = await session.get(
                    self._url(path, params),
                    # Not compressed: what comes piece by piece is to be read piece by piece.
                    headers={"Accept-Encoding": "identity", **await self._own_headers(), **(headers or {})},
                    allow_redirects=False,
                    server_hostname=self._tls.server_name,
                )
        try:
            yield Stream(place, response, idle_timeout_s)
        finally:
            response.close()

    async def close(self) -> None:
        """Close its connections. Repeating it does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # ---- inside

    def _url(self, path: str, params: Mapping[str, str] | None) -> URL:
        base, _, query = self._base.partition("?")
        url = URL(base if not path else base.rstrip("/") + path)
        url = url.update_query(query) if query else url
        return url.update_query(params) if params else url

    async def _own_headers(self) -> Mapping[str, str]:
        return await self._headers() if self._headers is not None else {}

    async def _collect(self, place: str, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole body, decompressed as it comes, so that a small bomb stays small."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise SourceError(f"{place} answered in encoding {encoding[:32]!r}; gzip was asked for")
        parts: list[bytes] = []
        size = raw = 0
        inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            raw += len(chunk)
            while chunk:
                if inflate is None:
                    part, chunk = chunk, b""
                else:
                    try:
                        part = inflate.decompress(chunk, CHUNK_BYTES)
                    except zlib.error:
                        raise SourceError(f"{place}: its gzip is broken") from None
                    chunk = inflate.unconsumed_tail
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise SourceError(
                        f"{place}: the answer has more than {ByteSize(limit)} (max_bytes)", limit=int(limit)
                    )
                if chunk:
                    await self._clock.sleep(0)  # others first
        if inflate is not None and not inflate.eof and raw:
            raise SourceError(f"{place}: its gzip is cut short")
        return b"".join(parts)

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trust: ssl.SSLContext | bool = self._tls.verify
            if not self._tls.plain:
                trust = await asyncio.to_thread(_context, self._tls, self.place)
            if self._unix_socket:
                connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
                    self._unix_socket, limit=self._connections
                )
            else:
                connector = aiohttp.TCPConnector(limit=self._connections, ssl=trust)
            if self._session is not None:  # another request was faster while the files were read
                await connector.close()
                return self._session
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),  # each request is bounded as a whole
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=HEADER_MAX_BYTES,
                max_field_size=HEADER_MAX_BYTES,
            )
        return self._session


class Stream:
    """A running answer, by lines."""

    def __init__(self, place: str, response: aiohttp.ClientResponse, idle_timeout_s: float) -> None:
        self._place = place
        self._response = response
        self._idle_timeout_s = idle_timeout_s
        self.status = response.status

    async def whole(self, limit: int = 64 * KIB) -> bytes:
        """The rest of a short answer, as of an error; cut at `limit`."""
        with _told(self._place, self._idle_timeout_s):
            async with asyncio.timeout(self._idle_timeout_s):
                return await self._response.content.read(limit)

    async def lines(self) -> AsyncGenerator[bytes]:
        """Each line without its end, until the server ends the stream. A last line without an end is not
        told: it is cut short. Raises `SourceError`: silence, a line over `LINE_MAX_BYTES`, a cut."""
        rest = bytearray()
        while True:
            with _told(self._place, self._idle_timeout_s):
                async with asyncio.timeout(self._idle_timeout_s):
                    chunk = await self._response.content.readany()
            if not chunk:
                return
            rest += chunk
            if b"\n" not in chunk:
                if len(rest) > LINE_MAX_BYTES:
                    raise SourceError(f"{self._place}: a line has more than {LINE_MAX_BYTES} bytes")
                continue
            *whole, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in whole:
                if line:
                    yield line


class _told:  # noqa: N801 - reads as the verb it is at its uses
    """Turns the library's errors into `SourceError`."""

    def __init__(self, place: str, timeout_s: float) -> None:
        self._place = place
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, SourceError):
            return
        if isinstance(error, TimeoutError):
            raise SourceError(f"{self._place} gave no whole answer within {self._timeout_s:g} s") from None
        if isinstance(error, aiohttp.ClientError):
            raise SourceError(f"{self._place}: {_reason(error)}") from None
        if isinstance(error, OSError | ValueError):  # an answer that is not HTTP, a socket that can't be made
            raise SourceError(f"{self._place} can't be read: {type(error).__name__}") from None


def _context(tls: Tls, place: str) -> ssl.SSLContext:
    """Raises `SourceError` where a file is missing or no PEM."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file, cadata=tls.ca_pem)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        if tls.pair_pem is not None:
            _load_pair(context, tls.pair_pem)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join(name for name in (tls.ca_file, tls.cert_file, tls.key_file) if name) or "inline"
        raise SourceError(
            f"{place}: its TLS files can't be used ({names}): {error.strerror or type(error).__name__}"
            if isinstance(error, OSError)
            else f"{place}: its TLS files can't be used ({names})"
        ) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_pair(context: ssl.SSLContext, pair_pem: Secret) -> None:
    """The library reads files only: this one is ours alone, and gone when it was read."""
    with tempfile.NamedTemporaryFile(prefix="steersman-", suffix=".pem") as file:
        file.write(pair_pem.reveal().encode())
        file.flush()
        context.load_cert_chain(file.name)


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
