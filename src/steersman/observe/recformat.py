"""The format of a recording: frames of entries, checked, compressed, and closed by a footer.

    file    = magic "STEERREC", version u16, frame*
    frame   = kind u8, length u32, CRC-32 of the payload u32, CRC-32 of the nine bytes before u32, payload
    payload = zlib(MessagePack)

Kinds: `H` the first frame, a header (who wrote it, when); `D` a list of entries; `F` the last frame, a footer
with the counts and the SHA-256 of every byte before it. All integers are big-endian.

The frame's head has a check of its own, so that a file that was cut (it ends before a frame does) is told
from one that was damaged (a bit of a length turned over). A cut file is good up to its last whole frame. A
frame whose check fails is an error that names file and offset; the frames before it have been read by then.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from struct import Struct as Layout
from typing import Any, BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from steersman.kernel.bounds import MIB
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.observe.entries import Batch, Dropped, Entry

MAGIC = b"STEERREC"
VERSION = 1
LEVEL = 1
"""zlib's fastest: the recorder shares a core with everything else, and fragments repeat themselves so much
that higher levels gain little."""
PAYLOAD_MAX_BYTES = 64 * MIB
"""Of a frame, compressed. Writers stay far below; a reader believes no length above."""
UNPACKED_MAX_BYTES = 256 * MIB
"""Of a frame, unpacked: a small file must not become a large memory."""
FRAME_FRAGMENTS_MAX = 5_000
"""A writer begins a new frame after so many fragments: at most this much is lost to a cut."""

_PREFIX = Layout(">8sH")
_HEAD = Layout(">cII")
_CHECK = Layout(">I")
_HEAD_BYTES = _HEAD.size + _CHECK.size
HEADER, DATA, FOOTER = b"H", b"D", b"F"

T = TypeVar("T")


class RecordingInvalid(InvalidInput):
    """A file is no recording, or one that this program can't read. `facts`: `file`, `version`."""

    code = "recording_invalid"
    title = "Not a recording we can read"


class RecordingCorrupt(InvalidInput):
    """A recording is damaged: a check failed. `facts`: `file`, `offset` of the frame."""

    code = "recording_corrupt"
    title = "Recording damaged"


class RecordingCut(InvalidInput):
    """A recording ends before its footer, and the caller wanted all of it. `facts`: `file`, `offset`."""

    code = "recording_cut"
    title = "Recording cut off"


class Header(Struct, frozen=True):
    """Who wrote a recording and when; `began_at` is the time at which replay begins."""

    program: str
    began_at: datetime


class Footer(Struct, frozen=True):
    """What the file holds, and the SHA-256 of everything before this frame."""

    entries: int
    fragments: int
    dropped: int
    sha256: str


class Encoder:
    """Makes the bytes of one recording, piece by piece: `begin`, any number of `frame`, `end`."""

    def __init__(self) -> None:
        self.entries = 0
        self.fragments = 0
        self.dropped = 0
        self._digest = hashlib.sha256()
        self._pack = msgspec.msgpack.Encoder()

    def begin(self, header: Header) -> bytes:
        """Magic, version and header."""
        return self._keep(_PREFIX.pack(MAGIC, VERSION) + _frame(HEADER, self._pack.encode(header)))

    def frame(self, entries: list[Entry]) -> bytes:
        """A frame of entries. One that can't be encoded (a foreign driver's odd value) becomes a gap."""
        try:
            packed = self._pack.encode(entries)
        except _UNENCODABLE:
            entries = [self._encodable(entry) for entry in entries]
            packed = self._pack.encode(entries)
        for entry in entries:
            self.entries += 1
            if isinstance(entry, Batch):
                self.fragments += len(entry.fragments)
            elif isinstance(entry, Dropped):
                self.dropped += entry.count
        return self._keep(_frame(DATA, packed))

    def end(self) -> bytes:
        """The footer."""
        footer = Footer(self.entries, self.fragments, self.dropped, self._digest.hexdigest())
        return _frame(FOOTER, self._pack.encode(footer))

    def _keep(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data

    def _encodable(self, entry: Entry) -> Entry:
        try:
            self._pack.encode(entry)
        except _UNENCODABLE:
            count = len(entry.fragments) if isinstance(entry, Batch) else 1
            return Dropped(entry.at, entry.elapsed_s, count)
        return entry


class Reader:
    """Reads a recording from a binary stream: `header` at once, entries as they are asked for.

    After the entries have been read through: `complete` where the footer was there and true, else `cut_at`
    is the offset where the last whole frame ends. Raises `RecordingInvalid`, `RecordingCorrupt`.
    """

    def __init__(self, stream: BinaryIO, file: str = "<recording>") -> None:
        self.complete = False
        self.cut_at: int | None = None
        self.footer: Footer | None = None
        self._stream = stream
        self._file = file
        self._offset = 0
        self._digest = hashlib.sha256()
        self._entries = self._fragments = self._dropped = 0
        self._read_prefix()
        first = self._next_frame()
        if first is None:
            raise RecordingInvalid(f"{file} ends before its header: nothing was recorded", file=file)
        if first[0] != HEADER:
            raise self._corrupt(_PREFIX.size, "the first frame is no header")
        self.header = self._decode(first[1], _decode_header, _PREFIX.size)

    def entries(self) -> Iterator[Entry]:
        """The entries in order, once."""
        while True:
            at = self._offset
            digest = self._digest.hexdigest()
            frame = self._next_frame()
            if frame is None:
                self.cut_at = at
                return
            kind, payload = frame
            if kind == FOOTER:
                self._close(payload, at, digest)
                return
            if kind != DATA:
                raise self._corrupt(at, f"a frame of unknown kind {kind!r}")
            for entry in self._decode(payload, _decode_entries, at):
                self._count(entry)
                yield entry

    def require_complete(self) -> None:
        """Raise `RecordingCut` where the file ended early."""
        if self.cut_at is not None:
            raise RecordingCut(
                f"{self._file} ends at byte {self.cut_at} without its footer: it was cut, or is still being "
                "written; what is there up to then is good",
                file=self._file,
                offset=self.cut_at,
            )

    def _read_prefix(self) -> None:
        prefix = self._read(_PREFIX.size)
        if len(prefix) < _PREFIX.size or prefix[: len(MAGIC)] != MAGIC:
            raise RecordingInvalid(f"{self._file} is no recording of Steersman", file=self._file)
        version = _PREFIX.unpack(prefix)[1]
        if version > VERSION or version == 0:
            raise RecordingInvalid(
                f"{self._file} has format version {version}; this program reads up to {VERSION}: use the "
                "newer Steersman that wrote it",
                file=self._file,
                version=version,
            )

    def _next_frame(self) -> tuple[bytes, bytes] | None:
        """Kind and unpacked payload; None where the file ends before the frame does."""
        at = self._offset
        head = self._read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            return None
        kind, length, payload_crc = _HEAD.unpack_from(head)
        if _CHECK.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size]):
            raise self._corrupt(at, "the head of a frame fails its check")
        if length > PAYLOAD_MAX_BYTES:
            raise self._corrupt(at, f"a frame of {length} bytes; at most {PAYLOAD_MAX_BYTES} are written")
        payload = self._read(length)
        if len(payload) < length:
            return None
        if zlib.crc32(payload) != payload_crc:
            raise self._corrupt(at, "a frame fails its check")
        unpack = zlib.decompressobj()
        try:
            data = unpack.decompress(payload, UNPACKED_MAX_BYTES)
        except zlib.error:
            raise self._corrupt(at, "a frame can't be unpacked") from None
        if not unpack.eof or unpack.unused_data:
            raise self._corrupt(at, "a frame can't be unpacked within its bound")
        return kind, data

    def _close(self, payload: bytes, at: int, digest: str) -> None:
        footer = self._decode(payload, _decode_footer, at)
        counts = (self._entries, self._fragments, self._dropped)
        if footer.sha256 != digest or counts != (footer.entries, footer.fragments, footer.dropped):
            raise self._corrupt(at, "the footer does not fit what comes before it")
        if self._stream.read(1):
            raise self._corrupt(self._offset, "more follows after the footer")
        self.footer = footer
        self.complete = True

    def _count(self, entry: Entry) -> None:
        self._entries += 1
        if isinstance(entry, Batch):
            self._fragments += len(entry.fragments)
        elif isinstance(entry, Dropped):
            self._dropped += entry.count

    def _decode(self, payload: bytes, decode: Callable[[bytes], T], at: int) -> T:
        try:
            return decode(payload)
        except (msgspec.MsgspecError, SteersmanError, ValueError, OverflowError, RecursionError) as error:
            raise self._corrupt(at, f"a frame has no sense: {error}") from None

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        wanted = size
        while wanted:
            part = self._stream.read(wanted)
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        data = b"".join(parts)
        self._offset += len(data)
        self._digest.update(data)
        return data

    def _corrupt(self, offset: int, why: str) -> RecordingCorrupt:
        return RecordingCorrupt(
            f"{self._file} is damaged at byte {offset}: {why}; what comes before it is good",
            file=self._file,
            offset=offset,
        )


_UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

_entry_list: Any = list[Entry]
_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_entries = msgspec.msgpack.Decoder(_entry_list).decode
_decode_footer = msgspec.msgpack.Decoder(Footer).decode


def _frame(kind: bytes, packed: bytes) -> bytes:
    payload = zlib.compress(packed, LEVEL)
    head = _HEAD.pack(kind, len(payload), zlib.crc32(payload))
    return head + _CHECK.pack(zlib.crc32(head)) + payload
