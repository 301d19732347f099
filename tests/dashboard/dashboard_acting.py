"""Planes that decide quickly, nodes under pressure, and the command that a dialog shows, typed for real."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dashboard_plane import ROOT, Plane
from playwright.sync_api import Page

SHIPPED = ROOT / "src" / "steersman" / "decide" / "shipped"
PUSH_EVERY_S = 0.5
QUICK = "policies: [policies]\nsources:\n  - {name: this-host, driver: host, gpus: false}\n"
AXE = ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
AXE_RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"


def write_policies(home: Path, wait: str = "1s") -> None:
    """The shipped policies, with a `for` that a test can wait for."""
    (home / "policies").mkdir()
    for file in SHIPPED.glob("*.yaml"):
        text = re.sub(r"^for: .*$", f"for: {wait}", file.read_text(), flags=re.MULTILINE)
        (home / "policies" / file.name).write_text(text)


def ask(plane: Plane, method: str, path: str, body: Any = None, token: str = "") -> Any:
    """A request to the API; what it answers, decoded."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{plane.url}/api/v1/{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def quoted(name: str) -> str:
    """An id as one segment of a path."""
    return quote(name, safe="")


class FullNode:
    """A managed node whose disk is nearly full, told again and again as a source would."""

    def __init__(self, plane: Plane, name: str, scope: str = "hpc-1") -> None:
        self.plane, self.name, self.scope = plane, name, scope
        self._over = threading.Event()
        ask(plane, "POST", "resources/node", {"id": name, "status": "in_service", "scope": scope})
        self._teller = threading.Thread(target=self._tell)
        self._teller.start()

    def _tell(self) -> None:
        fields = {"cpu_utilization": 0.1, "memory_utilization": 0.2, "load_1m": 0.1, "disk_utilization": 0.93}
        while not self._over.is_set():
            fragment = {
                "source_type": "node-agent",
                "entity_type": "node",
                "entity_id": self.name,
                "observed_at": datetime.now(UTC).isoformat(),
                "fields": fields,
                "labels": {"cluster": self.scope},
            }
            self.plane.push([fragment])
            self._over.wait(PUSH_EVERY_S)

    def read(self) -> Any:
        """The resource as the API has it."""
        return self.plane.get(f"resources/node/{quoted(self.name)}")

    def history(self) -> list[dict[str, Any]]:
        """Its history, oldest first."""
        return self.plane.get(f"resources/node/{quoted(self.name)}/history?limit=500")["items"]

    def close(self) -> None:
        """No more is told of it."""
        self._over.set()
        self._teller.join()


def type_shown(plane: Plane, shown: str, *more: str, token: str = "") -> subprocess.CompletedProcess[str]:
    """Type a command as the page shows it (`$ steersman ...`), as a shell would read it."""
    program, *words = shlex.split(shown.removeprefix("$ "))
    assert program == "steersman"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(plane.home),
        "STEERSMAN_SERVER": plane.url,
        "STEERSMAN_TOKEN": token,
    }
    argv = [sys.executable, "-m", "steersman", *words, *more]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def axe_faults(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is, contrast included."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(f"axe.run(document, {AXE_RULES})")
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}, "the rules did run"
    return [
        f"{fault['id']}: {fault['help']}: {node['html'][:200]}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]
