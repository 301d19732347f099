"""The dashboard in a real Chromium against a real `steersman up`."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dashboard_fleet import Fleet
from dashboard_plane import ROOT, Plane, fragment
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Open = Callable[..., Page]
STEP_TIMEOUT_MS = 15_000
"""Time that a page is given for anything: generous, for a machine that does much else meanwhile."""

expect.set_options(timeout=STEP_TIMEOUT_MS)


def rows(page: Page) -> Locator:
    """The rows of the table that are in the page."""
    return page.locator(".grid .body .row")


def row(page: Page, name: str) -> Locator:
    """The row of an entity."""
    return rows(page).filter(has=page.get_by_role("link", name=name, exact=True))


def live(page: Page) -> None:
    """Wait until the line to the server is up."""
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")


def mark(page: Page) -> None:
    """Leave a mark that a reload would wipe out."""
    page.evaluate("window.mark = 'not reloaded'")


def is_marked(page: Page) -> bool:
    return page.evaluate("window.mark === 'not reloaded'")


def test_the_overview_shows_what_is_observed(plane: Plane, open_page: Open) -> None:
    """Counts and health by type, what is worst and why, sources, confidence."""
    plane.push([fragment("service", "sick", {"up": False, "error_rate": 1.0}, cluster="c1")])
    page = open_page(plane)
    live(page)
    (node,) = [n for n in plane.get("entities?type=node")["items"] if n["scope"] == ""]
    expect(page.get_by_role("region", name="By type").get_by_role("link", name="Nodes")).to_be_visible()
    attention = page.get_by_role("region", name="Needs attention")
    expect(attention.get_by_role("link").filter(has_text="sick").first).to_be_visible()
    expect(page.get_by_role("region", name="Sources")).to_contain_text("this-host")
    expect(page.get_by_role("img", name=re.compile("Entities by confidence"))).to_be_visible()
    page.get_by_role("region", name="By type").get_by_role("link", name="Nodes").click()
    expect(row(page, node["entity_id"])).to_be_visible()


def test_a_push_appears_without_a_reload(plane: Plane, open_page: Open) -> None:
    page = open_page(plane, "#/entities/node")
    live(page)
    mark(page)
    plane.push([fragment("node", "fresh-1", {"cpu_utilization": 0.25}, cluster="live")])
    expect(row(page, "fresh-1")).to_contain_text("25 %")
    plane.push([fragment("node", "fresh-1", {"cpu_utilization": 0.75}, cluster="live")])
    expect(row(page, "fresh-1")).to_contain_text("75 %")
    assert is_marked(page)


def test_search_and_filters_narrow_the_table_and_are_in_the_address(plane: Plane, open_page: Open) -> None:
    plane.push(
        [
            fragment("gpu", f"g{index}", {"gpu_utilization": index / 10}, cluster="s", rack=f"r{index % 2}")
            for index in range(10)
        ]
    )
    page = open_page(plane, "#/entities/gpu?scope=s")
    live(page)
    expect(rows(page)).to_have_count(10)
    search = page.get_by_role("searchbox")
    search.fill("gpu_utilization>=80%")
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_test_id("count")).to_contain_text("2 of")
    search.fill("rack=r1")
    expect(rows(page)).to_have_count(5)
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("rack=r1")
    expect(rows(page)).to_have_count(5)
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Add a label filter").fill("rack=r0")
    page.get_by_label("Add a label filter").press("Enter")
    expect(rows(page)).to_have_count(5)
    page.get_by_role("button", name="Remove the filter rack=r0").click()
    expect(rows(page)).to_have_count(10)
    page.get_by_role("button", name="Busy").click()
    expect(rows(page).first).to_contain_text("g9")
    page.get_by_role("button", name="Busy").click()
    expect(rows(page).first).to_contain_text("g0")


def test_an_entity_s_page_tells_values_units_sources_and_reasons(plane: Plane, open_page: Open) -> None:
    temperatures = (60.0, 70.0, 97.0)
    for temperature in temperatures:
        fields = {"temperature_celsius": temperature, "gpu_memory_used": 42 * 1024**3, "gpu_utilization": 0.5}
        plane.push([fragment("gpu", "GPU-1", {**fields, "odd_field": "kept"}, cluster="page", rack="r9")])
    page = open_page(plane, "#/entity/gpu/GPU-1?scope=page")
    live(page)
    fields_table = page.get_by_role("region", name="Fields")
    temperature_row = fields_table.get_by_role("row").filter(has_text="temperature_celsius")
    expect(temperature_row).to_contain_text("97 °C")
    expect(temperature_row).to_contain_text("test")
    expect(fields_table.get_by_role("row").filter(has_text="gpu_memory_used")).to_contain_text("42 GiB")
    expect(fields_table.get_by_role("row").filter(has_text="odd_field")).to_contain_text("undeclared")
    why = page.get_by_role("complementary", name="Why")
    for item in ("freshness", "coverage", "sources", "agreement"):
        expect(why).to_contain_text(item)
    expect(why.get_by_role("link", name="rack r9")).to_be_visible()
    expect(page.get_by_text("steersman describe gpu/GPU-1 --scope page")).to_be_visible()
    page.get_by_role("tab", name="History").click()
    expect(page.get_by_role("region", name="temperature celsius").locator("canvas")).to_be_visible()
    page.locator(".chart canvas").first.hover()  # the tooltip must not need what the policy forbids
    expect(page.get_by_role("region", name="Health over time")).to_be_visible()
    page.get_by_role("tab", name="Raw JSON").click()
    raw = json.loads(page.locator("pre").inner_text())
    sent = plane.get("entities/gpu/GPU-1?scope=page")
    assert raw["temperature_celsius"] == sent["temperature_celsius"] == 97.0
    assert raw["extra"] == {"odd_field": "kept"}
    why_link = page.get_by_role("tab", name="Fields")
    why_link.click()
    page.get_by_role("complementary", name="Why").get_by_role("link", name="rack r9").click()
    expect(rows(page)).to_have_count(1)


def test_an_entity_that_is_not_there_is_said_to_be_missing(plane: Plane, open_page: Open) -> None:
    page = open_page(plane, "#/entity/node/nobody?scope=nowhere", allow=("404",))
    expect(page.get_by_text("There is no node of this name in scope nowhere")).to_be_visible()


def test_markup_in_names_labels_and_values_stays_text(plane: Plane, open_page: Open) -> None:
    evil = '<img src=x onerror="window.hit=1">\'"><script>window.hit=1</script>'
    fields = {"last_error": evil, "up": False, evil: evil, "url": "javascript:window.hit=1"}
    plane.push([fragment("service", evil, fields, cluster=evil, note=evil)])
    page = open_page(plane)
    live(page)
    expect(page.get_by_text(evil).first).to_be_visible()
    page.goto(f"{plane.url}/#/entities/service")
    row(page, evil).click()
    expect(page.get_by_role("heading", name=evil)).to_be_visible()
    for tab in ("History", "Raw JSON", "Fields"):
        page.get_by_role("tab", name=tab).click()
    expect(page.get_by_role("complementary", name="Why")).to_contain_text(evil)
    assert page.evaluate("window.hit") is None
    assert page.locator("main img").count() == 0
    assert page.locator("main a[href^='javascript']").count() == 0


def test_the_keyboard_is_enough(plane: Plane, open_page: Open) -> None:
    plane.push(
        [fragment("queue", f"q{index:02d}", {"pending_jobs": index}, cluster="keys") for index in range(40)]
    )
    page = open_page(plane, "#/entities/queue?scope=keys&sort=entity_id:asc")
    live(page)
    expect(rows(page).first).to_contain_text("q00")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("q1")
    expect(rows(page)).to_have_count(10)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).not_to_be_focused()
    active = page.locator(".row.active")
    page.keyboard.press("j")
    expect(active).to_contain_text("q00")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    expect(active).to_contain_text("q02")
    page.keyboard.press("k")
    expect(active).to_contain_text("q01")
    page.keyboard.press("End")
    expect(active).to_contain_text("q39")
    grid = page.get_by_role("grid")
    expect(grid).to_be_focused()
    assert grid.get_attribute("aria-activedescendant") == active.get_attribute("id")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="q00")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="Sources")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_light_and_dark_follow_the_system_until_one_is_chosen(plane: Plane, open_page: Open) -> None:
    page = open_page(plane, color_scheme="dark")
    live(page)
    theme = page.locator("html")
    expect(theme).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(theme).to_have_attribute("data-theme", "light")
    page.keyboard.press("t")
    expect(theme).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(theme).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Light theme").click()
    expect(theme).to_have_attribute("data-theme", "light")


def test_rows_hold_still_under_the_pointer(plane: Plane, open_page: Open) -> None:
    """Values move in place; the order changes when the pointer leaves, or on r."""
    plane.push(
        [
            fragment("queue", name, {"pending_jobs": n}, cluster="hold")
            for name, n in (("a", 3), ("b", 2), ("c", 1))
        ]
    )
    page = open_page(plane, "#/entities/queue?scope=hold&sort=pending_jobs:desc")
    live(page)

    def names() -> list[str]:
        return [
            text.strip() for text in page.locator(".body .row [role=gridcell]:nth-child(2)").all_inner_texts()
        ]

    expect(rows(page)).to_have_count(3)
    assert names() == ["a", "b", "c"]
    row(page, "b").hover()
    plane.push(
        [
            fragment("queue", "c", {"pending_jobs": 9}, cluster="hold"),
            fragment("queue", "d", {"pending_jobs": 8}, cluster="hold"),
        ]
    )
    expect(row(page, "c")).to_contain_text("9")
    held = page.get_by_role("button", name=re.compile("Order held"))
    expect(held).to_contain_text("1 to come")
    assert names() == ["a", "b", "c"]
    page.keyboard.press("r")
    expect(rows(page)).to_have_count(4)
    assert names() == ["c", "d", "a", "b"]
    row(page, "a").hover()
    plane.push([fragment("queue", "e", {"pending_jobs": 10}, cluster="hold")])
    expect(held).to_be_visible()
    page.mouse.move(2, 2)
    expect(rows(page).first).to_contain_text("e")


def test_ten_thousand_rows_scroll_as_ten(plane: Plane, open_page: Open) -> None:
    """However many there are, only those in sight are in the page; the last is reached, and changes show."""
    names = [f"big-{index:05d}" for index in range(10_000)]
    for start in range(0, len(names), 2500):
        plane.push(
            [
                fragment("job", name, {"job_state": "running"}, cluster="big")
                for name in names[start : start + 2500]
            ]
        )
    page = open_page(plane, "#/entities/job?scope=big&sort=entity_id:asc")
    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", "10001")
    assert rows(page).count() < 100
    for share in (0.1, 0.5, 0.9):
        page.locator(".grid").evaluate(
            "(grid, share) => { grid.scrollTop = grid.scrollHeight * share }", share
        )
        expect(page.locator(f"[aria-rowindex='{int(10_000 * share) + 10}']")).to_be_attached()
        assert rows(page).count() < 100
    page.get_by_role("grid").focus()
    page.keyboard.press("End")
    expect(row(page, "big-09999")).to_be_visible()
    top = page.locator(".grid").evaluate("(grid) => grid.scrollTop")
    plane.push([fragment("job", "big-09999", {"job_state": "failed"}, cluster="big")])
    expect(row(page, "big-09999")).to_contain_text("failed")
    assert page.locator(".grid").evaluate("(grid) => grid.scrollTop") == top
    page.get_by_role("searchbox").fill("big-04242")
    expect(rows(page)).to_have_count(1)


def test_a_lost_server_is_said_and_found_again(
    start_plane: Callable[..., Plane], open_page: Open, tmp_path: Path
) -> None:
    """The page says that it is stale while the server is away, and catches up when it is back."""
    plane = start_plane(tmp_path)
    plane.push([fragment("node", "before", cluster="r")])
    page = open_page(plane, "#/entities/node?scope=r", allow=("ERR_", "Failed to load resource"))
    live(page)
    mark(page)
    expect(row(page, "before")).to_be_visible()
    plane.stop()
    expect(page.get_by_test_id("connection")).to_contain_text("Stale for")
    expect(row(page, "before")).to_be_visible()
    again = start_plane(tmp_path, port=plane.port)
    again.push([fragment("node", "after", cluster="r")])
    live(page)
    expect(row(page, "after")).to_be_visible()
    expect(row(page, "before")).to_be_visible()
    assert is_marked(page)


def test_a_server_that_forgot_everything_is_believed(
    start_plane: Callable[..., Plane], open_page: Open, tmp_path: Path
) -> None:
    """A restarted server whose store was memory counts from the start: nothing of its old life is kept."""
    plane = start_plane(tmp_path, config="store: 'memory:'\nsources: []\n")
    for _ in range(3):
        plane.push(
            [fragment("node", "old", {"cpu_utilization": 0.9}), fragment("node", "both", {"load_1m": 1})]
        )
    page = open_page(plane, "#/entities/node", allow=("ERR_", "Failed to load resource"))
    live(page)
    expect(rows(page)).to_have_count(2)
    mark(page)
    plane.stop()
    again = start_plane(tmp_path, port=plane.port, config="store: 'memory:'\nsources: []\n")
    again.push([fragment("node", "both", {"load_1m": 2})])
    expect(rows(page)).to_have_count(1)
    expect(row(page, "both")).to_be_visible()
    assert is_marked(page)


def test_a_page_that_missed_too_much_reads_the_list_again(
    start_plane: Callable[..., Plane], open_page: Open, tmp_path: Path
) -> None:
    """More changed while the line was cut than the server sends again: it says resync; the page is right."""
    plane = start_plane(tmp_path)
    page = open_page(plane, "#/entities/job", allow=("ERR_", "Failed to load resource"))
    live(page)
    page.route("**/api/v1/watch", lambda route: route.abort())
    plane.stop()
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "reconnecting")
    again = start_plane(tmp_path, port=plane.port)
    for start in range(0, 21_000, 3000):
        again.push([fragment("job", f"j{index:05d}", cluster="m") for index in range(start, start + 3000)])
    page.unroute("**/api/v1/watch")
    expect(page.get_by_role("grid")).to_have_attribute("aria-rowcount", "21001")
    with urllib.request.urlopen(f"{again.url}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    assert re.search(r"^steersman_watch_resyncs_total [1-9]", metrics, re.MULTILINE)


def test_a_token_is_asked_for_and_kept_out_of_addresses(
    start_plane: Callable[..., Plane], open_page: Open, tmp_path: Path
) -> None:
    plane = start_plane(tmp_path, config="auth: {tokens: true}\n")
    token = (tmp_path / "admin.token").read_text().strip()
    plane.push([fragment("node", "guarded", cluster="t")], token)
    page = open_page(plane, "#/entities/node", allow=("401",))
    dialog = page.get_by_role("dialog", name="This plane asks for a token")
    expect(dialog).to_be_visible()
    page.get_by_label("Token of role").fill("stm_wrong_token")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("not accepted")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Token of role").fill(token)
    page.keyboard.press("Enter")
    live(page)
    expect(row(page, "guarded")).to_be_visible()
    page.reload()
    expect(row(page, "guarded")).to_be_visible()
    secret = token.split("_", 2)[2]
    assert asked
    assert not [url for url in asked if secret in url]
    assert secret not in page.url
    stored: dict[str, Any] = page.evaluate("({...sessionStorage, ...localStorage})")
    assert [key for key, value in stored.items() if secret in value] == ["steersman.token"]
    assert page.evaluate("Object.values(localStorage).join()").find(secret) == -1


@pytest.fixture(scope="module")
def fleet_plane(start_plane: Callable[..., Plane]) -> Plane:
    """A plane that knows a mixed fleet, some of it in trouble, over a little time."""
    plane = start_plane()
    fleet = Fleet()
    for _ in range(3):
        plane.push(fleet.fragments(datetime.now(UTC)))
    return plane


VIEWS = {
    "overview": "",
    "table": "#/entities/gpu",
    "all": "#/entities?q=hpc",
    "entity": "#/entity/node/hpc-012?scope=hpc-1",
    "history": "#/entity/node/hpc-012?scope=hpc-1&tab=history",
    "raw": "#/entity/node/hpc-012?scope=hpc-1&tab=raw",
    "sources": "#/sources",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_accessible_by_axe_s_rules(
    fleet_plane: Plane, open_page: Open, screenshots: Path, view: str, scheme: str
) -> None:
    """WCAG 2.1 A and AA, contrast included, in both themes; and a picture of each for people to look at."""
    page = open_page(fleet_plane, VIEWS[view], color_scheme=scheme, reduced_motion="reduce")
    live(page)
    expect(page.locator("h1")).to_be_attached()
    expect(page.locator("main")).not_to_contain_text("Reading")
    if view in ("overview", "history"):
        expect(page.locator(".chart canvas").first).to_be_visible()
    page.screenshot(path=screenshots / f"{view}-{scheme}.png")
    page.evaluate((ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})"
    )
    told = [
        f"{fault['id']}: {fault['help']}: {node['html'][:200]} ({node['failureSummary']})"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]
    assert told == []
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}, "the rules did run"
