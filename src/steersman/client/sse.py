"""Server-Sent Events, parsed as their bytes arrive (WHATWG HTML, "Interpreting an event stream")."""

from __future__ import annotations

from typing import NamedTuple

from steersman.client.errors import BadAnswer
from steersman.kernel.bounds import MIB

EVENT_MAX_BYTES = 16 * MIB
"""No event of ours comes near; a stream that sends one is not one of ours."""


class ServerEvent(NamedTuple):
    """One event. `id` is the one it carries itself; None where it has none."""

    name: str
    data: bytes
    id: str | None


class EventParser:
    """Bytes in, events out; the bytes may be cut anywhere. Lines end with CR, LF or both."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False
        self._first = True
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._new_id: str | None = None
        self.last_id: str | None = None
        """The id of the last complete block, which may have been one without data."""
        self.retry_ms: int | None = None
        """What the server asks to wait before coming back; None where it did not ask."""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are complete with this chunk. Raises `BadAnswer` over the bound."""
        events: list[ServerEvent] = []
        for line in self._lines(chunk):
            if line:
                self._field(line)
                continue
            # An id counts once its block is complete: a cut in the middle must not skip the block.
            self.last_id = self._new_id if self._new_id is not None else self.last_id
            if self._data:
                name = (self._name or b"message").decode()
                events.append(ServerEvent(name, b"\n".join(self._data), self._new_id))
            self._name, self._data, self._size, self._new_id = b"", [], 0, None
        if len(self._rest) + self._size > EVENT_MAX_BYTES:
            raise BadAnswer(f"an event of the stream has more than {EVENT_MAX_BYTES} bytes")
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]  # the second half of a CR LF that was cut in two
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk[-1:] == b"\r"
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        parts = chunk.split(b"\n")
        lines: list[bytes] = []
        for part in parts[:-1]:
            self._rest += part
            lines.append(bytes(self._rest))
            self._rest.clear()
        self._rest += parts[-1]
        if lines and self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        return lines

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace").encode()
        elif name == b"id":
            if b"\0" not in value:
                self._new_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 9:
            self.retry_ms = int(value)
