"""A real `steersman up` and a real Chromium for the tests of the dashboard.

Every page is watched: an error on its console, a violation of the content security policy, or a request that
leaves the server's origin fails the test that opened it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_plane import ROOT, Plane
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request, sync_playwright

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
BUILD_TIMEOUT_S = 600
STEP_TIMEOUT_MS = 15_000
"""Time that the page is given for anything: generous, for a machine that does much else meanwhile."""

WATCH_VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""


@pytest.fixture(scope="session")
def start_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Plane]]:
    """Starts planes and ends them with the session. What they serve is built from the sources as they are."""
    subprocess.run([sys.executable, "hatch_build.py"], cwd=ROOT, check=True, timeout=BUILD_TIMEOUT_S)
    started: list[Plane] = []

    def start(home: Path | None = None, **options: Any) -> Plane:
        plane = Plane(home or tmp_path_factory.mktemp("plane"), **options)
        started.append(plane)
        return plane

    yield start
    for plane in started:
        plane.stop()


@pytest.fixture(scope="session")
def plane(start_plane: Callable[..., Plane]) -> Plane:
    """A plane that observes this machine, shared by the tests that only add to it."""
    return start_plane()


class Chromium:
    """Debian's Chromium, headless; started when a test first wants a page."""

    def __init__(self) -> None:
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def start(self, path: str) -> Browser:
        """The browser, started if it is not."""
        if self._browser is None:
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        return self._browser

    def close(self) -> None:
        """End it."""
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One browser for a file's tests. It ends with the file: its driver keeps an event loop in the main
    thread, in which no other test could run one."""
    chromium = Chromium()
    yield chromium
    chromium.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Chromium, real_program: Callable[[str], str]) -> Iterator[Open]:
    """Opens pages of a plane; at the end each must have been clean (see the top of this file)."""
    browser = chromium.start(real_program("chromium"))
    contexts: list[tuple[BrowserContext, list[Page], list[str]]] = []

    def open_one(plane: Plane, address: str = "", *, allow: tuple[str, ...] = (), **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        context.set_default_timeout(STEP_TIMEOUT_MS)
        context.add_init_script(WATCH_VIOLATIONS)
        page = context.new_page()
        faults: list[str] = []
        contexts.append((context, [page], faults))

        def judge_request(request: Request) -> None:
            if not request.url.startswith(f"{plane.url}/"):
                faults.append(f"request outside the origin: {request.url}")

        def judge_console(kind: str, text: str) -> None:
            if kind in ("error", "warning") and not any(word in text for word in allow):
                faults.append(f"console {kind}: {text}")

        page.on("request", judge_request)
        page.on("console", lambda message: judge_console(message.type, message.text))
        page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
        page.goto(f"{plane.url}/{address}")
        return page

    yield open_one
    for context, pages, faults in contexts:
        violations = [v for page in pages for v in page.evaluate("window.violations")]
        context.close()
        assert faults + violations == []


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures go: build/screenshots, or the folder that SCREENSHOTS_FOLDER names."""
    folder = Path(os.environ.get("SCREENSHOTS_FOLDER", ROOT / "build" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
