"""Whether a request may pass: where it may come from, who sends it, what their role reaches.

Without `auth.tokens` a caller on loopback needs no token. A web page that the user has open runs on loopback
too, so two more things are asked then: the Host header must name this machine (else a foreign name was made
to point here, "DNS rebinding"), and the browser must not say that another site's page sends the request.
Forwarding headers (`X-Forwarded-For` and its like) are never looked at.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from steersman.api.auth import Caller, NewToken, TokenInvalid, Tokens
from steersman.api.problems import reveal
from steersman.api.routes import API, Role, Route
from steersman.api.settings import ApiSettings
from steersman.kernel.clock import Clock
from steersman.kernel.errors import Forbidden, SteersmanError, TooMany, Unauthenticated
from steersman.kernel.logging import get_logger

ANONYMOUS = Caller(name="anonymous", role=Role.OPERATOR.label, anonymous=True)
"""A caller on loopback without a token. Making tokens takes one: others may share the machine."""

FAILURES_MAX = 20
FAILURES_WINDOW_S = 60.0
PEERS_MAX = 1024
"""Peers whose failed attempts are counted; the one not seen for longest is forgotten first."""

HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)
"""A Host header: an IPv6 address in brackets, or an IPv4 address or name; and a port (RFC 9110, 7.2)."""

BOOTSTRAP_NAME = "bootstrap"
BOOTSTRAP_FILE = "admin.token"

_log = get_logger("api.access")


class TokenNeeded(Unauthenticated):
    """This route needs a token, or one of a higher role than anonymous callers have."""

    code = "token_needed"
    title = "A token is needed"


class RoleTooLow(Forbidden):
    """The caller's role does not reach this route. `facts`: `role`, `needed`."""

    code = "role_too_low"
    title = "Not allowed for this role"


class HostNotAllowed(Forbidden):
    """The Host header does not name this machine."""

    code = "host_not_allowed"
    title = "Host not allowed"


class CrossSite(Forbidden):
    """A page of another site sends the request."""

    code = "cross_site"
    title = "Cross-site request refused"


class TooManyFailures(TooMany):
    """This peer sent too many tokens that were not accepted."""

    code = "too_many_failures"
    title = "Too many failed attempts"


class UnsafeBind(SteersmanError):
    """The address to bind is not loopback and no authentication is configured. Raised at start."""

    code = "unsafe_bind"
    title = "Refusing to listen without authentication"


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine alone."""
    host = host.strip().strip("[]").rstrip(".").lower()
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def require_safe_bind(settings: ApiSettings, tokens: Tokens) -> None:
    """Refuse an address that others can reach where no token would be asked for, or none exists.

    Call after `bootstrap_admin`. Raises `UnsafeBind`, which says what to set.
    """
    host = settings.server.host
    if is_loopback(host):
        return
    if not settings.auth.tokens:
        raise UnsafeBind(
            f"server.host is {host}, which other machines can reach, and callers would need no token; "
            "set auth.tokens to true (or STEERSMAN_AUTH_TOKENS=true), or bind 127.0.0.1",
            host=host,
        )
    if len(tokens) == 0:
        raise UnsafeBind(
            f"server.host is {host} and there is no token yet; start once on 127.0.0.1 so that an admin "
            "token is made, or run `steersman token create`",
            host=host,
        )


async def bootstrap_admin(tokens: Tokens, folder: Path) -> Path | None:
    """Where no token exists, make an admin token and write it to `admin.token` in `folder`, mode 0600.

    Returns the file, or None where tokens exist already. The file is written before anybody can need it and
    never again: deleting it loses nothing but the secret.
    """
    if len(tokens) > 0:
        return None
    issued = await tokens.create(NewToken(name=BOOTSTRAP_NAME, role=Role.ADMIN.label))
    path = folder / BOOTSTRAP_FILE
    try:
        await asyncio.to_thread(_write_secret, path, issued.token)
    except OSError:
        await tokens.revoke(issued.info.id)  # a token nobody can read must not count as the first one
        raise
    _log.info("admin_token_written", file=str(path))
    return path


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


class Failures:
    """Counts failed attempts by peer, in windows; bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, peer: str) -> None:
        """Count one failure. Raises `TooManyFailures` where the peer has had its share of this window."""
        now_s = self._clock.monotonic()
        count, since_s = self._counts.pop(peer, (0, now_s))
        if now_s - since_s >= FAILURES_WINDOW_S:
            count, since_s = 0, now_s
        self._counts[peer] = (count + 1, since_s)
        if len(self._counts) > PEERS_MAX:
            self._counts.popitem(last=False)
        if count >= FAILURES_MAX:
            retry_s = max(1, round(FAILURES_WINDOW_S - (now_s - since_s)))
            raise TooManyFailures(
                f"more than {FAILURES_MAX} tokens from this address were not accepted within "
                f"{FAILURES_WINDOW_S:g} s; try again in {retry_s} s",
                limit=FAILURES_MAX,
                retry_after_s=retry_s,
            )


class Gate:
    """Lets a request pass, or raises why not."""

    def __init__(self, settings: ApiSettings, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._open = not settings.auth.tokens
        self._names = frozenset(name.strip().rstrip(".").lower() for name in settings.server.names)
        self._failures = Failures(clock)

    def admit(self, route: Route, headers: Mapping[str, str], peer: str) -> Caller | None:
        """The caller, or None on a public route that was called without a token.

        `headers` have lower-case names. Raises `HostNotAllowed`, `CrossSite`, `TokenNeeded`, `TokenInvalid`,
        `TooManyFailures`, `RoleTooLow`.
        """
        if self._open:
            self._check_host(headers)
            self._check_site(route, headers)
        if route.role is None:
            return None
        caller = self._caller(headers.get("authorization"), peer)
        if caller is None:
            raise TokenNeeded(
                "send a token as `Authorization: Bearer ...`; the first admin token is in the file "
                f"{BOOTSTRAP_FILE} in the state folder",
                needed=route.role.label,
            )
        if caller.rank < route.role:
            if caller.anonymous:
                raise TokenNeeded(
                    f"this needs a token of role {route.role.label}, also on loopback; the first admin token "
                    f"is in the file {BOOTSTRAP_FILE} in the state folder",
                    needed=route.role.label,
                )
            raise RoleTooLow(
                f"this needs role {route.role.label}; the token has role {caller.role}",
                role=caller.role,
                needed=route.role.label,
            )
        return caller

    def _caller(self, authorization: str | None, peer: str) -> Caller | None:
        if authorization is None:
            return ANONYMOUS if self._open else None
        scheme, _, token = authorization.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise TokenInvalid("the Authorization header must read `Bearer` and a token")
            return self._tokens.authenticate(token.strip())
        except TokenInvalid:
            self._failures.note(peer)
            _log.warning("token_refused", peer=peer)
            raise

    def _check_host(self, headers: Mapping[str, str]) -> None:
        said = headers.get("host", "")
        host = host_name(said)
        if not (is_loopback(host) or host in self._names):
            raise HostNotAllowed(
                f"the Host header says {reveal(said)!r}, which is not this machine; call it as 127.0.0.1 or "
                "localhost, or add the name to server.names"
            )

    def _check_site(self, route: Route, headers: Mapping[str, str]) -> None:
        changes = route.method not in ("GET", "HEAD")
        site = headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site") and route.path.startswith(API):
            followed_link = not changes and headers.get("sec-fetch-mode") == "navigate"
            if not followed_link:
                raise CrossSite("a page of another site may not call this API")
        origin = headers.get("origin")
        if changes and origin is not None and not _same_origin(origin, headers.get("host", "")):
            raise CrossSite(f"a page of {reveal(origin)} may not change anything here")


def host_name(host: str) -> str:
    """The name or address of a Host header, without its port, lower case; "" for what is no Host header."""
    found = HOST.fullmatch(host.strip(" \t"))
    return (found[1] or found[2]).rstrip(".").lower() if found else ""


def _same_origin(origin: str, host: str) -> bool:
    scheme, mark, rest = origin.strip().lower().partition("://")
    return bool(mark) and scheme in ("http", "https") and rest == host.strip().lower()
