"""Replay gives the same bytes: twice, in another process, under another hash seed; and the live picture."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from steersman.kernel.clock import ManualClock, using_clock
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.entries import Entry
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import Encoder, Header, Reader, RecordingCorrupt
from steersman.observe.replay import ReplayUnreadable, dump, open_replay, replay, steps
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo

START = datetime(2026, 3, 1, tzinfo=UTC)


def live(path: Path, seconds: int = 600) -> StateBus:
    """A small fleet's ten minutes, recorded: several sources, failures, deletions, stale and refused
    fragments, unknown words, and a wall clock that is set back in the middle."""
    chance = Random(5)
    clock = ManualClock(START)
    bus = StateBus(clock)
    inlet = Inlet(bus, clock)
    entries: list[Entry] = []
    inlet.listen(entries.append)
    for name in ("dcgm", "slurm", "host"):
        inlet.declare(SourceInfo(name, name, 10.0, priority=len(name)))
    for second in range(0, seconds, 5):
        clock.advance(5 + chance.random())
        if second == seconds // 2:
            clock.set_wall(clock.now() - timedelta(seconds=90))
        now = clock.now()
        batch = [
            StateFragment(
                "dcgm",
                EntityType.GPU,
                f"g{n}",
                now - timedelta(seconds=chance.randrange(0, 40)),
                {
                    "gpu_utilization": chance.random(),
                    "throttle_reasons": ["thermal", "power"],
                    "odd": [1, {"a": 2}],
                },
                {"cluster": "hpc", "rack": f"r{n % 3}"},
            )
            for n in range(8)
            if chance.random() < 0.8
        ]
        batch += [
            StateFragment(
                "slurm", EntityType.NODE, f"n{n}", now, {"scheduler_state": chance.choice(["idle", "odd"])}
            )
            for n in range(4)
        ]
        batch.append(StateFragment("host", EntityType.NODE, "n1", now, {"cpu_utilization": chance.random()}))
        batch.append(
            StateFragment("host", EntityType.NODE, "n1", now + timedelta(days=2), {"cpu_utilization": 0.1})
        )
        inlet.take(batch)
        if chance.random() < 0.1:
            inlet.forget(EntityKey(EntityType.GPU, "hpc", f"g{chance.randrange(8)}"), now)
        inlet.report("slurm", chance.random() < 0.9, "")
    encoder = Encoder()
    with path.open("wb") as file:
        file.write(encoder.begin(Header("test 1", START)))
        for at in range(0, len(entries), 50):
            file.write(encoder.frame(entries[at : at + 50]))
        file.write(encoder.end())
    return bus


def lines(path: Path) -> tuple[bytes, Any]:
    parts: list[bytes] = []
    summary = open_replay(path, write=parts.append)
    return b"".join(parts), summary


def test_a_replay_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    live(tmp_path / "x.rec")
    first, summary = lines(tmp_path / "x.rec")
    second, again = lines(tmp_path / "x.rec")
    assert first == second
    assert summary == again
    assert summary.complete
    assert summary.entities > 8
    assert set(summary.verdicts) >= {"created", "merged", "stale", "refused"}


def test_a_replay_gives_the_same_bytes_under_any_hash_seed(tmp_path: Path) -> None:
    live(tmp_path / "x.rec")
    expected = open_replay(tmp_path / "x.rec").sha256
    code = (
        "import sys, pathlib, steersman.observe.replay as r;"
        "print(r.open_replay(pathlib.Path(sys.argv[1])).sha256)"
    )
    for seed in ("0", "1", "4711"):
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "x.rec")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == expected


def test_a_replay_comes_to_the_picture_that_was_live(tmp_path: Path) -> None:
    bus = live(tmp_path / "x.rec")
    clock = ManualClock()
    again = StateBus(clock)
    replay(tmp_path / "x.rec", again, clock)

    def picture(of: StateBus) -> list[dict[str, Any]]:
        rows = [msgspec.json.decode(line) for line in dump(of)]
        for row in rows:
            del row["entity"][
                "revision"
            ]  # also counts when aging was noticed, which the live bus did not do here
            (row["explanation"] or {}).pop("revision", None)
        return rows

    assert picture(again) == picture(bus)


def test_a_cut_recording_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    live(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    summary = open_replay(path)
    assert not summary.complete
    assert summary.cut_at is not None
    assert summary.entities > 8


def test_a_damaged_recording_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    live(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RecordingCorrupt, match="damaged at byte"):
        open_replay(path)


def test_a_missing_recording_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ReplayUnreadable, match="No such file"):
        open_replay(tmp_path / "none")
    with pytest.raises(ReplayUnreadable, match="Is a directory"):
        open_replay(tmp_path)


def test_step_by_step_it_comes_to_the_same_picture_and_shows_each_moment(tmp_path: Path):
    file = tmp_path / "run.rec"
    live(file)
    clock = ManualClock()
    bus = StateBus(clock)
    moments: list[tuple[datetime, int]] = []
    with file.open("rb") as stream, using_clock(clock):
        for entry, _ in steps(Reader(stream, str(file)), bus, clock):
            assert clock.now() == entry.at
            moments.append((entry.at, bus.revision))
        told = list(dump(bus))
    whole: list[bytes] = []
    open_replay(file, write=whole.append)
    assert told == whole
    assert len({revision for _, revision in moments}) > 100
