"""What holds for the whole suite.

Real servers that CI installed must not be skipped; no property test is judged by how long an example takes on
a busy machine; each worker takes whole files, so that what a file starts (a browser, a server) ends with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["plane_fixtures"]

ROOT = Path(__file__).parents[1]
OWN_SERVERS = {"mlflow": "scripts/install-server mlflow", "ray": "scripts/install-server ray"}
"""Servers that have an environment of their own in `.servers`, and the script that makes it."""
SLURM = {"munged", "slurmctld", "slurmd", "slurmrestd", "scontrol"}
REAL_PROGRAMS = {"chromium", "kubectl", "prometheus", "prometheus-node-exporter", *SLURM, *OWN_SERVERS}


def require_program(name: str) -> str:
    """The path of a real server; skips the test where it is missing, fails where CI said it is there."""
    assert name in REAL_PROGRAMS, f"scripts/install-servers does not know {name}"
    path = shutil.which(name, path=str(ROOT / ".servers" / name / "bin") if name in OWN_SERVERS else None)
    if path is not None:
        return path
    if name in os.environ.get("INSTALLED_SERVERS", "").split(","):
        pytest.fail(f"{name} was installed for this run, and is not found")
    script = OWN_SERVERS.get(name, "scripts/install-servers")
    pytest.skip(f"{name} is not installed; {script} installs it")


def pytest_configure() -> None:
    """Say that the main thread has no loop of its own.

    Else the asyncio plugin makes one only to remember it as "the loop before", never closes it, and the
    ResourceWarning of its collection fails whichever test runs at that moment.
    """
    asyncio.set_event_loop(None)
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skip is a failure: whatever a test needs, the scripts install."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result; its stub says None
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"


@pytest.fixture(scope="session")
def real_program() -> object:
    """`require_program`, as a fixture: the module of a test can't import conftest by name."""
    return require_program
