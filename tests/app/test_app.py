"""The parts of the wiring that need no running plane. A whole plane is started in tests/e2e."""

from __future__ import annotations

import os
import resource
import signal
import stat
import threading
from pathlib import Path

import pytest

from steersman.app import StateFolderUnusable, prepare_folder, run_up
from steersman.kernel.errors import Refused
from steersman.store.open import StoreUrlInvalid


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


def test_a_whole_run_leaves_no_thread_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, with a real signal: what is left afterwards would be left in any program that embeds
    it. The first run warms up what Python itself keeps open for good."""
    monkeypatch.setenv("STEERSMAN_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STEERSMAN_LOG_LEVEL", "error")
    told: list[str] = []

    def stop_at_once(text: str) -> None:
        told.append(text)
        os.kill(os.getpid(), signal.SIGTERM)

    def left() -> tuple[set[str], list[str], signal.Handlers | object]:
        threads = {thread.name for thread in threading.enumerate()}
        files = sorted(os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return threads, [name for name in files if "/fd" not in name], signal.getsignal(signal.SIGTERM)

    assert run_up(None, stop_at_once, port=0) == 0
    before = left()
    assert run_up(None, stop_at_once, port=0) == 0
    assert left() == before
    assert len(told) == 2
    assert "127.0.0.1:0" not in told[0]
    assert "error" not in capfd.readouterr().err


def test_a_part_that_fails_ends_the_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails here is the announcement, the one part that a test may bring. The store is closed, can be
    opened again at once, and the error comes out as it was."""
    monkeypatch.setenv("STEERSMAN_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STEERSMAN_LOG_LEVEL", "error")

    def refuse(_text: str) -> None:
        raise Refused("no announcement today")

    for _ in range(2):
        with pytest.raises(Refused, match="today"):
            run_up(None, refuse, port=0)


@pytest.mark.parametrize("url", ["postgresql://u:secret@h/db", "sqlite:relative", "sqlite://", "etcd://h:1"])
def test_a_store_that_this_version_lacks_is_refused_without_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERSMAN_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STEERSMAN_STORE", url)
    with pytest.raises(StoreUrlInvalid) as caught:
        run_up(None, print, port=0)
    assert "secret" not in caught.value.detail
    assert "memory" in caught.value.facts["schemes"]


def test_room_for_all_streams_under_the_limit_on_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell's soft limit of 1,024 files would cut us off in the middle of the promised streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setenv("STEERSMAN_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STEERSMAN_STORE", "memory:")
    seen: list[int] = []

    def look(_text: str) -> None:
        seen.append(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.kill(os.getpid(), signal.SIGTERM)

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert run_up(None, look, port=0) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen == [hard]


def test_memory_keeps_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STEERSMAN_STORE", "memory:")
    monkeypatch.setenv("STEERSMAN_LOG_LEVEL", "error")
    assert run_up(None, lambda _: os.kill(os.getpid(), signal.SIGTERM), port=0) == 0
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["admin.token"]
