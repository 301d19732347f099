"""`POST /api/v1/fragments`: the hot path in. The body is read within bounds; `observe.push` does the rest."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from steersman.api.exchange import Exchange
from steersman.api.plane import Plane
from steersman.api.problems import BodyMalformed
from steersman.kinds.fragment import StateFragment

ARRAY = "application/json"
LINES = "application/x-ndjson"
MEDIA_TYPES = (ARRAY, LINES, "application/ndjson", "application/jsonl")


class PushAnswer(Struct):
    accepted: int
    stale: int
    invalid: int
    results: list[dict[str, Any]]


async def push_fragments(exchange: Exchange, plane: Plane) -> None:
    """Answer one push with a verdict for each of its fragments."""
    media_type = exchange.media_type(MEDIA_TYPES)
    body = await exchange.body()
    try:
        if media_type == ARRAY:
            fragments = msgspec.json.decode(body, type=list[StateFragment])
        else:
            fragments = msgspec.json.Decoder(StateFragment).decode_lines(body)
    except msgspec.MsgspecError as e:
        raise BodyMalformed(str(e)) from None
    out = plane.bus.put_many(fragments)
    await exchange.answer_json(
        PushAnswer(
            len(out), 0, 0, [{"index": i, "verdict": o.verdict, "error": None} for i, o in enumerate(out)]
        )
    )
