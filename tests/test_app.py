"""The parts of the wiring that need no running plane: folders, addresses, settings."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from steersman.app import (
    AddressUnusable,
    PortInUse,
    StateFolderUnusable,
    listen,
    prepare_folder,
)


def test_a_new_state_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    prepare_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    prepare_folder(folder)


def test_a_state_folder_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateFolderUnusable, match="can't be made") as caught:
        prepare_folder(tmp_path / "state")
    assert caught.value.facts["folder"] == str(tmp_path / "state")


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
