"""A real `steersman up` in a process of its own, for the tests of the dashboard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 20


class Plane:
    """One `steersman up` on a free port, with a state folder of its own."""

    def __init__(self, home: Path, *, port: int = 0, config: str | None = None) -> None:
        self.home = home
        options: list[str] = []
        if config is not None:
            (home / "steersman.yaml").write_text(config)
            options = ["-c", str(home / "steersman.yaml")]
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "STEERSMAN_HOME": str(home)}
        with (home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "steersman", "up", "--port", str(port), *options],
                cwd=home,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = self._read_url()

    def _read_url(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["dashboard"]:
                return words[1].rstrip("/")
        self.stop()
        raise AssertionError(f"steersman up did not start: {(self.home / 'log').read_text()}")

    @property
    def port(self) -> int:
        """The port it took."""
        return int(self.url.rpartition(":")[2])

    def push(self, fragments: list[dict[str, Any]], token: str = "") -> None:
        """Push fragments, all of which must be taken."""
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        body = json.dumps(fragments).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/fragments", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert said["accepted"] == len(fragments), said

    def get(self, path: str) -> Any:
        """What the API answers, decoded."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_TIMEOUT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


def fragment(kind: str, name: str, fields: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    """A fragment observed now by the source `test`."""
    return {
        "source_type": "test",
        "entity_type": kind,
        "entity_id": name,
        "observed_at": datetime.now(UTC).isoformat(),
        "fields": fields or {},
        "labels": labels,
    }
