"""The address that the API listens on, and whose it is where it is taken."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from steersman.kernel.errors import Unavailable

BACKLOG = 2048
"""Connections that may wait to be accepted, while the loop is busy."""


class PortInUse(Unavailable):
    """Another process listens at the address. `facts`: `port`, and `pid` where it could be found out."""

    code = "port_in_use"
    title = "Port in use"


class AddressUnusable(Unavailable):
    """The configured address can't be listened on: it is not this machine's, or the port needs privileges."""

    code = "address_unusable"
    title = "Address can't be used"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address. Raises `PortInUse`, `AddressUnusable`."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise AddressUnusable(
            f"server.host is {host}, which is no address of this machine: {error.strerror}", host=host
        ) from error
    server = socket.socket(family, kind, proto)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind(address)
        server.listen(BACKLOG)
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise _unusable(host, port, error) from error
    return server


def _unusable(host: str, port: int, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        pid, what = _who_listens(port)
        told = f"by {what}" if what else "by another process"
        return PortInUse(
            f"port {port} on {host} is in use {told}; stop it, or choose another port with --port",
            port=port,
            **({"pid": pid} if pid else {}),
        )
    if error.errno == errno.EACCES:
        return AddressUnusable(
            f"port {port} needs privileges that this user does not have; choose one from 1024 on",
            host=host,
            port=port,
        )
    return AddressUnusable(f"{host} port {port} can't be listened on: {error.strerror}", host=host, port=port)


def _who_listens(port: int) -> tuple[int | None, str]:
    """The process that listens at the port, as far as this user may see: its pid and a name for people."""
    import psutil

    try:
        sockets = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None, ""
    for one in sockets:
        if one.status != psutil.CONN_LISTEN or not one.laddr or one.laddr.port != port or one.pid is None:
            continue
        try:
            words = psutil.Process(one.pid).cmdline()
        except psutil.Error:
            return one.pid, f"process {one.pid}"
        name = "another Steersman" if _is_steersman(words) else Path(words[0]).name if words else "a process"
        return one.pid, f"{name} (process {one.pid})"
    return None, ""


def _is_steersman(words: list[str]) -> bool:
    return "up" in words and any("steersman" in Path(word).name for word in words)


def url_of(host: str, port: int) -> str:
    """The address for people; a wildcard address is shown as this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
