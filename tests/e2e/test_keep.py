"""Recording from a real server, replaying to the byte, and what `doctor` says in good times and bad."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Up = Callable[..., Any]
FRAGMENT = {
    "source_type": "test",
    "entity_type": "queue",
    "entity_id": "q",
    "fields": {"queue_depth": 3, "pending_jobs": 1, "active_jobs": 2},
}


def push(running: Any, **fields: int) -> None:
    from datetime import UTC, datetime

    body = FRAGMENT | {"observed_at": datetime.now(UTC).isoformat(), "fields": FRAGMENT["fields"] | fields}
    assert running.post("/api/v1/fragments", [body])["accepted"] == 1


def replayed(file: Path, out: Path, seed: int) -> dict[str, Any]:
    """A replay in a process of its own, with another order of hashes."""
    done = subprocess.run(
        [sys.executable, "-m", "steersman", "replay", str(file), "--out", str(out), "-o", "json"],
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def test_record_then_replay_gives_the_same_bytes_every_time(up: Up, tmp_path: Path) -> None:
    running = up().wait_healthy()
    file = tmp_path / "a.rec"
    part = tmp_path / "a.rec.part"
    command = [sys.executable, "-m", "steersman", "record", str(file)]
    with subprocess.Popen(command, env=running.env, stderr=subprocess.PIPE, text=True) as recording:
        try:
            running.until(lambda: part.exists() and part.stat().st_size, "the head of the recording")
            push(running, queue_depth=7)
            size = part.stat().st_size
            running.until(lambda: part.stat().st_size > size, "what was pushed")
        finally:
            recording.send_signal(signal.SIGINT)
            _, err = recording.communicate(timeout=30)
    assert recording.returncode == 0
    assert re.fullmatch(r"recorded \S+ \S+ into .*a\.rec\n", err)
    assert not part.exists()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    first = replayed(file, tmp_path / "1.ndjson", seed=1)
    second = replayed(file, tmp_path / "2.ndjson", seed=2)
    assert first == second
    assert (tmp_path / "1.ndjson").read_bytes() == (tmp_path / "2.ndjson").read_bytes()
    assert first["fragments"] >= 1
    entities = [json.loads(line)["entity"] for line in (tmp_path / "1.ndjson").read_text().splitlines()]
    assert [one["queue_depth"] for one in entities if one["entity_id"] == "q"] == [7]
    running.stop()


def test_record_stops_after_its_time_and_keeps_what_is_there(up: Up, tmp_path: Path) -> None:
    running = up().wait_healthy()
    done = running.type("record", "b.rec", "--for", "2s")
    assert done.returncode == 0
    again = running.type("record", "b.rec", "--for", "1s")
    assert again.returncode == 2
    assert "--force" in again.stderr
    summary = replayed(running.home / "b.rec", tmp_path / "out", seed=0)
    assert summary["entries"] >= 1
    assert summary["complete"]
    running.stop()


@pytest.mark.parametrize("content", [b"", b"no recording at all", b"\x00" * 4096])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.rec"
    file.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "steersman", "replay", str(file), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_a_recording_from_the_start(up: Up, tmp_path: Path) -> None:
    """`record.file` in the configuration: the whole run is in it, with a proper end."""
    file = tmp_path / "run.rec"
    running = up(STEERSMAN_RECORD_FILE=str(file)).wait_healthy()
    push(running, queue_depth=9)
    assert running.stop()[0] == 0
    summary = replayed(file, tmp_path / "out", seed=0)
    assert summary["complete"]
    assert '"queue_depth":9' in (tmp_path / "out").read_text()


def checks(running: Any, *words: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    """`doctor` as its exit code and its checks by name."""
    done = running.type("doctor", "-o", "json", *words, env=env)
    data = json.loads(done.stdout)
    assert data["ok"] == (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in data["checks"]}


def test_doctor_finds_a_healthy_server_healthy(up: Up) -> None:
    running = up().wait_healthy()
    running.until(lambda: running.get("/api/v1/entities?type=node")["items"], "a node")
    code, found = checks(running)
    assert code == 0
    for name in (
        "program",
        "configuration",
        "state folder",
        "disk space",
        "store",
        "server",
        "ready",
        "clock",
    ):
        assert found[name]["verdict"] == "ok", found[name]
    assert found["source this-host"]["verdict"] == "ok"
    assert f"process {running.process.pid}" in found["store"]["detail"]
    table = running.type("doctor").stdout
    assert all(line.startswith(("ok    ", "warn  ", "fail  ", "      ")) for line in table.splitlines())
    running.stop()


def test_doctor_works_without_a_server(up: Up) -> None:
    running = up().wait_healthy()
    running.stop()
    code, found = checks(running)
    assert code == 0
    assert found["server"]["verdict"] == "warn"
    assert "steersman up" in found["server"]["advice"]
    assert "not in use" in found["store"]["detail"]


def test_doctor_names_what_is_wrong(up: Up) -> None:
    running = up().wait_healthy()
    running.stop()
    store = running.home / "steersman.db"
    damaged = bytearray(store.read_bytes())
    damaged[100:2000] = b"\xa5" * 1900
    store.write_bytes(damaged)
    running.home.chmod(0o755)
    (running.home / "admin.token").chmod(0o644)
    config = running.home / "steersman.yaml"
    config.write_text("server: {prot: 1}\n")
    code, found = checks(running, "-c", str(config))
    assert code == 1
    assert found["configuration"]["verdict"] == "fail"
    assert f"{config}:1" in found["configuration"]["detail"]
    assert found["store"]["verdict"] == "fail"
    assert found["state folder"]["verdict"] == "warn"
    assert found["admin token"]["verdict"] == "fail"


def test_doctor_tells_of_a_source_that_is_down(up: Up, tmp_path: Path) -> None:
    config = tmp_path / "steersman.yaml"
    config.write_text(
        "sources:\n  - {name: gone, driver: openmetrics, url: 'http://127.0.0.1:9/metrics', interval: 1s,"
        " mappings: [node-exporter]}\n"
    )
    running = up("-c", str(config)).wait_healthy()

    def down() -> Any:
        return [
            one
            for one in running.get("/api/v1/sources")["items"]
            if one["name"] == "gone" and one["failures"]
        ]

    running.until(down, "a failed attempt")
    _, found = checks(running)
    assert found["source gone"]["verdict"] in ("warn", "fail")
    assert "127.0.0.1:9" in found["source gone"]["detail"]
    assert running.healthy()
    running.stop()
