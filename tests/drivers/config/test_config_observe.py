"""Folders by hash and git worktrees as they stand, on real files and with a real git."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.config import ConfigDriver, ConfigOptions
from steersman.drivers.config.client import Git
from steersman.drivers.config.folders import FolderHash
from steersman.drivers.config.options import WatchedFolder, Worktree
from steersman.drivers.config.worktree import read_status, worktree_fields
from steersman.drivers.watch.options import WatchedFile
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret

LATER = datetime.now(UTC) + timedelta(hours=1)
"""When everything that a test wrote has settled."""


def folder_hash(path: Path, **more: Any) -> dict[str, Any]:
    return FolderHash(WatchedFolder(str(path), **more)).read(LATER)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "sub" / "b").write_text("2")
    return folder


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda etc: (etc / "sub" / "b").write_text("3"),
    "name": lambda etc: (etc / "a").rename(etc / "c"),
    "permissions": lambda etc: (etc / "a").chmod(0o600),
    "a folder's permissions": lambda etc: (etc / "sub").chmod(0o700),
    "an empty folder": lambda etc: (etc / "new").mkdir(),
    "a link": lambda etc: (etc / "l").symlink_to("a"),
    "a pipe": lambda etc: os.mkfifo(etc / "p"),
    "moved down": lambda etc: (etc / "a").rename(etc / "sub" / "a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_change_gives_another_hash(etc: Path, change: str) -> None:
    before = folder_hash(etc)
    assert before["config_hash"] == folder_hash(etc)["config_hash"]
    CHANGES[change](etc)
    assert folder_hash(etc)["config_hash"] != before["config_hash"]


def test_a_link_is_not_followed_only_where_it_points_counts(etc: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("1")
    (etc / "l").symlink_to(outside)
    before = folder_hash(etc)["config_hash"]
    outside.write_text("2")
    assert folder_hash(etc)["config_hash"] == before


def test_excluded_names_do_not_count(etc: Path) -> None:
    before = folder_hash(etc, exclude=["*.swp"])["config_hash"]
    (etc / "sub" / "x.swp").write_text("")
    assert folder_hash(etc, exclude=["*.swp"])["config_hash"] == before


@pytest.mark.parametrize(
    ("bound", "said"),
    [({"entries_max": 2}, "2 entries"), ({"depth_max": 1}, "1 folders"), ({"max_bytes": 1}, "larger than")],
)
def test_a_folder_beyond_its_bounds_has_no_half_hash(etc: Path, bound: dict[str, Any], said: str) -> None:
    read = folder_hash(etc, **bound)
    assert "config_hash" not in read
    assert said in read["problem"]


def test_missing_no_folder_and_just_changed_are_different(etc: Path) -> None:
    assert folder_hash(etc / "no") == {"present": False}
    assert "not a directory" in folder_hash(etc / "a")["problem"]
    moment = FolderHash(WatchedFolder(str(etc))).read(datetime.now(UTC))
    assert "moment ago" in moment["problem"]


def test_what_did_not_change_is_not_read_again(etc: Path) -> None:
    reader = FolderHash(WatchedFolder(str(etc)))
    first = reader.read(LATER)
    known = dict(reader._known)
    assert reader.read(LATER) == first
    assert all(reader._known[path][1] is known[path][1] for path in known)


# ---- worktrees


def git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            "git",
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
            "-C",
            tree,
            *arguments,
        ],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tree), "GIT_EDITOR": "true"},
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    git(path, "init", "-q")
    (path / "a").write_text("1\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "one")
    return path


def look(tree: Path, program: str = "git", *, trusted: bool = False) -> dict[str, Any]:
    until = time.monotonic() + 20
    made = Git(program, str(tree), trusted=trusted, left_s=lambda: max(0.0, until - time.monotonic()))
    return worktree_fields(made, str(tree), LATER)


def test_a_clean_worktree_is_its_commit(tree: Path) -> None:
    fields = look(tree)
    head = git(tree, "rev-parse", "HEAD")
    assert fields["commit"] == head
    assert fields["config_hash"] == f"git:{head}"
    assert fields["tree"] == git(tree, "rev-parse", "HEAD^{tree}")
    assert fields["branch"] == "main"
    assert (fields["changed_files"], fields["untracked_files"], fields["conflicts"]) == (0, 0, 0)
    assert fields["ahead"] is fields["behind"] is fields["in_progress"] is None


def test_changes_count_and_each_further_change_gives_another_hash(tree: Path) -> None:
    clean = look(tree)["config_hash"]
    (tree / "a").write_text("2\n")
    first = look(tree)
    (tree / "a").write_text("3\n")
    second = look(tree)
    (tree / "new").write_text("x")
    third = look(tree)
    assert (first["changed_files"], third["untracked_files"]) == (1, 1)
    assert len({clean, first["config_hash"], second["config_hash"], third["config_hash"]}) == 4


def test_a_submodule_at_another_commit_is_a_change_and_nothing_is_run_in_it(
    tree: Path, tmp_path: Path
) -> None:
    part = tree / "part"
    ran = tmp_path / "ran"
    git(tree, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tree), "part")
    git(tree, "commit", "-qm", "with a part")
    clean = look(tree)
    assert clean["changed_files"] == 0
    git(part, "config", "core.fsmonitor", f"touch {ran}; false")
    git(part, "config", "filter.x.clean", f"touch {ran}; cat")
    (part / ".gitattributes").write_text("* filter=x\n")
    (part / "a").write_text("2\n")
    assert look(tree)["config_hash"] == clean["config_hash"], "what is in it is not looked at"
    assert not ran.exists()
    hashes = {clean["config_hash"]}
    for number in range(2):
        git(part, "commit", "-qm", str(number), "--allow-empty")
        ran.unlink(missing_ok=True)
        moved = look(tree)
        assert moved["changed_files"] == 1
        assert moved["config_hash"] not in hashes
        hashes.add(moved["config_hash"])
        assert not ran.exists()
    git(tree, "add", "part")
    assert look(tree)["config_hash"] not in hashes


def test_ahead_and_behind_are_those_known_here(tree: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(tree), str(clone)], check=True, capture_output=True)
    (clone / "b").write_text("1")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "mine")
    (tree / "c").write_text("1")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "theirs")
    before = look(clone)
    assert (before["ahead"], before["behind"], before["upstream"]) == (1, 0, "origin/main")
    git(clone, "fetch", "-q")
    assert look(clone)["behind"] == 1


def test_a_rebase_that_stopped_is_told_with_its_conflict(tree: Path) -> None:
    git(tree, "checkout", "-qb", "side")
    (tree / "a").write_text("side\n")
    git(tree, "commit", "-qam", "side")
    git(tree, "checkout", "-q", "main")
    (tree / "a").write_text("main\n")
    git(tree, "commit", "-qam", "main")
    git(tree, "rebase", "side")
    fields = look(tree)
    assert fields["in_progress"] == "rebase"
    assert fields["branch"] is None, "its head is detached meanwhile"
    assert fields["conflicts"] == 1
    git(tree, "rebase", "--abort")
    assert look(tree)["in_progress"] is None


def test_a_second_worktree_and_one_without_a_commit(tree: Path, tmp_path: Path) -> None:
    git(tree, "worktree", "add", "-q", str(tmp_path / "second"))
    assert look(tmp_path / "second")["branch"] == "second"
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    fields = look(empty)
    assert fields["commit"] is None
    assert "config_hash" not in fields


def test_what_is_no_worktree_is_a_problem_of_its_own(tmp_path: Path, tree: Path) -> None:
    assert look(tmp_path / "no") == {"present": False}
    plain = tmp_path / "plain"
    plain.mkdir()
    assert "not a git repository" in look(plain)["problem"]


def test_nothing_that_a_worktree_names_is_run(tree: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\necho x >> {mark}\ncat\n")
    program.chmod(0o755)
    (tree / ".gitattributes").write_text("* filter=evil diff=evil\n")
    for name in (
        "filter.evil.clean",
        "filter.evil.process",
        "core.fsmonitor",
        "diff.evil.command",
        "core.pager",
    ):
        git(tree, "config", name, str(program))
    git(tree, "config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-index-change").write_text(program.read_text())
    (tmp_path / "post-index-change").chmod(0o755)
    mark.unlink(missing_ok=True)
    (tree / "a").write_text("9\n")
    index = (tree / ".git" / "index").read_bytes()
    fields = look(tree)
    assert fields["changed_files"] == 1
    assert not mark.exists()
    assert (tree / ".git" / "index").read_bytes() == index, "looking writes nothing"
    git(tree, "status")
    assert mark.exists(), "else this test would show nothing"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a worktree of another user")
def test_a_worktree_of_another_user_is_read_only_where_it_is_trusted(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, 65534, 65534)
    assert "dubious ownership" in look(tree)["problem"]
    assert look(tree, trusted=True)["branch"] == "main"


def test_a_git_that_is_missing_is_named(tree: Path) -> None:
    with pytest.raises(SourceError, match=r"git \(/no/git\) can't be run: no such file.*installed"):
        look(tree, "/no/git")


@pytest.mark.parametrize("answer", [b"", b"hello\0", b"1 M.\0", b"# branch.head main\0"])
def test_what_is_no_status_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|record"):
        read_status(answer)


def test_a_renamed_file_is_one_change() -> None:
    status = read_status(
        b"# branch.oid 1\0" + b"2 R. N... 100644 100644 100644 aa bb R100 new name\0old\0" + b"? x y\0"
    )
    assert [name for _, name in status.changes] == [b"new name"]
    assert status.untracked == [b"x y"]


# ---- the driver


async def test_files_folders_and_worktrees_are_told_with_drift_from_what_was_seen_first(
    tree: Path, etc: Path, tmp_path: Path
) -> None:
    old = time.time() - 60
    for path in [etc, *etc.rglob("*")]:
        os.utime(path, (old, old))
    head = git(tree, "rev-parse", "HEAD")
    options = ConfigOptions(
        node="n1",
        files=[WatchedFile(f"{tree}/a")],
        folders=[WatchedFolder(str(etc))],
        worktrees=[Worktree(str(tree), commit=head)],
        baselines=str(tmp_path / "baselines.json"),
    )
    clock = SystemClock()
    driver = ConfigDriver(options, DriverContext("cfg", "", clock, seeded_rng(1), 60.0, 20.0))
    try:
        await clock.sleep(2.1)
        told = {fragment.entity_id: fragment for fragment in (await driver.observe()).fragments}
        assert set(told) == {f"n1:{tree}/a", f"n1:{etc}", f"n1:{tree}"}
        assert told[f"n1:{tree}"].fields["drift"] is False
        assert told[f"n1:{tree}"].fields["baseline_from"] == "configured"
        assert told[f"n1:{etc}"].fields["baseline_from"] == "first_seen"
        assert told[f"n1:{etc}"].labels["kind"] == "folder"
        (tree / "b").write_text("untracked")
        os.utime(tree / "b", (old, old))
        fields = {f.entity_id: f.fields for f in (await driver.observe()).fragments}[f"n1:{tree}"]
        assert fields.get("drift") is True or "moment ago" in fields["problem"]
    finally:
        await driver.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs files"),
        ({"files": [WatchedFile("/a")], "folders": [WatchedFolder("/a")]}, "twice"),
        ({"files": [WatchedFile("/a")], "labels": {"cluster": "x"}}, "scope"),
        ({"files": [WatchedFile("/a")], "seal_key": Secret("short")}, "16 characters"),
    ],
)
def test_options_that_contradict_themselves_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConfigOptions(**options)
