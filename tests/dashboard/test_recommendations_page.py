"""Recommendations in a real Chromium: what is decided is seen at once, can be put off, and can be typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dashboard_acting import QUICK, FullNode, ask, axe_faults, quoted, type_shown, write_policies
from dashboard_plane import Plane
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Open = Callable[..., Page]
NARROW_PX = 420
SEEN_WITHIN_S = 3.0
"""From the row of history to the page: a second is what is promised, more for a busy machine."""
_numbers = count(1)


@pytest.fixture(scope="module")
def advised(start_plane: Callable[..., Plane], tmp_path_factory: pytest.TempPathFactory) -> Plane:
    """A plane with the shipped policies, which wait a second where the shipped ones wait longer."""
    home = tmp_path_factory.mktemp("advised")
    write_policies(home)
    text = (home / "policies" / "node-pressure.yaml").read_text()
    (home / "policies" / "node-pressure.yaml").write_text(text.replace("max_count: 2", "max_count: 20"))
    return start_plane(home, config=QUICK)


@pytest.fixture
def full(advised: Plane) -> Iterator[FullNode]:
    """A node of its own for each test."""
    node = FullNode(advised, f"rack-7/full-{next(_numbers)}.hpc")
    yield node
    node.close()


def card_of(page: Page, node: FullNode) -> Locator:
    return page.get_by_role("article").filter(has_text=f"node/{node.scope}/{node.name}")


def shown_in(page: Page) -> str:
    """The command in the open dialog."""
    return page.get_by_role("dialog").locator("code").inner_text()


WATCH = """
window.seenAt = 0;
new MutationObserver(() => {
  const text = document.querySelector('[aria-label="History"]')?.textContent ?? '';
  if (!window.seenAt && text.includes('draining → maintenance')) window.seenAt = Date.now();
}).observe(document.body, { childList: true, subtree: true, characterData: true });
"""


def test_what_is_approved_is_seen_on_the_node_at_once(
    advised: Plane, open_page: Open, full: FullNode
) -> None:
    """Approved in one tab with its facts in sight; another that shows the node tells each step, unasked."""
    page = open_page(advised, "#/recommendations")
    card = card_of(page, full)
    for words in ("disk_utilization", "93 %", "node-agent", "approval: waits", "blast radius: passed"):
        expect(card).to_contain_text(words)
    watcher = open_page(advised, f"#/nodes/{quoted(full.name)}")
    expect(watcher.get_by_role("region", name="History")).to_contain_text("came into being")
    watcher.evaluate(WATCH)
    card.get_by_role("button", name="Approve").click()
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(watcher.locator("svg .state.current text")).to_have_text("maintenance")
    expect(watcher.get_by_role("region", name="History")).to_contain_text("draining → maintenance")
    expect(watcher.get_by_role("region", name="History")).to_contain_text("policy:node-pressure, by loop")
    (row,) = [entry for entry in full.history() if entry["to_state"] == "maintenance" and entry["event"]]
    seen_at = watcher.evaluate("window.seenAt") / 1000
    took_s = seen_at - datetime.fromisoformat(row["at"]).timestamp()
    assert took_s < SEEN_WITHIN_S
    decided = page.get_by_role("region", name="Decided").get_by_role("row").filter(has_text=full.name)
    expect(decided).to_contain_text("applied")


def test_it_is_put_off_and_asked_again(advised: Plane, open_page: Open, full: FullNode) -> None:
    page = open_page(advised, "#/recommendations")
    card = card_of(page, full)
    card.get_by_role("button", name="Snooze 1 h").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("after lunch")
    assert shown_in(page).endswith("--ttl 1h --reason 'after lunch'")
    page.get_by_role("dialog").get_by_role("button", name="Snooze").click()
    expect(card).to_contain_text("Nobody is asked before")
    card.get_by_role("button", name="Ask again").click()
    typed = type_shown(advised, shown_in(page))
    assert typed.returncode == 0, typed.stderr
    page.keyboard.press("Escape")
    expect(card.get_by_role("button", name="Snooze 1 h")).to_be_visible()
    assert full.read()["status"] == "in_service"


def test_the_commands_of_a_decision_do_the_same(advised: Plane, open_page: Open, full: FullNode) -> None:
    """What the dialog shows is typed instead of pressed; the page tells the outcome."""
    page = open_page(advised, "#/recommendations")
    card = card_of(page, full)
    card.get_by_role("button", name="Reject").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("known; it's harmless")
    typed = type_shown(advised, shown_in(page))
    assert typed.returncode == 0, typed.stderr
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    decided = page.get_by_role("region", name="Decided").get_by_role("row").filter(has_text=full.name)
    expect(decided).to_contain_text("rejected")
    decided.get_by_role("link").click()
    expect(page.get_by_role("heading", name=full.name, level=1)).to_be_visible()
    assert full.read()["status"] == "in_service"


def test_a_decision_that_comes_too_late_is_refused_in_words(
    advised: Plane, open_page: Open, full: FullNode
) -> None:
    page = open_page(advised, "#/recommendations", allow=("409", "422", "403"))
    card = card_of(page, full)
    card.get_by_role("button", name="Approve").click()
    (one,) = [r for r in recommendations(advised) if r["recommendation"]["entity"].endswith(full.name)]
    ask(advised, "POST", f"recommendations/{quoted(one['id'])}/reject", {"reason": "first"})
    page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    refused = page.get_by_role("dialog").get_by_role("alert")
    expect(refused).to_contain_text("rejected")
    assert "{" not in refused.inner_text()
    page.keyboard.press("Escape")


def test_a_policy_s_mode_is_set_with_a_reason(advised: Plane, open_page: Open) -> None:
    page = open_page(advised, "#/recommendations")
    mode = page.get_by_label("Mode of node-recovered")
    mode.select_option("observe_only")
    page.get_by_role("dialog").get_by_label("Reason").fill("watch it first")
    shown = shown_in(page)
    page.get_by_role("dialog").get_by_role("button", name="Set").click()
    expect(mode).to_have_value("observe_only")
    back = type_shown(advised, shown.replace("observe_only", "recommend_with_approval"))
    assert back.returncode == 0, back.stderr
    expect(mode).to_have_value("recommend_with_approval")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_it_is_accessible_and_fits_at_any_width(
    advised: Plane, open_page: Open, full: FullNode, screenshots: Path, width: str, scheme: str
) -> None:
    page = open_page(advised, "#/recommendations", color_scheme=scheme, reduced_motion="reduce")
    if width == "narrow":
        page.set_viewport_size({"width": NARROW_PX, "height": 900})
    card = card_of(page, full)
    expect(card).to_be_visible()
    page.screenshot(path=screenshots / f"recommendations-{width}-{scheme}.png")
    assert axe_faults(page) == []
    main = page.locator("main")
    assert main.evaluate("it => it.scrollWidth - it.clientWidth") <= 0, "it is wider than the page"
    card.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert axe_faults(page) == []


def recommendations(plane: Plane) -> list[dict[str, Any]]:
    """All of them."""
    return plane.get("resources/recommendation?limit=500")["items"]
