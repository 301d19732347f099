"""`GET /api/v1/recording`: what arrives from now on, as the bytes of a recording (`observe.recformat`).

A shutdown of the server closes the recording with its footer; a reader that goes leaves one that is cut,
which is still good up to its last frame. A reader that is slow loses entries, which the recording then says.
"""

from __future__ import annotations

from steersman.api.exchange import Exchange
from steersman.api.plane import Plane
from steersman.api.streams import Line, Lines
from steersman.observe.recformat import Encoder, Header
from steersman.observe.tap import Tap

MEDIA_TYPE = b"application/vnd.steersman.recording"
FRAME_INTERVAL_S = 1.0
"""How long entries are gathered into one frame, which is compressed as a whole."""


async def serve_recording(exchange: Exchange, plane: Plane, lines: Lines) -> None:
    """Answer with a recording for as long as the caller listens."""
    async with lines.open(exchange) as line:
        with Tap(plane.inlet, plane.clock) as tap:
            await exchange.start(200, [(b"content-type", MEDIA_TYPE)])
            await _record(line, tap, plane)


async def _record(line: Line, tap: Tap, plane: Plane) -> None:
    encoder = Encoder()
    await line.send(encoder.begin(Header(f"steersman {plane.version}", plane.clock.now())))
    while not line.ending:
        await line.wait(plane.clock.sleep(FRAME_INTERVAL_S), 2 * FRAME_INTERVAL_S)
        while entries := tap.take_now():
            await line.send(encoder.frame(entries))
    await line.send(encoder.end(), more=False)
