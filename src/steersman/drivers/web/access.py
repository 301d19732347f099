"""The options of access that every HTTP driver has: where, as whom, how much, whom to trust."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from steersman.drivers.web.client import Tls, WebClient
from steersman.drivers.web.url import check_url, public_url
from steersman.kernel.clock import Clock
from steersman.kernel.quantity import Between, ByteSize
from steersman.kernel.secret import Secret

HeaderName = Annotated[str, Meta(pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", description="a header name")]


class WebAccess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A driver's options extend this.

    - `url`: the endpoint, or `unix:/path` for HTTP over a unix socket. User and password in it are taken as
      basic authentication and shown nowhere. A driver that can do without one gives it an empty default.
    - `username` with `password`: basic authentication. `token`: a bearer token. `header` with `header_value`:
      any other. At most one of the three.
    - `max_bytes`: a larger answer (decompressed) is refused.
    - `follow_redirects`, `verify_tls`: as usual; credentials are never sent on to another host.
    - `ca_file`: trust this authority instead of the system's. `cert_file` with `key_file`: our certificate,
      where the server asks for one (mutual TLS). PEM files.
    """

    url: Annotated[
        str,
        Meta(
            pattern="^(https?://[^/]|unix:/[^/])",
            max_length=2048,
            description="an http(s) URL, or unix:/path",
        ),
    ]
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    header: HeaderName | None = None
    header_value: Secret | None = None
    max_bytes: Annotated[ByteSize, Between(ByteSize(1024), ByteSize(1 << 30))] = ByteSize(64 * 1024 * 1024)
    follow_redirects: bool = False
    verify_tls: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if self.socket is None and self.url:
            check_url(self.url)
        if self.socket is not None and not self.socket.isprintable():
            raise ValueError("url: control characters can't stand in the path of a socket")
        ways = [self.username or self.password, self.token, self.header or self.header_value]
        if sum(1 for way in ways if way) > 1:
            raise ValueError("give one of username and password, token, or header and header_value")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password go together")
        if ":" in (self.username or ""):
            raise ValueError("a username must not hold a colon: basic authentication ends it there")
        if bool(self.header) != (self.header_value is not None):
            raise ValueError("header and header_value go together")
        if "@" in urlsplit(self.url).netloc and any(ways):
            raise ValueError("the url has a user already; give credentials once")
        if self.follow_redirects and self.header:
            raise ValueError(
                "follow_redirects and header don't go together: another host would get its value"
            )
        if any("\n" in text or "\r" in text for text in self.headers().values()):
            raise ValueError("a credential must not hold a line break")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if not self.verify_tls and self.ca_file:
            raise ValueError("ca_file and verify_tls: false don't go together: nothing would be verified")

    def headers(self) -> dict[str, str]:
        """The request headers that authenticate; holds secrets."""
        if self.username and self.password is not None:
            pair = f"{self.username}:{self.password.reveal()}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token.reveal()}"}
        if self.header is not None and self.header_value is not None:
            return {self.header: self.header_value.reveal()}
        return {}

    def open_client(self, clock: Clock, url: str | None = None, *, own: bool = True) -> WebClient:
        """A client for it, or for another URL of the same system; `own` False where that is another server's,
        which must not get our credentials. Makes no connection yet."""
        own_headers = self.headers() if own else {}

        async def headers() -> Mapping[str, str]:
            return own_headers

        return WebClient(
            url or (self.url if self.socket is None else "http://localhost"),
            clock,
            headers=headers,
            unix_socket=self.socket if url is None else None,
            tls=Tls(self.verify_tls, self.ca_file, self.cert_file, self.key_file),
            max_bytes=self.max_bytes,
            follow_redirects=self.follow_redirects,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.place!r})"

    @property
    def place(self) -> str:
        """The URL as it may be shown: without user, password, query and fragment."""
        return public_url(self.url) if self.socket is None else self.url

    @property
    def socket(self) -> str | None:
        """The path of the unix socket; None where it is reached over TCP."""
        return self.url.removeprefix("unix:") if self.url.startswith("unix:") else None

    @property
    def instance(self) -> str:
        """Host and port, as Prometheus writes its `instance` label."""
        if self.socket is not None:
            return self.url
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return host if parts.port else f"{host}:{443 if parts.scheme == 'https' else 80}"
