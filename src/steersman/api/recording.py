"""`GET /api/v1/recording`: what arrives from now on, as the bytes of a recording (`observe.recformat`).

`?seconds=` closes the recording with its footer after that time, as a shutdown of the server does. A reader
that goes leaves one that is cut, which is still good up to its last frame. A reader that is slow loses
entries, which the recording then says.
"""

from __future__ import annotations

import math
from functools import partial

from steersman.api.exchange import Exchange
from steersman.api.plane import Plane
from steersman.api.problems import InvalidParameter, reveal
from steersman.api.streams import Line, Lines
from steersman.observe.recformat import Encoder, Header
from steersman.observe.tap import Tap

MEDIA_TYPE = b"application/vnd.steersman.recording"
FRAME_INTERVAL_S = 1.0
"""How long entries are gathered into one frame, which is compressed as a whole."""
SECONDS_MAX = 366 * 86_400.0


async def serve_recording(exchange: Exchange, plane: Plane, lines: Lines) -> None:
    """Answer with a recording for as long as the caller listens, or has asked for."""
    limit_s = _read_seconds(exchange.value("seconds"))
    async with lines.open(exchange) as line:
        with Tap(plane.inlet, plane.clock) as tap:
            await exchange.start(200, [(b"content-type", MEDIA_TYPE)])
            await _record(line, tap, plane, limit_s)


async def _record(line: Line, tap: Tap, plane: Plane, limit_s: float) -> None:
    encoder = Encoder()
    end_s = plane.clock.monotonic() + limit_s
    await line.send(encoder.begin(Header(f"steersman {plane.version}", plane.clock.now())))
    while not line.ending and (left_s := end_s - plane.clock.monotonic()) > 0:
        pause = partial(plane.clock.sleep, min(FRAME_INTERVAL_S, left_s))
        await line.wait(pause, 2 * FRAME_INTERVAL_S)
        while line.may_tell and (entries := tap.take_now()):
            await line.send(encoder.frame(entries))
    await line.send(encoder.end(), more=False)


def _read_seconds(text: str | None) -> float:
    """How long to record; infinite where nothing is said. Raises `InvalidParameter`."""
    if text is None:
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= SECONDS_MAX:
        raise InvalidParameter(
            f"seconds is {reveal(text)!r}; expected a number over 0, at most {SECONDS_MAX:g}; without it "
            "the recording lasts until the connection ends"
        )
    return seconds
