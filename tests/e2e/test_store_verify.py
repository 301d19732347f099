"""`steersman store verify` on copies of a real database that were changed with SQL or byte by byte."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from loop_story import NODE, history_of, node_of, type_ok, wait_for_node

PLACE = f"Node/{quote(NODE, safe='')}"
RESOURCE = f"resources/{PLACE}"
REASON = "a disk is changed"
IDS_PER_REVISION = 16_384
"""A row's id is its revision times this, as the file's layout has it (migrations/0001_log.sql)."""


def row(seq: int) -> str:
    return f"history/{PLACE}/{seq:012d}"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, running_class: Any) -> Iterator[tuple[Any, int]]:
    """A plane that took its node to maintenance and back and was stopped; and how many rows tell of it."""
    home = tmp_path_factory.mktemp("kept")
    home.chmod(0o700)
    running = running_class(home, None)
    try:
        running.wait_healthy()
        wait_for_node(running)
        for status in ("maintenance", "in_service"):
            type_ok(running, "set", f"node/{NODE}", status, "--reason", REASON)
            running.until(lambda status=status: node_of(running)["status"] == status, status)
        running.until(lambda: node_of(running)["observed_generation"] is not None, "the end of the story")
        assert running.stop()[0] == 0
        with closing(sqlite3.connect(home / "steersman.db")) as file:
            sql = "SELECT count(*) FROM log WHERE key LIKE ?"
            (count,) = file.execute(sql, (f"history/{PLACE}/%",)).fetchone()
        yield running, count
    finally:
        running.close()


@pytest.fixture
def copy(stopped: tuple[Any, int], tmp_path: Path) -> Path:
    """A copy of its state folder."""
    home = tmp_path / "copy"
    shutil.copytree(stopped[0].home, home)
    return home


def execute(home: Path, sql: str, **given: Any) -> None:
    """Change the file. A statement that changes nothing would prove nothing."""
    with closing(sqlite3.connect(home / "steersman.db")) as file, file:
        assert file.execute(sql, given).rowcount > 0, sql


def replace(home: Path, key: str, old: str, new: str) -> None:
    sql = (
        "UPDATE log SET value = CAST(replace(CAST(value AS TEXT), :old, :new) AS BLOB)"
        " WHERE id = (SELECT max(id) FROM log WHERE key = :key) AND instr(CAST(value AS TEXT), :old)"
    )
    execute(home, sql, key=key, old=old, new=new)


def insert_copy(home: Path, key: str, of: str) -> None:
    """Another row with the bytes of one that is there, at a revision of its own."""
    sql = (
        f"INSERT INTO log SELECT (SELECT max(id) / {IDS_PER_REVISION} + 1 FROM log) * {IDS_PER_REVISION},"
        " :key, 1, value, NULL FROM log WHERE key = :of ORDER BY id DESC LIMIT 1"
    )
    execute(home, sql, key=key, of=of)


def change_a_row(home: Path, _rows: int) -> tuple[str, str]:
    replace(home, row(2), '"actor":"', '"actor":"user:malory+')
    return row(2), "its hash is not that of what it says"


def flip_a_byte_of_the_file(home: Path, rows: int) -> tuple[str, str]:
    """In the page of one history row, below SQL: what a bad disk would do."""
    file = home / "steersman.db"
    with closing(sqlite3.connect(file)) as db:
        (seq, value) = next(
            (seq, value)
            for seq in range(1, rows + 1)
            for (value,) in db.execute("SELECT value FROM log WHERE key = ?", (row(seq),))
            if REASON.encode() in value
        )
    data = file.read_bytes()
    assert data.count(value) == 1, "the row is in one piece, and in one place"
    at = data.index(value) + value.index(REASON.encode())
    file.write_bytes(data[:at] + b"A" + data[at + 1 :])
    return row(seq), "its hash is not that of what it says"


def take_a_row_away(home: Path, _rows: int) -> tuple[str, str]:
    execute(home, "DELETE FROM log WHERE key = :key", key=row(2))
    return row(3), "row 2 should be here; rows are missing"


def take_the_last_row_away(home: Path, rows: int) -> tuple[str, str]:
    execute(home, "DELETE FROM log WHERE key = :key", key=row(rows))
    return RESOURCE, f"it is at version {rows}, and its history ends with row {rows - 1}"


def add_a_row(home: Path, rows: int) -> tuple[str, str]:
    insert_copy(home, row(rows + 1), row(rows))
    return row(rows + 1), ""


def change_the_resource(home: Path, _rows: int) -> tuple[str, str]:
    replace(home, RESOURCE, '"status":"in_service"', '"status":"maintenance"')
    return RESOURCE, "it is not what its last row wrote: something else changed it"


def add_a_resource(home: Path, _rows: int) -> tuple[str, str]:
    insert_copy(home, "resources/Node/intruder", RESOURCE)
    return "resources/Node/intruder", ""


def take_the_resource_away(home: Path, rows: int) -> tuple[str, str]:
    execute(home, "DELETE FROM log WHERE key = :key", key=RESOURCE)
    return row(rows), "neither a resource nor a grave is at its end"


TAMPERING: list[Callable[[Path, int], tuple[str, str]]] = [
    change_a_row,
    flip_a_byte_of_the_file,
    take_a_row_away,
    take_the_last_row_away,
    add_a_row,
    change_the_resource,
    add_a_resource,
    take_the_resource_away,
]


def test_an_untouched_copy_is_whole(stopped: tuple[Any, int], copy: Path) -> None:
    """The copies themselves are no damage."""
    running, _ = stopped
    done = running.type("store", "verify", env={"STEERSMAN_HOME": str(copy)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing is wrong" in done.stdout


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_what_was_changed_taken_away_or_added_is_named(
    stopped: tuple[Any, int], copy: Path, tamper: Callable[[Path, int], tuple[str, str]]
) -> None:
    running, rows = stopped
    key, problem = tamper(copy, rows)
    env = {"STEERSMAN_HOME": str(copy)}
    done = running.type("store", "verify", env=env)
    assert done.returncode == 1, done.stdout
    named = [line for line in done.stdout.splitlines() if line.startswith(f"{key}: ")]
    assert named, done.stdout
    assert any(problem in line for line in named), done.stdout
    assert "Traceback" not in done.stderr
    told = running.type("store", "verify", "-o", "json", env=env)
    assert told.returncode == 1
    report = json.loads(told.stdout)
    assert report["ok"] is False
    assert key in {one["key"] for one in report["report"]["problems"]}


def test_a_running_plane_is_told_of_in_one_line(up: Callable[..., Any]) -> None:
    running = up().wait_healthy()
    wait_for_node(running)
    assert history_of(running)
    done = running.type("store", "verify")
    assert done.returncode == 1
    assert done.stdout == ""
    (line, *hints) = done.stderr.splitlines()
    assert str(running.process.pid) in line
    assert str(running.home / "steersman.db") in line
    assert all(hint.startswith("hint:") for hint in hints), done.stderr
    assert running.healthy()
    assert running.stop()[0] == 0


def test_where_there_is_no_store_it_says_so(stopped: tuple[Any, int], tmp_path: Path) -> None:
    running, _ = stopped
    done = running.type("store", "verify", env={"STEERSMAN_HOME": str(tmp_path / "nothing")})
    assert done.returncode == 1
    assert "there is no store" in done.stderr
    assert not (tmp_path / "nothing").exists()
