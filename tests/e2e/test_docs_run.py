"""The tutorial and the how-to guides are true: their commands are typed as they stand, and succeed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steersman.kernel.config import load
from steersman.kinds.settings import RESERVED_VARIABLES, Settings

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(sh|yaml|ini)\n(.*?)^```", re.MULTILINE | re.DOTALL)
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


@pytest.mark.parametrize("page", ["how-to/run-as-a-service.md", "how-to/record-and-replay.md"])
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
