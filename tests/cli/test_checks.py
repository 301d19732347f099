"""How `doctor` judges what a server says of itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from steersman.cli.checks import FAIL, OK, WARN, check_access, check_clock, check_server, check_sources
from steersman.client.shapes import Status, TaskStatus, WhoAmI
from steersman.kinds.explanation import SourceStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = Status("1.0", NOW, NOW, 60.0, ready=True, dashboard_built=True)
SOURCE = SourceStatus("a", "host", 10.0, priority=0, declared=True, state="alive", silent_s=3.0)


def verdicts(status: Status, own: str = "1.0") -> dict[str, str]:
    return {check.name: check.verdict for check in check_server(status, "http://h", own)}


def test_a_good_server_is_good() -> None:
    assert verdicts(GOOD) == {"server": OK, "ready": OK, "dashboard": OK}


def test_another_version_is_a_warning() -> None:
    assert verdicts(GOOD, "2.0")["version"] == WARN


def test_what_is_not_ready_fails_with_its_reason() -> None:
    status = structs.replace(GOOD, ready=False, failed=("store: full\x1b[31m",))
    (check,) = [one for one in check_server(status, "h", "1.0") if one.name == "ready"]
    assert check.verdict == FAIL
    assert check.detail == "store: full\\x1b[31m"
    assert check.advice


@pytest.mark.parametrize(
    ("task", "verdict"),
    [
        (TaskStatus("bus", "running"), None),
        (TaskStatus("bus", "ended"), None),
        (TaskStatus("bus", "failed", last_error="boom"), FAIL),
        (TaskStatus("bus", "stuck"), FAIL),
        (TaskStatus("bus", "running", restarts=2, last_error="boom"), WARN),
    ],
)
def test_tasks_that_failed_are_told(task: TaskStatus, verdict: str | None) -> None:
    assert verdicts(structs.replace(GOOD, tasks=(task,))).get("task bus") == verdict


def test_a_dashboard_that_was_not_built_is_a_warning() -> None:
    assert verdicts(structs.replace(GOOD, dashboard_built=False))["dashboard"] == WARN


@pytest.mark.parametrize(
    ("skew_s", "verdict", "word"),
    [
        (0, OK, ""),
        (0.05, OK, ""),
        (1.9, OK, ""),
        (5, WARN, "ahead"),
        (-5, WARN, "behind"),
        (61.5, FAIL, "ahead"),
    ],
)
def test_clocks_that_differ(skew_s: float, verdict: str, word: str) -> None:
    """The request took 0.1 s; a server's clock read within that time differs by nothing."""
    check = check_clock(NOW + timedelta(seconds=skew_s), NOW, NOW + timedelta(seconds=0.1))
    assert check.verdict == verdict
    assert word in check.detail


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        (SOURCE, OK),
        (structs.replace(SOURCE, state="unheard", silent_s=None), WARN),
        (structs.replace(SOURCE, state="failing", failures=1, detail="refused"), WARN),
        (structs.replace(SOURCE, state="failing", failures=3, silent_s=None), WARN),
        (structs.replace(SOURCE, state="silent", silent_s=900.0), FAIL),
        (structs.replace(SOURCE, state="silent", silent_s=900.0, declared=False), FAIL),
    ],
)
def test_sources_by_their_state(source: SourceStatus, verdict: str) -> None:
    (check,) = check_sources([source])
    assert check.verdict == verdict
    assert bool(check.advice) == (verdict != OK)
    assert source.detail in check.detail


def test_no_source_at_all_is_a_warning() -> None:
    assert [check.verdict for check in check_sources([])] == [WARN]


def test_who_we_are() -> None:
    check = check_access(GOOD, WhoAmI("anonymous", "operator", anonymous=True))
    assert "without a token, role operator" in check.detail
    check = check_access(structs.replace(GOOD, tokens_required=True), WhoAmI("ci", "viewer"))
    assert "as ci, role viewer; every caller needs a token" in check.detail
