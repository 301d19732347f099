"""Managed nodes in a real Chromium: any name, width, theme and role; keyboard; command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dashboard_acting import ask, axe_faults, quoted, type_shown
from dashboard_plane import Plane
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Open = Callable[..., Page]
ODD = "rack-7/n1.hpc+x y"
"""A name with all that an address, a shell or a path would take apart."""
NARROW_PX = 420


@pytest.fixture(scope="module")
def managed(start_plane: Callable[..., Plane]) -> Plane:
    """A plane that manages this machine and a node of an odd name that nothing observes."""
    plane = start_plane()
    ask(plane, "POST", "resources/node", {"id": ODD, "status": "in_service"})
    return plane


def live(page: Page) -> None:
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")


def set_to(page: Page, status: str, reason: str) -> str:
    """Fill the dialog that says where the node is meant to be; the command that it shows."""
    page.get_by_label("Where it is meant to be").select_option(status)
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_role("dialog").get_by_label("Reason").fill(reason)
    return page.get_by_role("dialog").locator("code").inner_text()


def test_a_node_of_any_name_is_found_and_moved(managed: Plane, open_page: Open) -> None:
    page = open_page(managed, "#/nodes")
    live(page)
    page.get_by_role("link", name=ODD, exact=True).click()
    expect(page.get_by_role("heading", name=ODD, level=1)).to_be_visible()
    shown = set_to(page, "maintenance", 'it\'s "odd"')
    dry = type_shown(managed, shown, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "desired status is maintenance" in dry.stdout
    page.get_by_role("dialog").get_by_role("button", name="Set").click()
    expect(page.get_by_role("region", name="History")).to_contain_text("draining → maintenance")
    explain = page.get_by_text("$ steersman explain").inner_text()
    assert "maintenance" in type_shown(managed, explain).stdout
    # And back: the intent is taken away, by the command that the page shows for it.
    shown = set_to(page, "-", "done")
    assert type_shown(managed, shown).returncode == 0
    expect(page.locator(".facts")).not_to_contain_text("meant to be")
    assert ask(managed, "GET", f"resources/node/{quoted(ODD)}")["desired_status"] is None


def test_every_state_and_event_of_the_table_is_drawn_to_be_read(managed: Plane, open_page: Open) -> None:
    (node,) = [n for n in managed.get("resources/node")["items"] if n["id"] != ODD]
    page = open_page(managed, f"#/nodes/{quoted(node['id'])}")
    table = managed.get("lifecycles/hpc-default")
    states = page.locator("svg .state text")
    expect(states).to_have_count(len(table["states"]))
    assert set(states.all_text_contents()) == {state["name"] for state in table["states"]}
    expect(page.locator("svg .state.current")).to_have_count(1)
    sizes = page.locator("svg .arrow text").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 9, "text that nobody could read"
    drawn = page.locator("svg .arrow title").all_text_contents()
    assert all(any(line["event"] in text for text in drawn) for line in table["transitions"])


def test_a_viewer_is_told_in_the_dialog_that_it_may_not(
    start_plane: Callable[..., Plane], open_page: Open, tmp_path: Path
) -> None:
    plane = start_plane(tmp_path, config="auth: {tokens: true}\n")
    admin = (tmp_path / "admin.token").read_text().strip()
    viewer = ask(plane, "POST", "tokens", {"name": "wall", "role": "viewer"}, admin)["token"]
    page = open_page(plane, "#/nodes", allow=("401", "403"))
    page.get_by_label("Token of role").fill(viewer)
    page.keyboard.press("Enter")
    live(page)
    page.locator("table a").first.click()
    set_to(page, "maintenance", "may I?")
    page.get_by_role("dialog").get_by_role("button", name="Set").click()
    refused = page.get_by_role("dialog").get_by_role("alert")
    expect(refused).to_contain_text("operator")
    assert "{" not in refused.inner_text()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert {entry["status"] for entry in ask(plane, "GET", "resources/node", token=viewer)["items"]} == {
        "in_service"
    }


def test_the_keyboard_leads_there_and_back(managed: Plane, open_page: Open) -> None:
    page = open_page(managed)
    live(page)
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Recommendations", level=1)).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="Nodes", level=1)).to_be_visible()
    page.get_by_role("link", name=ODD, exact=True).press("Enter")
    expect(page.get_by_role("heading", name=ODD)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Nodes", level=1)).to_be_visible()
    freeze = page.get_by_role("button", name="Freeze", exact=True)
    freeze.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(freeze).to_be_focused()


def test_who_froze_and_why_is_told_before_it_is_thawed(managed: Plane, open_page: Open) -> None:
    page = open_page(managed, "#/nodes")
    live(page)
    ask(managed, "PUT", "freeze", {"frozen": True, "reason": "a storm"})
    frozen = page.get_by_role("button", name="Frozen: thaw")
    expect(frozen).to_be_visible()
    frozen.click()
    expect(page.get_by_role("dialog")).to_contain_text("by user:local: a storm")
    page.get_by_role("dialog").get_by_label("Reason").fill("over")
    thaw = page.get_by_role("dialog").locator("code").inner_text()
    assert type_shown(managed, thaw).returncode == 0
    assert ask(managed, "GET", "freeze")["frozen"] is False
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Freeze", exact=True)).to_be_visible()


def test_a_node_that_is_not_managed(managed: Plane, open_page: Open) -> None:
    page = open_page(managed, "#/nodes/nobody", allow=("404",))
    expect(page.locator("main")).to_contain_text("No node of this name is managed")


def test_the_freeze_switch_and_all_views_are_in_reach_on_a_narrow_screen(
    managed: Plane, open_page: Open
) -> None:
    page = open_page(managed, "#/nodes")
    page.set_viewport_size({"width": NARROW_PX, "height": 800})
    live(page)
    for role, name in (("button", "Freeze"), ("link", "Sources"), ("link", "Recommendations")):
        box = page.get_by_role(role, name=name, exact=True).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= NARROW_PX


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_it_is_accessible_and_fits_at_any_width(
    managed: Plane, open_page: Open, screenshots: Path, width: str, scheme: str
) -> None:
    for name, address in (("nodes", "#/nodes"), ("node", f"#/nodes/{quoted(ODD)}")):
        page = open_page(managed, address, color_scheme=scheme, reduced_motion="reduce")
        if width == "narrow":
            page.set_viewport_size({"width": NARROW_PX, "height": 900})
        live(page)
        expect(
            page.locator("svg .state.current") if name == "node" else page.locator("tbody tr").first
        ).to_be_visible()
        page.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png")
        assert axe_faults(page) == []
        main = page.locator("main")
        assert main.evaluate("it => it.scrollWidth - it.clientWidth") <= 0, "it is wider than the page"
