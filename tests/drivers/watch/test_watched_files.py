"""Watched files: hashes of whole files, three kinds of not-there, patterns, and baselines over restarts."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steersman.drivers.watch import files
from steersman.drivers.watch.files import read_file, read_watched
from steersman.drivers.watch.options import WatchedFile
from steersman.drivers.watch.snapshots import Baselines, FileFacts, Snapshots

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 1 << 20


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_file_is_hashed_and_its_content_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"password=hunter2")
    read = read_file(str(tmp_path / "a"), LIMIT, True, NOW)
    assert (read.present, read.hash, read.size_bytes) == (True, sha(b"password=hunter2"), 16)
    assert "hunter2" not in repr(read)


def test_missing_unreadable_and_too_large_are_different(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    missing = read_file(str(tmp_path / "no"), LIMIT, True, NOW)
    assert (missing.present, missing.hash, missing.problem) == (False, None, None)
    for name, problem in (
        ("big", "larger than 10 bytes"),
        ("pipe", "not a regular"),
        ("loop", "symbolic links"),
    ):
        read = read_file(str(tmp_path / name), 10, True, NOW)
        assert read.present is True
        assert read.hash is None
        assert problem in (read.problem or "")
    assert read_file(str(tmp_path / "file" / "below"), LIMIT, True, NOW).present is None, "can't be told"


def test_what_is_no_file_is_not_even_opened(tmp_path: Path) -> None:
    """A program that waits for the reader of its pipe must not wake to find nobody there: it would die of
    SIGPIPE. Devices and terminals do things when they are opened."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ends: list[str] = []

    def write() -> None:
        with pipe.open("wb") as file:
            file.write(b"whole")
        ends.append("written")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):  # the writer waits within this time, or the last look would be the one it meets
            assert read_file(str(pipe), LIMIT, True, NOW).problem == "not a regular file"
    finally:
        read = pipe.read_bytes()
        writer.join()
    assert (read, ends) == (b"whole", ["written"])


def test_a_pipe_that_was_just_made_is_not_hashed_at_the_next_look(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"x" * 11)
    for name, problem in (("pipe", "not a regular file"), ("big", "larger than 10 bytes")):
        assert read_file(str(tmp_path / name), 10, True, datetime.now(UTC)).problem == problem


def test_a_time_stamp_beyond_the_calendar_costs_nothing_but_itself() -> None:
    """XFS and tmpfs keep stamps of years that datetime does not have."""
    assert files.time_of(3e11) is None
    assert files.time_of(-1e14) is None
    assert files.time_of(0.0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_baselines_that_are_a_pipe_hang_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "baselines")
    (tmp_path / "a").write_text("1")
    seen = Snapshots([WatchedFile(str(tmp_path / "a"))], Baselines(str(tmp_path / "baselines"))).read(NOW)
    assert seen.files[0].fields["present"] is True
    assert "not a regular file" in seen.warnings[0]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "regular" in (read_file(str(tmp_path), LIMIT, True, NOW).problem or "")


def test_a_link_is_followed_or_hashed_by_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert read_file(str(tmp_path / "link"), LIMIT, True, NOW).hash == sha(b"x")
    kept = read_file(str(tmp_path / "link"), LIMIT, False, NOW)
    assert (kept.hash, kept.link_target) == (sha(b"real"), "real")


def test_a_file_is_never_a_mixture_of_two_versions(tmp_path: Path) -> None:
    """A writer writes it over all the time, several times within one tick of the kernel's time stamps."""
    path = tmp_path / "a"
    versions = [bytes([65 + i]) * 400_000 for i in range(2)]
    path.write_bytes(versions[0])
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            with path.open("r+b") as file:
                file.write(versions[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        hashes = {read_file(str(path), LIMIT, True, datetime.now(UTC)).hash for _ in range(60)}
    finally:
        stop.set()
        writer.join()
    assert hashes <= {sha(versions[0]), sha(versions[1]), None}
    settled = path.stat().st_mtime + 60
    assert read_file(str(path), LIMIT, True, datetime.fromtimestamp(settled, UTC)).hash in map(sha, versions)


def test_patterns_are_bounded_and_sorted(tmp_path: Path) -> None:
    for name in ("b.conf", "a.conf", ".hidden.conf", "c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "dir.conf").mkdir()
    warnings: list[str] = []
    read = read_watched(WatchedFile(f"{tmp_path}/*.conf"), NOW, warnings)
    assert [Path(one.path).name for one in read] == ["a.conf", "b.conf"]
    for i in range(files.MATCHES_MAX + 5):
        (tmp_path / f"{i}.many").write_text("")
    assert (
        len(read_watched(WatchedFile(f"{tmp_path.parent}/{tmp_path.name}/*.many"), NOW, warnings))
        == files.MATCHES_MAX
    )
    assert "matches 261 files" in warnings[0]


def facts(snapshots: Snapshots, path: Path) -> FileFacts:
    (found,) = [one for one in snapshots.read(NOW).files if one.path == str(path)]
    return found


def test_drift_from_a_configured_baseline(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    snapshots = Snapshots([WatchedFile(str(path), baseline=sha(b"1"))], Baselines(None))
    assert facts(snapshots, path).fields["drift"] is False
    path.write_bytes(b"2")
    drifted = facts(snapshots, path)
    assert drifted.fields["drift"] is True
    assert drifted.fields["baseline_from"] == "configured"
    path.unlink()
    missing = facts(snapshots, path)
    assert (missing.fields["present"], missing.fields["drift"]) == (False, True)
    assert "config_hash" in missing.clear, "the hash of a file that is gone is no more"


def test_the_first_content_seen_is_the_baseline_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    snapshots = Snapshots([WatchedFile(str(path))], Baselines(None))
    assert facts(snapshots, path).fields["baseline_from"] == "first_seen"
    path.write_bytes(b"2")
    assert facts(snapshots, path).fields["drift"] is True


def test_a_file_that_was_never_there_has_no_baseline(tmp_path: Path) -> None:
    fields = facts(Snapshots([WatchedFile(str(tmp_path / "a"))], Baselines(None)), tmp_path / "a").fields
    assert fields["present"] is False
    assert "drift" not in fields


def test_first_seen_hashes_outlive_a_restart_in_their_file(tmp_path: Path) -> None:
    """Without it a change made while we were down would become the baseline."""
    path, kept = tmp_path / "a", str(tmp_path / "baselines.json")
    path.write_bytes(b"1")
    Snapshots([WatchedFile(str(path))], Baselines(kept)).read(NOW)
    path.write_bytes(b"2")
    assert facts(Snapshots([WatchedFile(str(path))], Baselines(kept)), path).fields["drift"] is True


def test_a_broken_file_of_baselines_is_said_and_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "baselines.json"
    kept.write_text("{half")
    (tmp_path / "a").write_text("1")
    seen = Snapshots([WatchedFile(str(tmp_path / "a"))], Baselines(str(kept))).read(NOW)
    assert "not a file of baselines" in seen.warnings[0]
    assert kept.read_text() == "{half"


def test_a_file_that_a_pattern_once_matched_is_missed(tmp_path: Path) -> None:
    for name in ("a.conf", "b.conf"):
        (tmp_path / name).write_text(name)
    snapshots = Snapshots([WatchedFile(f"{tmp_path}/*.conf")], Baselines(None))
    snapshots.read(NOW)
    (tmp_path / "b.conf").unlink()
    assert facts(snapshots, tmp_path / "b.conf").fields["present"] is False


@pytest.mark.parametrize("places", ["nowhere", "file"])
def test_baselines_that_can_not_be_written_are_a_warning(tmp_path: Path, places: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a").write_text("1")
    seen = Snapshots([WatchedFile(str(tmp_path / "a"))], Baselines(str(tmp_path / places / "b.json"))).read(
        NOW
    )
    assert len(seen.files) == 1
    assert seen.warnings


def test_a_sealed_hash_can_not_be_guessed_and_still_tells_drift(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_bytes(b"1234")
    plain = facts(Snapshots([WatchedFile(str(path))], Baselines(None)), path).fields
    snapshots = Snapshots([WatchedFile(str(path), baseline=sha(b"1234"))], Baselines(None, b"k" * 16))
    sealed = facts(snapshots, path).fields
    assert sealed["config_hash"].startswith("hmac-sha256:")
    assert sealed["config_hash"] == sealed["baseline_hash"] != plain["config_hash"]
    assert sealed["drift"] is False
    assert "size_bytes" not in sealed
    path.write_bytes(b"1235")
    assert facts(snapshots, path).fields["drift"] is True
