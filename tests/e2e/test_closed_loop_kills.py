"""The same story while `steersman up` is killed with SIGKILL again and again, at moments drawn by chance.

The seed is told where a story ends otherwise.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from loop_story import (
    STORY,
    Up,
    history_of,
    mark_drains,
    node_of,
    start_quick,
    states_of,
    type_ok,
    wait_for_node,
)
from pressure import SmallDisk

KILLS = int(os.environ.get("LOOP_KILLS", "50"))
"""`make chaos` asks for more."""
KILLS_A_STORY = 5
KILL_WITHIN_S = 6.0
"""A story takes some four seconds with the quick policies: a kill falls into any part of it, or behind it."""


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
