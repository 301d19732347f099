"""Recordings: whole or honestly cut, damaged ones named by offset, full disks survived, nobody delayed.

The recorder writes in threads, which live in real time; so its tests wait for what it reports, not for time.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.kernel.clock import ManualClock, SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.tasks import Supervisor
from steersman.kinds.entity import EntityKey, EntityType
from steersman.observe.entries import Batch, Declared, Dropped, Entry, Gone, Reported
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import (
    Encoder,
    Header,
    Reader,
    RecordingCorrupt,
    RecordingCut,
    RecordingInvalid,
)
from steersman.observe.recording import Recorder, RecordingUnwritable
from steersman.observe.tap import Tap
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo
from steersman.testing.sources import node_fragment

AT = datetime(2026, 3, 1, tzinfo=UTC)
ENTRIES: list[Entry] = [
    Declared(AT, 0.0, "a", "scripted", 10.0, 0, True, 0.0),
    Batch(AT, 1.0, [node_fragment(f"n{n}", cpu_utilization=n / 10, booted_at=AT) for n in range(5)]),
    Reported(AT, 1.5, "a", False, "down"),
    Gone(AT, 2.0, EntityType.NODE, "", "n1", AT),
    Dropped(AT, 3.0, 7),
]


def encoded(frames: list[list[Entry]]) -> bytes:
    encoder = Encoder()
    parts = [encoder.begin(Header("test 1", AT))]
    parts += [encoder.frame(frame) for frame in frames]
    return b"".join([*parts, encoder.end()])


WHOLE = encoded([ENTRIES, ENTRIES[:2]])


def read(data: bytes) -> tuple[list[Entry], Reader]:
    reader = Reader(io.BytesIO(data), "x.rec")
    return list(reader.entries()), reader


def test_what_was_written_is_read() -> None:
    entries, reader = read(WHOLE)
    assert entries == ENTRIES + ENTRIES[:2]
    assert reader.header == Header("test 1", AT)
    assert reader.complete
    assert reader.footer is not None
    assert (reader.footer.entries, reader.footer.fragments, reader.footer.dropped) == (7, 10, 7)
    reader.require_complete()


def test_a_file_cut_at_any_byte_is_read_up_to_its_last_whole_frame() -> None:
    """Goal: for each length there is either a typed refusal (no header yet) or an honest beginning."""
    counts: set[int] = set()
    for size in range(len(WHOLE)):
        try:
            entries, reader = read(WHOLE[:size])
        except RecordingInvalid:
            assert size < 200
            continue
        assert not reader.complete
        assert reader.cut_at is not None
        assert reader.cut_at <= size
        assert entries == (ENTRIES + ENTRIES[:2])[: len(entries)]
        counts.add(len(entries))
        with pytest.raises(RecordingCut, match=f"ends at byte {reader.cut_at} without its footer"):
            reader.require_complete()
    assert counts == {0, 5, 7}


def test_any_flipped_bit_is_found_or_harmless_and_never_invents() -> None:
    """Goal: whichever bit turns over, a typed error names the file, and what was read before it is true."""
    for position in range(len(WHOLE)):
        for bit in (0, 3, 7):
            data = bytearray(WHOLE)
            data[position] ^= 1 << bit
            entries: list[Entry] = []
            with pytest.raises((RecordingCorrupt, RecordingInvalid), match=r"x\.rec"):
                entries.extend(Reader(io.BytesIO(bytes(data)), "x.rec").entries())
            assert entries == (ENTRIES + ENTRIES[:2])[: len(entries)]


def test_damage_is_named_by_file_and_offset() -> None:
    data = bytearray(WHOLE)
    data[len(WHOLE) // 2] ^= 0xFF
    with pytest.raises(RecordingCorrupt) as caught:
        read(bytes(data))
    assert caught.value.facts["file"] == "x.rec"
    assert 0 < caught.value.facts["offset"] < len(WHOLE)
    assert f"damaged at byte {caught.value.facts['offset']}" in caught.value.detail


def test_a_future_version_is_refused() -> None:
    with pytest.raises(RecordingInvalid, match="format version 2; this program reads up to 1"):
        read(WHOLE[:8] + b"\x00\x02" + WHOLE[10:])


@pytest.mark.parametrize("data", [b"", b"STEER", b"{}", b"\x00" * 100])
def test_what_is_no_recording(data: bytes) -> None:
    with pytest.raises(RecordingInvalid):
        read(data)


def test_more_after_the_footer_is_damage() -> None:
    with pytest.raises(RecordingCorrupt, match="more follows"):
        read(WHOLE + b"x")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_typed_error(tail: bytes) -> None:
    for data in (tail, WHOLE[:10] + tail, WHOLE[: len(WHOLE) // 2] + tail):
        try:
            read(data)
        except (RecordingCorrupt, RecordingInvalid):
            continue


def test_a_small_frame_does_not_become_a_large_memory() -> None:
    """Goal: a frame that unpacks to more than its bound is refused before it is unpacked."""
    import zlib
    from struct import pack

    from steersman.observe.recformat import UNPACKED_MAX_BYTES

    bomb = zlib.compressobj(9)
    payload = (
        b"".join(bomb.compress(bytes(1 << 20)) for _ in range((UNPACKED_MAX_BYTES >> 20) + 2)) + bomb.flush()
    )
    head = pack(">cII", b"D", len(payload), zlib.crc32(payload))
    start = Encoder().begin(Header("t", AT))
    with pytest.raises(RecordingCorrupt, match="within its bound"):
        read(start + head + pack(">I", zlib.crc32(head)) + payload)


def test_what_cannot_be_encoded_becomes_a_gap() -> None:
    odd = Batch(AT, 1.0, [node_fragment("n1", strange=object())])
    entries, reader = read(encoded([[ENTRIES[0], odd]]))
    assert entries == [ENTRIES[0], Dropped(AT, 1.0, 1)]
    assert reader.complete


class World:
    """A bus and its inlet on the loop's time."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.bus = StateBus(self.clock)
        self.inlet = Inlet(self.bus, self.clock)

    def traffic(self, count: int) -> None:
        for n in range(count):
            self.inlet.take([node_fragment(f"n{n}")])


async def test_a_recorder_writes_what_passes_the_inlet(tmp_path: Path) -> None:
    world = World()
    world.inlet.declare(SourceInfo("a", "scripted", 10.0))
    path = tmp_path / "x.rec"
    recorder = Recorder(world.inlet, world.clock, path, program="test 1")
    await recorder.open()
    async with Supervisor(world.clock, seeded_rng(1)) as tasks:
        tasks.start("recorder", recorder.run)
        world.traffic(10)
        world.inlet.forget(EntityKey(EntityType.NODE, "", "n3"), world.clock.now())
        world.inlet.report("a", False, "down")
        while recorder.status().entries < 13:
            await asyncio.sleep(0.001)
        world.traffic(3)
    entries, reader = read(path.read_bytes())
    assert reader.complete
    assert [type(entry).__name__ for entry in entries] == [
        "Declared",
        *["Batch"] * 10,
        "Gone",
        "Reported",
        *["Batch"] * 3,
    ]
    assert recorder.status().fragments == 13
    assert path.stat().st_mode & 0o777 == 0o600


async def test_finish_ends_a_recording_with_its_footer(tmp_path: Path) -> None:
    world = World()
    recorder = Recorder(world.inlet, world.clock, tmp_path / "x.rec", program="t")
    async with Supervisor(world.clock, seeded_rng(1)) as tasks:
        tasks.start("recorder", recorder.run)
        while not recorder.status().bytes:
            await asyncio.sleep(0.001)
        world.traffic(2)
        recorder.finish()
        await tasks.wait()
    assert read((tmp_path / "x.rec").read_bytes())[1].complete


async def test_a_file_name_may_hold_the_time(tmp_path: Path) -> None:
    clock = ManualClock(AT)
    recorder = Recorder(Inlet(StateBus(clock), clock), clock, tmp_path / "a-{time}.rec", program="t")
    assert recorder.status().file == str(tmp_path / "a-20260301T000000Z.rec")


async def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x.rec").write_text("mine")
    world = World()
    with pytest.raises(RecordingUnwritable, match="File exists"):
        await Recorder(world.inlet, world.clock, tmp_path / "x.rec", program="t").open()
    with pytest.raises(RecordingUnwritable, match="No such file or directory"):
        await Recorder(world.inlet, world.clock, tmp_path / "no" / "x.rec", program="t").open()
    assert (tmp_path / "x.rec").read_text() == "mine"


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from steersman.kernel.clock import SystemClock
from steersman.kinds.entity import EntityType
from steersman.kinds.fragment import StateFragment
from steersman.observe.inlet import Inlet
from steersman.observe.recording import Recorder
from steersman.state.bus import StateBus
import os

async def main():
    clock = SystemClock(); bus = StateBus(clock); inlet = Inlet(bus, clock)
    recorder = Recorder(inlet, clock, Path(sys.argv[1]), program="t")
    await recorder.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    inlet.take([StateFragment("s", EntityType.NODE, os.urandom(8).hex(), clock.now(),
                              {"x": os.urandom(1500).hex()}) for _ in range(50)])
    await recorder.run()
    status = recorder.status()
    assert "can't be written" in status.failed, status
    inlet.take([StateFragment("s", EntityType.NODE, "later", clock.now())])
    assert len(bus) == 51

asyncio.run(main())
"""


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    """Goal: with no room for its first frame the recorder gives up by itself; the bus goes on."""
    path = tmp_path / "x.rec"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    entries, reader = read(path.read_bytes())
    assert not reader.complete
    assert entries == []


async def test_a_slow_recorder_loses_entries_and_says_where() -> None:
    world = World()
    with Tap(world.inlet, world.clock, queue_max=10) as tap:
        world.traffic(25)
        assert (tap.waiting, tap.dropped) == (10, 15)
        first = await tap.take()
        assert [type(entry) for entry in first] == [*[Batch] * 10, Dropped]
        assert first[-1].count == 15  # type: ignore[union-attr]
        world.traffic(3)
        assert len(await tap.take()) == 3
    assert await tap.take() == []
    world.traffic(1)
    assert tap.waiting == 0
    assert world.inlet.listeners == 0
