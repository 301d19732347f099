"""Recording: everything that passes the inlet, into a file or as a stream of the same bytes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from steersman.kernel.clock import Clock
from steersman.kernel.errors import Unavailable
from steersman.kernel.logging import get_logger
from steersman.kinds.settings import RECORD_QUEUE_MAX
from steersman.observe.entries import Entry
from steersman.observe.inlet import Inlet
from steersman.observe.recformat import Encoder, Header
from steersman.observe.tap import Tap

FRAME_INTERVAL_S = 1.0
"""A frame is closed at least this often, so that a crash loses no more than that."""
FILE_MODE = 0o600
"""A recording holds whatever labels and fields hold: for its owner alone."""

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


async def stream(
    inlet: Inlet,
    clock: Clock,
    *,
    program: str,
    queue_max: int = RECORD_QUEUE_MAX,
    until_s: float | None = None,
) -> AsyncIterator[bytes]:
    """The bytes of a recording as it is made, from now until the caller closes the iterator or, where
    `until_s` is given, so many seconds from now; then it ends with a footer.

    A caller that is slow loses entries, never delays them: see `Tap`.
    """
    encoder = Encoder()
    deadline_s = clock.monotonic() + until_s if until_s is not None else None
    with Tap(inlet, clock, queue_max=queue_max) as tap:
        yield encoder.begin(Header(program, clock.now()))
        while deadline_s is None or clock.monotonic() < deadline_s:
            entries = tap.take_now()
            if entries:
                yield encoder.frame(entries)
            else:
                left_s = deadline_s - clock.monotonic() if deadline_s is not None else FRAME_INTERVAL_S
                await clock.sleep(min(FRAME_INTERVAL_S, left_s))
        while entries := tap.take_now():
            yield encoder.frame(entries)
        yield encoder.end()


class Recorder:
    """Records into a file: `await run()` in a supervised task, until `finish` or cancellation.

    The file is whole in both cases: the footer is written last. Writing and compressing happen in a thread.
    A disk that is full ends the recording, says so, and stops nothing else.
    """

    def __init__(
        self, inlet: Inlet, clock: Clock, path: Path, *, program: str, queue_max: int = RECORD_QUEUE_MAX
    ) -> None:
        self._clock = clock
        self._path = path
        self._encoder = Encoder()
        self._program = program
        self._began_at = clock.now()
        self._bytes = 0
        self._failed = ""
        self._tap = Tap(inlet, clock, queue_max=queue_max)

    async def run(self) -> None:
        """Record until told to end. Raises `RecordingUnwritable`."""
        file = await asyncio.to_thread(_create, self._path)
        try:
            with self._tap:
                self._began_at = self._clock.now()
                await self._write(file, self._encoder.begin(Header(self._program, self._began_at)))
                while self._tap.open:
                    entries = await self._tap.take()
                    await self._put(file, entries)
                    await self._clock.sleep(FRAME_INTERVAL_S if self._tap.open else 0)
                await self._end(file)
        except asyncio.CancelledError:
            self._tap.close()
            await self._end(file)  # one more frame or two and the footer; the supervisor's deadline holds
            raise
        except RecordingUnwritable as error:
            self._failed = error.detail
            _log.error("recording_failed", file=str(self._path), detail=error.detail)
            raise
        finally:
            file.close()
            _log.info(
                "recording_ended",
                file=str(self._path),
                fragments=self._encoder.fragments,
                dropped=self._tap.dropped,
                bytes=self._bytes,
            )

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

    async def _end(self, file: BinaryIO) -> None:
        while entries := self._tap.take_now():
            await self._put(file, entries)
        await self._write(file, self._encoder.end())

    async def _put(self, file: BinaryIO, entries: list[Entry]) -> None:
        while entries:
            data = await asyncio.to_thread(self._encoder.frame, entries)
            await self._write(file, data)
            entries = self._tap.take_now()

    async def _write(self, file: BinaryIO, data: bytes) -> None:
        try:
            await asyncio.to_thread(_write_through, file, data)
        except OSError as error:
            raise _unwritable(self._path, error) from error
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
        f"recording {path} can't be written: {error.strerror}; what was written before is good up to its last "
        "whole frame. Name another file, or make room",
        file=str(path),
    )
