"""Recording into a file: everything that passes the inlet."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from steersman.kernel.clock import Clock
from steersman.kernel.errors import Unavailable
from steersman.kernel.logging import get_logger
from steersman.kernel.tasks import uninterrupted
from steersman.kinds.settings import RECORD_QUEUE_MAX
from steersman.observe.entries import Entry
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import FRAME_FRAGMENTS_MAX, Encoder, Header
from steersman.observe.tap import Tap

FRAME_INTERVAL_S = 1.0
"""A frame is closed at least this often, so that a crash loses no more than that."""
PAUSE_STEPS = 10
FILE_MODE = 0o600
"""A recording holds whatever labels and fields hold: for its owner alone."""

TIME_MARK = "{time}"
"""In a file's name it stands for the start of the recording: each start of the program has its own."""
TIME_FORMAT = "%Y%m%dT%H%M%SZ"

_log = get_logger("observe.recording")


class RecordingUnwritable(Unavailable):
    """The file of a recording can't be made or written: it exists, no permission, the disk is full.

    Nothing else is lost by it. `facts`: `file`.
    """

    code = "recording_unwritable"
    title = "Recording can't be written"


class RecordingStatus(Struct, frozen=True):
    """A recording under way. `dropped` counts fragments that were left out because the writer was behind."""

    file: str
    began_at: datetime
    bytes: int
    entries: int
    fragments: int
    dropped: int
    waiting: int
    failed: str = ""


class Recorder:
    """Records into a file: `open`, then `await run()` in a supervised task, until `finish` or cancellation.

    The file is whole in both cases: the footer is written last. Compressing and writing happen in a thread. A
    disk that fills up ends the recording, says so in `status`, and stops nothing else.
    """

    def __init__(
        self, inlet: Inlet, clock: Clock, path: Path, *, program: str, queue_max: int = RECORD_QUEUE_MAX
    ) -> None:
        self._clock = clock
        self._path = path.with_name(path.name.replace(TIME_MARK, clock.now().strftime(TIME_FORMAT)))
        self._encoder = Encoder()
        self._program = program
        self._began_at = clock.now()
        self._bytes = 0
        self._failed = ""
        self._file: BinaryIO | None = None
        self._tap = Tap(inlet, clock, queue_max=queue_max)

    async def open(self) -> None:
        """Make the file and listen from now on. Raises `RecordingUnwritable`; an existing file is kept."""
        self._file = await asyncio.to_thread(_create, self._path)
        self._tap.__enter__()
        self._began_at = self._clock.now()

    async def run(self) -> None:
        """Write what passes the inlet until told to end. Opens the file where `open` was not called."""
        if self._file is None:
            await self.open()
        if self._file is not None:
            # Told to end in the middle of a write, it finishes the write and the footer first.
            await uninterrupted(self._work(self._file), self.finish)

    def finish(self) -> None:
        """Write what is held, then the footer; `run` returns."""
        self._tap.close()

    def status(self) -> RecordingStatus:
        """How it stands."""
        return RecordingStatus(
            file=str(self._path),
            began_at=self._began_at,
            bytes=self._bytes,
            entries=self._encoder.entries,
            fragments=self._encoder.fragments,
            dropped=self._tap.dropped,
            waiting=self._tap.waiting,
            failed=self._failed,
        )

    async def _work(self, file: BinaryIO) -> None:
        try:
            await self._write(file, self._encoder.begin(Header(self._program, self._began_at)))
            while self._tap.open:
                await self._put(file, await self._tap.take())
                await self._pause()
            await self._put(file, self._tap.take_now())
            await self._write(file, self._encoder.end())
        except OSError as error:
            self._failed = _unwritable(self._path, error).detail
            _log.error("recording_failed", file=str(self._path), detail=self._failed)
        finally:
            self._tap.close()
            file.close()
            _log.info(
                "recording_ended",
                file=str(self._path),
                fragments=self._encoder.fragments,
                dropped=self._tap.dropped,
                bytes=self._bytes,
            )

    async def _pause(self) -> None:
        """Let a good frame come together; a recording that is told to end is not held up by it."""
        for _ in range(PAUSE_STEPS):
            if not self._tap.open or self._tap.waiting >= FRAME_FRAGMENTS_MAX:
                return
            await self._clock.sleep(FRAME_INTERVAL_S / PAUSE_STEPS)

    async def _put(self, file: BinaryIO, entries: list[Entry]) -> None:
        while entries:
            data = await asyncio.to_thread(self._encoder.frame, entries)
            await self._write(file, data)
            entries = self._tap.take_now()

    async def _write(self, file: BinaryIO, data: bytes) -> None:
        await asyncio.to_thread(_write_through, file, data)
        self._bytes += len(data)


def _create(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise _unwritable(path, error) from error
    return os.fdopen(descriptor, "wb", buffering=0)


def _write_through(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _unwritable(path: Path, error: OSError) -> RecordingUnwritable:
    return RecordingUnwritable(
        f"recording {path} can't be written: {error.strerror}; what was written before is good up to its "
        "last whole frame. Name another file, or make room",
        file=str(path),
    )
