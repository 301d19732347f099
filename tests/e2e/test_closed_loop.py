"""The whole loop on this machine: pressure, degraded, recommendation, drain, maintenance, and back again.

A small disk is really filled, `steersman up` really runs, and its drain step is a real command. Where a test kills the
program, it does so with SIGKILL at a moment drawn by chance; the seed is told when it fails.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pressure import SmallDisk, require_small_disk

Up = Callable[..., Any]

NODE = socket.gethostname()
STORY = ["in_service", "draining", "maintenance", "in_service"]
KILLS = int(os.environ.get("LOOP_KILLS", "50"))
"""`make chaos` asks for more."""
KILLS_A_STORY = 5
STORY_TIMEOUT_S = 90.0
KILL_WITHIN_S = 6.0
"""A story takes some four seconds with the quick policies below: a kill falls into any part of it, or behind it."""

QUICK = """
sources:
  - {name: this-host, driver: host, interval: 300ms, gpus: false}
policies: [policies]
"""
"""Everything but the times is as shipped; with the shipped times one story takes a minute."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    require_small_disk()
    disk = SmallDisk(tmp_path / "pressure")
    yield disk
    disk.close()


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


def test_the_story_with_nothing_set_up_but_the_mode(up: Up, disk: SmallDisk, tmp_path: Path) -> None:
    """The shipped policies, the shipped lifecycle, no configuration file."""
    running = up(prefix=disk.inside(tmp_path)).wait_healthy()
    wait_for_node(running)
    assert node_of(running)["status"] == "in_service"
    for policy in ("node-pressure", "node-recovered"):
        type_ok(running, "policy", "set", policy, "controlled_auto_act", "--reason", "a test of the loop")
    stream = Stream(running.url)
    disk.fill()
    entity = running.until(
        lambda: next(
            (
                e
                for e in running.get("/api/v1/entities?type=node")["items"]
                if e["health_state"] == "degraded"
            ),
            None,
        ),
        "a degraded node",
    )
    assert any(reason["rule"] == "disk_nearly_full" for reason in entity["health_reasons"])
    running.until(lambda: node_of(running)["status"] == "maintenance", "maintenance")
    story = type_ok(running, "explain", f"node/{NODE}")
    for word in ("degraded", "policy:node-pressure", "maintenance", "draining", "disk_utilization"):
        assert word in story, f"{word} is not told:\n{story}"
    disk.empty()
    running.until(lambda: node_of(running)["status"] == "in_service", "its return")

    entries = history_of(running)
    assert states_of(entries) == STORY
    intents = [entry for entry in entries if entry["action"] == "intent_set"]
    assert [entry["actor"] for entry in intents] == ["policy:node-pressure", "policy:node-recovered"]
    assert all(entry["cause"] and entry["reason"] for entry in intents)
    facts = {fact["field"]: fact for fact in intents[0]["facts"]}
    assert any("health" in name for name in facts)
    assert all(fact["source"] and fact["age_s"] >= 0 for fact in facts.values())
    drains = [e for e in entries if e["action"] == "progress_made" and "flush" in json.dumps(e["data"])]
    assert drains, "the drain step is not in history"
    assert '"exit_code": 0' in json.dumps(entries) or '"exit_code":0' in json.dumps(entries)

    moves = [(came, event) for came, event in stream.told if event["data"]["action"] == "transitioned"]
    assert [event["data"]["to"] for _, event in moves] == STORY[1:]
    assert min(came - datetime.fromisoformat(event["time"]).timestamp() for came, event in moves) < 1.0
    type_ok(running, "store", "verify") if running.stop()[0] == 0 else pytest.fail("it did not stop well")


def test_in_recommend_mode_a_person_approves_on_the_command_line(
    up: Up, disk: SmallDisk, tmp_path: Path
) -> None:
    running = start_quick(up, disk, tmp_path, auto=False).wait_healthy()
    wait_for_node(running)
    disk.fill()
    (proposal,) = running.until(lambda: open_recommendations(running), "a recommendation")
    assert proposal["status"] == "proposed"
    assert node_of(running)["status"] == "in_service", "nothing was done before it was approved"
    type_ok(running, "approve", proposal["id"])
    running.until(lambda: node_of(running)["status"] == "maintenance", "maintenance")
    disk.empty()
    (back,) = running.until(lambda: open_recommendations(running), "the recommendation to return")
    assert type_ok(running, "get", "recommendations", "-o", "wide")
    type_ok(running, "approve", back["id"])
    running.until(lambda: node_of(running)["status"] == "in_service", "its return")
    assert states_of(history_of(running)) == STORY
    rejected = running.type("reject", back["id"], "--reason", "too late")
    assert rejected.returncode == 1
    assert "terminal" in rejected.stderr or "not allowed" in rejected.stderr.lower()


def test_a_freeze_stops_what_acts_by_itself_and_a_thaw_lets_it_go_on(
    up: Up, disk: SmallDisk, tmp_path: Path
) -> None:
    running = start_quick(up, disk, tmp_path, auto=True).wait_healthy()
    wait_for_node(running)
    type_ok(running, "freeze", "--reason", "a storm")
    disk.fill()
    running.until(lambda: open_recommendations(running), "a recommendation")
    assert node_of(running)["desired_status"] in (None, "in_service")
    assert states_of(history_of(running)) == ["in_service"]
    type_ok(running, "freeze", "--off", "--reason", "it is over")
    running.until(lambda: node_of(running)["status"] == "maintenance", "maintenance")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("story", range((KILLS + KILLS_A_STORY - 1) // KILLS_A_STORY))
def test_killed_at_any_moment_the_story_ends_the_same(
    up: Up, disk: SmallDisk, tmp_path: Path, story: int
) -> None:
    """Each drain writes a line to a file: a second line for one operation would be a step that ran twice."""
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    ran = tmp_path / "ran"
    running = start_quick(up, disk, tmp_path, auto=True).wait_healthy()
    wait_for_node(running)
    port, home = running.port, running.home
    mark_drains(running, ran)
    disk.fill()
    for _ in range(KILLS_A_STORY):
        deadline = time.monotonic() + chance.uniform(0.0, KILL_WITHIN_S / KILLS_A_STORY)
        while time.monotonic() < deadline:
            time.sleep(0.005)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        running = start_quick(up, disk, tmp_path, auto=True, home=home, port=port).wait_healthy()
    running.until(lambda: node_of(running)["status"] == "maintenance", f"maintenance (seed {seed})")
    disk.empty()
    running.until(lambda: node_of(running)["status"] == "in_service", f"its return (seed {seed})")

    entries = history_of(running)
    assert states_of(entries) == STORY, f"seed {seed}"
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1)), f"seed {seed}"
    lines = ran.read_text().splitlines()
    assert len(lines) == 1, f"the step ran {len(lines)} times (seed {seed})"
    assert len([e for e in entries if e["action"] == "intent_set"]) == 2, f"seed {seed}"
    assert running.stop()[0] == 0
    type_ok(running, "store", "verify")


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
    type_ok(running, "apply", "-f", str(document))
