"""A real `steersman up` from start to end, with the faults that a machine brings."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

Up = Callable[..., Any]

SLOW_PUSH = (
    b"POST /api/v1/fragments HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: 9\r\n\r\n["
)
"""A push whose body never ends."""


def nodes(running: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.get("/api/v1/entities?type=node")["items"]
    return found


def service(name: str, **fields: float) -> dict[str, Any]:
    """A fragment that a push may bring."""
    return {
        "source_type": "test",
        "entity_type": "service",
        "entity_id": name,
        "observed_at": datetime.now(UTC).isoformat(),
        "fields": fields,
    }


def last_checkpoint(home: Path) -> int:
    """The store's revision at which a part of the picture was last written down, as the file has it."""
    file = sqlite3.connect(f"file:{home / 'steersman.db'}?mode=ro", uri=True)
    with contextlib.closing(file):
        (revision,) = file.execute("SELECT max(id) FROM log WHERE key LIKE 'soft/bus/%'").fetchone()
        return int(revision or 0)


def test_a_fresh_start_observes_this_machine(up: Up) -> None:
    """No configuration, an empty folder: the node of this machine is there with real values."""
    running = up().wait_healthy()
    (node,) = running.until(lambda: nodes(running), "a node")
    assert node["hostname"] == socket.gethostname()
    assert node["cpu_count"] == os.cpu_count()
    assert 0 < node["memory_utilization"] < 1
    assert node["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert running.out.count("Steersman") == 1
    for place in (f"{running.url}/\n", f"{running.url}/api/v1", "openapi.json", str(running.home)):
        assert place in running.out
    code, _, err = running.stop()
    assert code == 0
    assert "Traceback" not in err


def test_the_state_folder_is_private(up: Up, tmp_path: Path) -> None:
    home = tmp_path / "new" / "state"
    running = up(home=tmp_path, STEERSMAN_HOME=str(home)).wait_healthy()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in home.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    running.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_by_itself(up: Up, number: signal.Signals) -> None:
    """Exit code 0, and nothing is left: a thread or task that stayed would keep the process."""
    running = up().wait_healthy()
    running.until(lambda: nodes(running), "a node")
    code, _, err = running.stop(number)
    assert code == 0
    assert "Traceback" not in err
    assert "tasks_left" not in err
    assert not (running.home / "steersman.db-wal").exists() or running.home.joinpath("steersman.db").exists()


def test_open_streams_are_told_goodbye(up: Up) -> None:
    running = up().wait_healthy()
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as stream:
        stream.sendall(b"GET /api/v1/watch HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        seen = b""
        while b"event: hello" not in seen:
            seen += stream.recv(65536)
        running.process.send_signal(signal.SIGTERM)
        while chunk := stream.recv(65536):
            seen += chunk
    assert b"event: bye" in seen
    assert running.ended()[0] == 0


def test_a_second_signal_ends_it_at_once(up: Up) -> None:
    """A request that never ends holds the stop up for its grace time; the second Ctrl-C does not wait."""
    running = up().wait_healthy()
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as slow:
        slow.sendall(SLOW_PUSH)
        assert running.healthy()  # an answer on a later connection: the earlier one is being read
        running.process.send_signal(signal.SIGINT)
        running.until(lambda: "stopping" in running.err, "word of the stop")
        code, _, _ = running.stop(signal.SIGINT)
    assert code == 128 + signal.SIGINT


def test_a_restart_remembers_with_true_age(up: Up) -> None:
    """Entities are back before any source has spoken, their times unchanged; revisions only grow."""
    first = up().wait_healthy()
    first.post("/api/v1/fragments", [service("kept", queue_depth=7)])
    before = first.get("/api/v1/entities/service/kept")
    revision = first.get("/api/v1/entities")["revision"]
    first.stop()
    second = up().wait_healthy()
    after = second.get("/api/v1/entities/service/kept")
    assert after["queue_depth"] == 7
    assert after["observed_at"] == before["observed_at"]
    assert after["revision"] >= before["revision"]
    assert second.get("/api/v1/entities")["revision"] > revision
    second.stop()


def test_kill_9_then_restart(up: Up) -> None:
    """What was checkpointed is back, and no revision is given a second time."""
    first = up(STEERSMAN_CHECKPOINT_INTERVAL="1s").wait_healthy()
    first.post("/api/v1/fragments", [service("kept", queue_depth=7)])
    revision = first.get("/api/v1/entities")["revision"]
    start = last_checkpoint(first.home)
    first.until(lambda: last_checkpoint(first.home) > start, "a checkpoint")
    first.process.kill()
    first.process.wait()
    second = up().wait_healthy()
    assert second.get("/api/v1/entities/service/kept")["queue_depth"] == 7
    assert second.get("/api/v1/entities")["revision"] > revision
    assert second.stop()[0] == 0


def test_a_wrong_key_is_refused_with_its_line(up: Up, tmp_path: Path) -> None:
    config = tmp_path / "steersman.yaml"
    config.write_text("server:\n  prot: 1\nsources:\n  - name: a\n    driver: hots\n")
    running = up("-c", str(config))
    code, out, err = running.ended()
    assert code == 2
    assert out == ""
    assert f"{config}:2: server.prot: unknown key" in err
    assert "did you mean port?" in err
    assert "Traceback" not in err


def test_an_unknown_driver_is_refused_with_its_line(up: Up, tmp_path: Path) -> None:
    config = tmp_path / "steersman.yaml"
    config.write_text("sources:\n  - name: a\n    driver: hots\n  - {name: b, driver: host, jops: []}\n")
    code, _, err = up("-c", str(config)).ended()
    assert code == 2
    assert "did you mean host?" in err
    assert "jops" in err


def test_a_missing_configuration_file_is_wrong_usage(up: Up, tmp_path: Path) -> None:
    code, _, err = up("-c", str(tmp_path / "none.yaml")).ended()
    assert code == 2
    assert "none.yaml" in err


def test_a_port_in_use_names_the_other_steersman(up: Up, tmp_path: Path) -> None:
    first = up().wait_healthy()
    second = up(home=tmp_path / "other", port=first.port)
    code, _, err = second.ended()
    assert code == 1
    assert re.search(rf"port {first.port} .* another Steersman \(process {first.process.pid}\)", err)
    assert "--port" in err
    assert first.stop()[0] == 0


def test_a_second_up_on_the_same_store_is_refused(up: Up) -> None:
    first = up().wait_healthy()
    code, _, err = up().ended()
    assert code == 1
    assert "in use by process" in err
    assert str(first.process.pid) in err
    assert first.healthy()
    assert first.stop()[0] == 0


def test_an_address_for_others_needs_tokens(up: Up) -> None:
    code, _, err = up("--host", "0.0.0.0").ended()
    assert code == 1
    assert "auth.tokens" in err


def test_an_address_for_others_with_tokens_is_served(up: Up) -> None:
    running = up("--host", "0.0.0.0", STEERSMAN_AUTH_TOKENS="true").wait_healthy()
    assert "admin.token" in running.out
    assert running.type("get", "nodes").returncode == 1
    token = (running.home / "admin.token").read_text().strip()
    assert running.type("get", "nodes", env={"STEERSMAN_TOKEN": token}).returncode == 0
    assert token not in running.err + running.out
    running.stop()


def test_a_corrupt_store_is_refused_and_not_touched(up: Up) -> None:
    first = up().wait_healthy()
    first.stop()
    store = first.home / "steersman.db"
    damaged = bytearray(store.read_bytes())
    damaged[100:2000] = b"\xa5" * 1900
    store.write_bytes(damaged)
    code, _, err = up().ended()
    assert code == 1
    assert str(store) in err
    assert "damaged" in err
    assert store.read_bytes() == damaged


def test_a_state_folder_that_can_not_be_written(up: Up, tmp_path: Path) -> None:
    """As root no mode keeps us out, so the folder is a file, and (where allowed) a read-only mount."""
    (tmp_path / "file").write_text("")
    code, _, err = up(STEERSMAN_HOME=str(tmp_path / "file")).ended()
    assert code == 1
    assert "state folder" in err
    if os.geteuid() != 0:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
        code, _, err = up(STEERSMAN_HOME=str(folder)).ended()
        assert code == 1
        assert "can't be written" in err


def test_a_full_disk_is_told_and_recovers(up: Up, tmp_path: Path) -> None:
    """The store fails its writes and says so, serving goes on, and with space again the next checkpoint is
    written, without a restart. Where no small disk can be mounted, a limit on file sizes stands in for it."""
    with small_disk(tmp_path) as (disk, mounted):
        home = disk / "state"
        env = {"STEERSMAN_HOME": str(home), "STEERSMAN_CHECKPOINT_INTERVAL": "1s"}
        running = up(home=tmp_path / "work", **env).wait_healthy()
        pid, no_limit = running.process.pid, resource.RLIM_INFINITY
        if mounted:
            fill(disk / "filler")
        else:
            size = max(path.stat().st_size for path in home.glob("steersman.db*"))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, no_limit))
        running.post("/api/v1/fragments", [service(f"s{n}", queue_depth=n) for n in range(3000)])
        running.until(lambda: "checkpoint_failed" in running.err, "word of the failed checkpoint")
        assert not mounted or "store_full" in running.err
        assert str(home) in running.err
        assert running.healthy()
        assert running.get("/api/v1/entities/service/s7")["queue_depth"] == 7
        (disk / "filler").unlink(missing_ok=True)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (no_limit, no_limit))
        start = last_checkpoint(home)
        running.until(lambda: last_checkpoint(home) > start, "a checkpoint")
        assert running.stop()[0] == 0
        again = up(home=tmp_path / "work", **env).wait_healthy()
        assert again.get("/api/v1/entities/service/s2999")["queue_depth"] == 2999
        assert again.stop()[0] == 0


def test_a_full_disk_at_the_start(up: Up, tmp_path: Path) -> None:
    """A start that can't write is refused with the file's name, and works once there is space."""
    work = tmp_path / "work"
    with small_disk(tmp_path) as (disk, mounted):
        home = str(disk / "state")
        limit = None if mounted else 8192
        if mounted:
            fill(disk / "filler")
        code, _, err = up(home=work, file_max_bytes=limit, STEERSMAN_HOME=home).ended()
        assert code == 1
        assert home in err
        assert "full" in err or "No space" in err
        assert "Traceback" not in err
        (disk / "filler").unlink(missing_ok=True)
        running = up(home=work, STEERSMAN_HOME=home).wait_healthy()
        assert running.stop()[0] == 0


@contextlib.contextmanager
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A disk of two megabytes where this user may mount one (True), else an ordinary folder (False)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the (small) disk takes no more."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(1024):
            file.write(b"x" * 4096)


def test_watch_survives_a_restart_of_the_server(up: Up, tmp_path: Path) -> None:
    """The same `steersman watch` goes on behind the last change it showed, without a gap."""
    first = up().wait_healthy()
    with (tmp_path / "watch.txt").open("wb") as file:
        command = [sys.executable, "-m", "steersman", "watch", "services", "--after", "0"]
        watch = subprocess.Popen(command, env=first.env, stdout=file, stderr=file)
    try:

        def shown(name: str) -> bool:
            return f"service/{name}" in (tmp_path / "watch.txt").read_text()

        first.post("/api/v1/fragments", [service("before", queue_depth=1)])
        first.until(lambda: shown("before"), "the first change")
        assert first.stop()[0] == 0
        second = up(port=first.port).wait_healthy()
        second.post("/api/v1/fragments", [service("after", queue_depth=2)])
        second.until(lambda: shown("after"), "the change after the restart")
        text = (tmp_path / "watch.txt").read_text()
        assert text.count("service/before ") == 1
        assert "error" not in text.replace("errors", "")
        assert watch.poll() is None
        second.stop()
    finally:
        watch.kill()
        watch.wait()


BLOCKING_DRIVER = """
import time
from msgspec import Struct

class Options(Struct, forbid_unknown_fields=True):
    pass

class BlockingDriver:
    name = "blocking"
    Options = Options
    default_interval_s = 1.0

    def __init__(self, options, context):
        pass

    async def observe(self):
        time.sleep(3600)

    async def close(self):
        pass
"""


def test_a_foreign_driver_that_blocks_holds_up_neither_others_nor_the_end(up: Up, tmp_path: Path) -> None:
    """A package with a driver that sleeps for an hour in its thread: this machine is observed all the same,
    and Ctrl-C ends the program within its bound, although Python can't end that thread."""
    site = tmp_path / "site"
    (site / "blocking_driver-1.0.dist-info").mkdir(parents=True)
    (site / "blocking_driver.py").write_text(BLOCKING_DRIVER)
    (site / "blocking_driver-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: blocking-driver\nVersion: 1.0\n"
    )
    (site / "blocking_driver-1.0.dist-info" / "entry_points.txt").write_text(
        "[steersman.drivers]\nblocking = blocking_driver:BlockingDriver\n"
    )
    config = tmp_path / "steersman.yaml"
    config.write_text("sources:\n  - {name: this-host, driver: host}\n  - {name: bad, driver: blocking}\n")
    running = up("-c", str(config), PYTHONPATH=str(site)).wait_healthy()

    def blocked() -> bool:
        sources = running.get("/api/v1/sources")["items"]
        return any(one["name"] == "bad" and one["failures"] for one in sources)

    running.until(blocked, "word of the source that blocks")
    running.until(lambda: nodes(running), "a node, beside the source that blocks")
    code, _, err = running.stop()
    assert code == 0
    assert "left behind: source-bad" in err
