"""`GET /api/v1/recording`: fragments as they arrive, as the bytes of a recording."""

from __future__ import annotations

from steersman.api.exchange import Exchange
from steersman.api.plane import Plane


async def serve_recording(exchange: Exchange, plane: Plane) -> None:
    """Answer with a recording for as long as the caller listens."""
    raise NotImplementedError
