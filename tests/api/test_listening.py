"""The listening address: whose it is where it is taken, and what can't be listened on."""

from __future__ import annotations

import os
import socket

import pytest

from steersman.api.listening import AddressUnusable, PortInUse, listen, url_of


def test_a_port_in_use_names_port_and_process() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            PortInUse, match=rf"port {port} on 127\.0\.0\.1 is in use by .*process {os.getpid()}"
        ) as caught:
            listen("127.0.0.1", port)
    assert caught.value.facts == {"port": port, "pid": os.getpid()}


def test_an_address_of_nobody_is_refused() -> None:
    with pytest.raises(AddressUnusable, match=r"192\.0\.2\.1"):
        listen("192.0.2.1", 0)
    with pytest.raises(AddressUnusable, match="no address of this machine"):
        listen("bad host", 0)


def test_ipv6_listens_alone() -> None:
    if not socket.has_ipv6:
        return
    with listen("::1", 0) as server:
        assert server.family is socket.AF_INET6


def test_urls_for_people() -> None:
    assert url_of("127.0.0.1", 1) == "http://127.0.0.1:1"
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url_of("::1", 1) == "http://[::1]:1"
