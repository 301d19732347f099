"""Nodes and recommendations in a real Chromium on a real plane: what is shown, and what a person does."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from dashboard_plane import ROOT, Plane
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.real

Open = Callable[..., Page]
SHIPPED = ROOT / "src" / "steersman" / "decide" / "shipped"
PUSH_EVERY_S = 0.5
CONFIG = """
sources:
  - {name: this-host, driver: host, gpus: false}
policies: [policies]
"""


@pytest.fixture(scope="module")
def acting(start_plane: Callable[..., Plane], tmp_path_factory: pytest.TempPathFactory) -> Plane:
    """A plane whose policies wait half a second where the shipped ones wait longer."""
    home = tmp_path_factory.mktemp("acting")
    (home / "policies").mkdir()
    for file in SHIPPED.glob("*.yaml"):
        text = re.sub(r"^for: .*$", "for: 500ms", file.read_text(), flags=re.MULTILINE)
        (home / "policies" / file.name).write_text(text)
    return start_plane(home, config=CONFIG)


def ask(plane: Plane, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{plane.url}/api/v1{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def full_node(acting: Plane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A node in service whose disk runs full, told again and again as a source would."""
    name = re.sub(r"\W+", "-", request.node.name)[:40]
    disk = [0.3]
    over = threading.Event()

    def tell() -> None:
        fields = {"cpu_utilization": 0.1, "memory_utilization": 0.2, "load_1m": 0.1}
        fragment = {"source_type": "node-agent", "entity_type": "node", "entity_id": name}
        while not over.is_set():
            now = datetime.now(UTC).isoformat()
            acting.push([{**fragment, "observed_at": now, "fields": {**fields, "disk_utilization": disk[0]}}])
            over.wait(PUSH_EVERY_S)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        ask(acting, "PUT", f"/resources/node/{name}", {"kind": "Node", "id": name})
        for event in ("qualify", "qualified"):
            move(acting, name, event)
        disk[0] = 0.93
        yield name
    finally:
        over.set()
        teller.join()


def move(plane: Plane, name: str, event: str) -> None:
    """Send an event; a guard that waits for the first observation is asked again."""
    deadline = time.monotonic() + 20
    while True:
        try:
            ask(plane, "POST", f"/resources/node/{name}/transitions", {"event": event, "reason": "a test"})
        except urllib.error.HTTPError as error:
            if error.code != 422 or time.monotonic() > deadline:
                raise AssertionError(error.read().decode()) from error
            time.sleep(0.1)
        else:
            return


def this_node(plane: Plane) -> str:
    """The node that this machine is."""
    items = ask(plane, "GET", "/resources/node")["items"]
    return str(next(item["id"] for item in items if item["status"] == "in_service"))


def test_a_node_is_moved_and_the_page_tells_it(acting: Plane, open_page: Open) -> None:
    page = open_page(acting, "#/nodes")
    row = page.get_by_role("row").filter(has_text="in_service").first
    expect(row).to_be_visible()
    name = this_node(acting)
    page.get_by_role("link", name=name, exact=True).first.click()
    machine = page.get_by_role("img", name=re.compile("Lifecycle hpc-default"))
    expect(machine).to_be_visible()
    for state in ("in_service", "draining", "maintenance", "retired"):
        expect(machine.get_by_text(state, exact=True)).to_be_attached()
    expect(page.locator("svg .state.current")).to_have_text(re.compile("in_service"))
    page.get_by_label("Where it is meant to be").select_option("maintenance")
    page.get_by_role("button", name="Set", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("a test of the page")
    expect(dialog).to_contain_text(f"steersman set {name} maintenance --reason 'a test of the page'")
    dialog.get_by_role("button", name="Set").click()
    history = page.get_by_role("region", name="History")
    expect(history).to_contain_text("draining → maintenance")
    expect(history).to_contain_text("a test of the page")
    expect(page.locator("svg .state.current")).to_have_text(re.compile("maintenance"))
    ask(acting, "PUT", f"/resources/node/{name}/desired-status", {"status": "in_service", "reason": "back"})
    expect(history).to_contain_text("maintenance → in_service")


def test_the_freeze_switch(acting: Plane, open_page: Open) -> None:
    page = open_page(acting, "#/nodes")
    page.get_by_role("button", name="Freeze", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("a storm")
    expect(dialog).to_contain_text("steersman freeze --reason 'a storm'")
    dialog.get_by_role("button", name="Freeze", exact=True).click()
    thaw = page.get_by_role("button", name="Frozen: thaw")
    expect(thaw).to_be_visible()
    assert ask(acting, "GET", "/freeze")["frozen"] is True
    thaw.click()
    page.get_by_role("dialog").get_by_label("Reason").fill("over")
    page.get_by_role("dialog").get_by_role("button", name="Thaw").click()
    expect(page.get_by_role("button", name="Freeze", exact=True)).to_be_visible()
    assert ask(acting, "GET", "/freeze")["frozen"] is False


def test_a_recommendation_is_approved_with_its_facts_in_sight(
    acting: Plane, open_page: Open, full_node: str
) -> None:
    page = open_page(acting, "#/recommendations")
    card = page.get_by_role("article").filter(has_text=f"node/{full_node}")
    expect(card).to_be_visible()
    expect(card).to_contain_text("proposed")
    for fact in ("disk_utilization", "93", "node-agent", "blast radius: passed", "steersman approve"):
        expect(card).to_contain_text(fact)
    assert ask(acting, "GET", f"/resources/node/{full_node}")["status"] == "in_service"
    card.get_by_role("button", name="Approve").click()
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    page.goto(f"{acting.url}/#/nodes/{full_node}")
    expect(page.get_by_role("region", name="History")).to_contain_text("draining → maintenance")
    expect(page.get_by_role("region", name="History")).to_contain_text("policy:node-pressure")
    entries = ask(acting, "GET", f"/resources/node/{full_node}/history?limit=200")["items"]
    moved = [e for e in entries if e["action"] == "transitioned"][-2:]
    assert [e["to_state"] for e in moved] == ["draining", "maintenance"]
    assert {e["actor"] for e in moved} == {"policy:node-pressure"}
    assert all(e["facts"] for e in moved)


def test_a_recommendation_is_rejected_and_stays_so(acting: Plane, open_page: Open, full_node: str) -> None:
    page = open_page(acting, "#/recommendations")
    card = page.get_by_role("article").filter(has_text=f"node/{full_node}")
    card.get_by_role("button", name="Reject").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("known, and harmless")
    dialog.get_by_role("button", name="Reject").click()
    expect(card).to_have_count(0)
    decided = page.get_by_role("region", name="Decided")
    expect(decided.get_by_role("row").filter(has_text=full_node)).to_contain_text("rejected")
    assert ask(acting, "GET", f"/resources/node/{full_node}")["status"] == "in_service"


@pytest.mark.parametrize("address", ["#/nodes", "#/recommendations"])
def test_the_pages_can_be_used_by_everybody(acting: Plane, open_page: Open, address: str) -> None:
    page = open_page(acting, address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.evaluate((ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [f"{v['id']}: {v['help']}" for v in found["violations"]] == []
