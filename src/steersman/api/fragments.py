"""`POST /api/v1/fragments`: the hot path in. The body is read within bounds; `observe.push` does the rest."""

from __future__ import annotations

from steersman.api.exchange import Exchange
from steersman.api.problems import InvalidParameter, reveal
from steersman.observe.push import Push

ARRAY = "application/json"
LINES = "application/x-ndjson"
MEDIA_TYPES = (ARRAY, LINES)
RESULTS = ("all", "errors")


async def push_fragments(exchange: Exchange, push: Push) -> None:
    """Answer one push with a verdict for each of its fragments; with `?results=errors`, for the bad ones.

    An array is read whole before any of it is taken; lines are taken in as they come.
    """
    results = exchange.value("results") or "all"
    if results not in RESULTS:
        raise InvalidParameter(
            f"results is {reveal(results)!r}; expected all or errors", allowed=list(RESULTS)
        )
    media_type = exchange.media_type(MEDIA_TYPES)
    if media_type == ARRAY:
        answer = await push.take_array(await exchange.body(), results=results)
    else:
        answer = await push.take_lines(exchange.chunks(), results=results)
    await exchange.answer_json(answer)
