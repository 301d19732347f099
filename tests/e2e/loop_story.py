"""What the tests of the closed loop share: a node's story, and a quick `steersman up` that tells it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pressure import SmallDisk

Up = Callable[..., Any]

NODE = socket.gethostname()
STORY = ["in_service", "draining", "maintenance", "in_service"]
STORY_TIMEOUT_S = 90.0

QUICK = """
sources:
  - {name: this-host, driver: host, interval: 300ms, gpus: false}
policies: [policies]
"""
"""Everything but the times is as shipped; with the shipped times one story takes a minute."""


def node_of(running: Any) -> dict[str, Any]:
    """The managed node that this machine is."""
    found: dict[str, Any] = running.get(f"/api/v1/resources/node/{NODE}")
    return found


def history_of(running: Any) -> list[dict[str, Any]]:
    """All of its history, oldest first."""
    entries: list[dict[str, Any]] = running.get(f"/api/v1/resources/node/{NODE}/history?limit=1000")["items"]
    return entries


def states_of(entries: list[dict[str, Any]]) -> list[str]:
    """The states that it went through."""
    return [entry["to_state"] for entry in entries if entry["action"] in ("created", "transitioned")]


def type_ok(running: Any, *words: str) -> str:
    """A command that must succeed; what it printed."""
    done = running.type(*words)
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return str(done.stdout)


def wait_for_node(running: Any) -> None:
    running.until(
        lambda: [n for n in running.get("/api/v1/resources/node")["items"] if n["id"] == NODE], "the node"
    )


class Stream:
    """A reader of the event stream; `told` holds each resource event with the moment it came."""

    def __init__(self, url: str) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []
        self._answer = urllib.request.urlopen(f"{url}/api/v1/watch?kinds=node", timeout=STORY_TIMEOUT_S)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        name = ""
        try:
            for raw in self._answer:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == "resource":
                    self.told.append((time.time(), json.loads(line.removeprefix("data: "))))
        except (OSError, ValueError):
            return  # the server ended, or the test did


def open_recommendations(running: Any) -> list[dict[str, Any]]:
    """Those that are not decided."""
    items = running.get("/api/v1/recommendations")["items"]
    return [item for item in items if item["status"] in ("proposed", "approved", "applying")]


def start_quick(
    up: Up,
    disk: SmallDisk,
    folder: Path,
    *,
    auto: bool,
    home: Path | None = None,
    port: int | None = None,
) -> Any:
    """`steersman up` with the shipped policies at a quicker pace, and a drain that leaves a mark."""
    shipped = Path(__file__).parents[2] / "src" / "steersman" / "decide" / "shipped"
    config = folder / "steersman.yaml"
    if not config.exists():
        (folder / "policies").mkdir()
        config.write_text(QUICK)
        for file in sorted(shipped.glob("*.yaml")):
            (folder / "policies" / file.name).write_text(quicken(file.read_text(), auto))
    return up("-c", str(config), home=home, port=port, prefix=disk.inside(folder))


def quicken(policy: str, auto: bool) -> str:
    """A shipped policy with times of a second, and the mode that the test wants."""
    mode = "controlled_auto_act" if auto else "recommend_with_approval"
    text = re.sub(r"^for: .*$", "for: 500ms", policy, flags=re.MULTILINE)
    text = re.sub(r"(cooldown: )[^,}\n]+", r"\g<1>1s", text)
    return re.sub(r"^mode: .*$", f"mode: {mode}", text, flags=re.MULTILINE)


def mark_drains(running: Any, ran: Path) -> None:
    """Give the node a drain command that takes a moment and leaves a line each time it runs."""
    command = ["sh", "-c", f"echo ran >> {ran}; sleep 0.5"]
    document = running.home / "node.yaml"
    document.write_text(json.dumps({"kind": "Node", "id": NODE, "metadata": {"drain_command": command}}))
    token = (running.home / "admin.token").read_text().strip()  # what the plane runs is for admins to say
    done = running.type("apply", "-f", str(document), env={"STEERSMAN_TOKEN": token})
    assert done.returncode == 0, done.stderr
