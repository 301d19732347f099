"""Takes the pictures of the dashboard that the documents show: `python tests/dashboard/take_pictures.py`.

Real ones: a `steersman up` that is given a mixed fleet for a minute, and Debian's Chromium. They are written
to docs/images; see docs/how-to/build-the-dashboard.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dashboard_acting import FullNode, ask, quoted
from dashboard_fleet import Fleet
from dashboard_plane import ROOT, Plane
from playwright.sync_api import ViewportSize, sync_playwright

ROUNDS = 30
PAUSE_S = 2.0
SETTLE_MS = 2500
VIEWPORT: ViewportSize = {"width": 1440, "height": 900}
DECIDED_TIMEOUT_S = 60.0
NODES = ("hpc-101", "hpc-102")
"""Nodes whose disks run full: what is recommended for the first is approved, for the second it waits."""
SIZE_MAX_BYTES = 300 * 1024
PICTURES: tuple[tuple[str, str, Literal["light", "dark"]], ...] = (
    ("dashboard-light.png", "", "light"),
    ("dashboard-dark.png", "", "dark"),
    ("dashboard-entity.png", "#/entity/gpu/{gpu}?scope=hpc-1", "dark"),
    ("dashboard-node.png", "#/nodes/{node}", "light"),
    ("dashboard-recommendation.png", "#/recommendations", "dark"),
)


def main(target: Path) -> int:
    """Write all pictures to a folder. 1 if one is too big to commit."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        plane = Plane(Path(home))
        try:
            fleet = Fleet()
            for _ in range(ROUNDS):
                plane.push(fleet.fragments(datetime.now(UTC)))
                time.sleep(PAUSE_S)
            full = [FullNode(plane, name) for name in NODES]
            try:
                approve(plane, full[0])
                shoot(plane, target)
            finally:
                for node in full:
                    node.close()
        finally:
            plane.stop()
    too_big = [name for name, *_ in PICTURES if (target / name).stat().st_size > SIZE_MAX_BYTES]
    print("\n".join(f"{target / name}: {(target / name).stat().st_size} bytes" for name, *_ in PICTURES))
    return 1 if too_big else 0


def approve(plane: Plane, node: FullNode) -> None:
    """Wait until both nodes have a recommendation, approve the one's, and wait until it is carried out."""
    deadline = time.monotonic() + DECIDED_TIMEOUT_S
    found: dict[str, dict[str, Any]] = {}
    while len(found) < len(NODES) or node.read()["status"] != "maintenance":
        if time.monotonic() > deadline:
            said = {name: item["status"] for name, item in found.items()}
            raise SystemExit(f"not done in {DECIDED_TIMEOUT_S:g} s: {said}, the node {node.read()['status']}")
        items = plane.get("resources/recommendation?limit=500")["items"]
        found = {item["recommendation"]["entity"].rpartition("/")[2]: item for item in items}
        mine = found.get(node.name)
        if len(found) >= len(NODES) and mine is not None and mine["status"] == "proposed":
            path = f"recommendations/{quoted(mine['id'])}/approve"
            ask(plane, "POST", path, {"reason": "its jobs can move"})
        time.sleep(0.5)


def shoot(plane: Plane, target: Path) -> None:
    """One picture of each view."""
    hottest = plane.get("entities?type=gpu&scope=hpc-1&field=temperature_celsius>=90")["items"][0][
        "entity_id"
    ]
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for name, address, scheme in PICTURES:
            page = browser.new_page(viewport=VIEWPORT, color_scheme=scheme)
            page.goto(f"{plane.url}/{address.format(gpu=hottest, node=NODES[0])}")
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=target / name)
        browser.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"))
