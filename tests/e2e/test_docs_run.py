"""README, tutorial and how-to guides are true: their commands are typed as they stand, and succeed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steersman.kernel.config import load
from steersman.kinds.settings import RESERVED_VARIABLES, Settings

DOCS = Path(__file__).parents[2] / "docs"
README = "../README.md"
BLOCK = re.compile(r"^```(sh|yaml|ini|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
Up = Callable[..., Any]


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((DOCS / page).read_text()) if kind == language]


def shell(running: Any, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A block as a shell runs it, with `steersman` on the path and the default port replaced."""
    folder = Path(sys.executable).parent
    return subprocess.run(
        ["/bin/sh", "-euc", script.replace("http://127.0.0.1:7440", running.url)],
        cwd=running.home,
        env=running.env | {"PATH": f"{folder}:{running.env['PATH']}"} | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_tutorial(up: Up) -> None:
    """In order, on one server: later steps build on what earlier ones pushed."""
    running = up().wait_healthy()
    running.until(lambda: running.get("/api/v1/entities?type=node")["items"], "a node")
    typed = 0
    for script in blocks("tutorials/first-steps.md", "sh"):
        if script.startswith("make "):
            continue
        done = shell(running, script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        typed += 1
    assert typed >= 6
    assert "inference-api" in running.type("get", "services", "--scope", "us-east-1").stdout
    running.stop()


def test_close_the_loop(up: Up) -> None:
    """Typed in order; what needs a small disk is held by test_closed_loop.py."""
    running = up().wait_healthy()
    running.until(lambda: running.get("/api/v1/resources/node")["items"], "a managed node")
    scripts = blocks("tutorials/close-the-loop.md", "sh")
    assert len(scripts) >= 6
    for script in scripts:
        done = shell(running, script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    modes = running.type("policy", "list").stdout
    assert modes.count("controlled_auto_act") == 2, modes
    running.stop()


def test_the_readme(up: Up) -> None:
    """All but `make`, which the next test types."""
    running = up().wait_healthy()
    running.until(lambda: running.get("/api/v1/entities?type=node")["items"], "a node")
    start, *others = blocks(README, "sh")
    assert [line.split("#")[0].strip() for line in start.splitlines()] == ["make up", "make test"]
    assert len(others) >= 2
    for script in others:
        done = shell(running, re.sub(r"^steersman watch\b", "steersman watch --for 1s", script, flags=re.M))
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    (sample,) = blocks(README, "python")
    subprocess.run([sys.executable, "-c", sample], check=True, timeout=30)
    running.stop()


def test_make_up(tmp_path: Path) -> None:
    """The README's first command, in this checkout: it serves, says where, and Ctrl-C ends it cleanly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("STEERSMAN_", "MAKE"))}
    env |= {"STEERSMAN_HOME": str(tmp_path), "STEERSMAN_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        ["make", "up"], cwd=DOCS.parent, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        told: list[str] = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("  state"):
                break
        text = "".join(told)
        for what in ("dashboard", "API", "docs"):
            assert re.search(rf"^  {what}\s+\S", text, re.MULTILINE), text
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            assert answer.status == 200
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        process.wait(timeout=60)  # make waits for its child, then ends by the same signal
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server outlived make"
    assert (tmp_path / "steersman.db").is_file()


def test_record_and_replay(up: Up) -> None:
    running = up().wait_healthy()
    scripts = blocks("how-to/record-and-replay.md", "sh")
    record, replay, compare = (script.replace("10m", "2s") for script in scripts)
    for script in (record, replay, compare):
        done = shell(running, script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    headings = re.findall(r"^([A-Z][^:]+):", shell(running, replay).stdout, re.MULTILINE)
    page = (DOCS / "how-to" / "record-and-replay.md").read_text()
    assert all(f"\n{heading}:" in page for heading in headings)
    running.stop()


@pytest.mark.parametrize(
    "page",
    [README, "how-to/run-as-a-service.md", "how-to/record-and-replay.md", "tutorials/observe-a-fleet.md"],
)
def test_configurations_in_the_guides_are_valid(page: str, tmp_path: Path) -> None:
    found = blocks(page, "yaml")
    assert found
    for number, text in enumerate(found):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        load(Settings, file, {}, reserved=RESERVED_VARIABLES)


def test_tokens_as_the_guide_makes_them(up: Up) -> None:
    running = up(STEERSMAN_AUTH_TOKENS="true").wait_healthy()
    (script,) = [text for text in blocks("how-to/run-as-a-service.md", "sh") if "token create" in text]
    done = shell(running, script.replace("/var/lib/steersman", str(running.home)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stm_") == 2
    running.stop()


def test_the_unit_starts_a_command_that_exists() -> None:
    (unit,) = blocks("how-to/run-as-a-service.md", "ini")
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert line.endswith("/bin/steersman up -c /etc/steersman/steersman.yaml")
    assert "RestartPreventExitStatus=2" in unit
