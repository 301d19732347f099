"""How `doctor` judges this machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from steersman.app import Installation
from steersman.cli.checks import FAIL, OK, WARN
from steersman.cli.machine import check_folder, check_machine, check_space
from steersman.store.sqlite.inspection import FileFacts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = FileFacts(size_bytes=4096, mode=0o600, written_at=NOW - timedelta(seconds=5), holder=None)


def seen(folder: Path, **changes: object) -> Installation:
    whole = Installation(
        program="steersman 1.0",
        dashboard=True,
        problems=[],
        drivers={},
        folder=folder,
        store=folder / "steersman.db",
        facts=FACTS,
        damage="",
    )
    return whole._replace(**changes)


def verdicts(installation: Installation) -> dict[str, str]:
    return {check.name: check.verdict for check in check_machine(installation, None, NOW)}


def test_a_good_installation_is_good(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert set(verdicts(seen(tmp_path)).values()) == {OK}


def test_each_problem_of_the_configuration_is_a_line(tmp_path: Path) -> None:
    checks = list(check_machine(seen(tmp_path, problems=["a.yaml:1: x", "a.yaml:2: y"]), None, NOW))
    lines = [check.detail for check in checks if check.name == "configuration"]
    assert lines == ["a.yaml:1: x", "a.yaml:2: y"]


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"dashboard": False}, "dashboard files", WARN),
        ({"drivers": {"odd": "can't be loaded"}}, "driver odd", WARN),
        ({"facts": None, "damage": "damaged"}, "store", FAIL),
        ({"facts": None}, "store", OK),
        ({"facts": None, "store": None}, "store", OK),
        ({"facts": FileFacts(1, 0o644, NOW, None)}, "store", WARN),
        ({"facts": FileFacts(1, 0o600, NOW - timedelta(hours=1), None)}, "store", OK),
        ({"facts": FileFacts(1, 0o600, NOW - timedelta(hours=1), 7)}, "store", WARN),
        ({"facts": FileFacts(1, 0o600, NOW, 0)}, "store", OK),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, changes: dict[str, object], name: str, verdict: str) -> None:
    assert verdicts(seen(tmp_path, **changes))[name] == verdict


def test_folders_and_tokens_by_their_modes(tmp_path: Path) -> None:
    def found() -> dict[str, str]:
        return {check.name: check.verdict for check in check_folder(tmp_path)}

    tmp_path.chmod(0o750)
    token = tmp_path / "admin.token"
    token.write_text("x")
    token.chmod(0o640)
    assert found()["state folder"] == WARN
    assert found()["admin token"] == FAIL
    tmp_path.chmod(0o700)
    token.chmod(0o600)
    assert "admin token" not in found()
    assert found()["state folder"] == OK
    assert [check.verdict for check in check_folder(tmp_path / "none")] == [OK]


@pytest.mark.parametrize(("free", "verdict"), [(2**20, FAIL), (2**29, WARN), (2**34, OK)])
def test_disks_by_what_is_free(free: int, verdict: str) -> None:
    assert check_space(free).verdict == verdict
