"""`POST /api/v1/fragments`: the hot path in. The body is read within bounds; `observe.push` does the rest."""

from __future__ import annotations

from steersman.api.exchange import Exchange
from steersman.api.problems import InvalidParameter, reveal
from steersman.kernel.errors import TooMany
from steersman.observe.push import Push

ARRAY = "application/json"
LINES = "application/x-ndjson"
MEDIA_TYPES = (ARRAY, LINES)
RESULTS = ("all", "errors")
PUSHES_MAX = 64
"""Pushes that are read and merged at one time. With bodies of 8 MiB that is half a gigabyte at worst."""


class FragmentDoor:
    """Serves pushes, so many at a time."""

    def __init__(self, push: Push) -> None:
        self._push = push
        self._active = 0

    async def serve(self, exchange: Exchange) -> None:
        """Answer one push. Raises `TooMany` where `PUSHES_MAX` are under way."""
        if self._active >= PUSHES_MAX:
            raise TooMany(
                f"{PUSHES_MAX} pushes are under way; try again in a second, or push more at a time",
                limit=PUSHES_MAX,
                retry_after_s=1,
            )
        self._active += 1
        try:
            await self._answer(exchange)
        finally:
            self._active -= 1

    async def _answer(self, exchange: Exchange) -> None:
        """A verdict for each fragment; with `?results=errors`, for the bad ones.

        An array is read whole before any of it is taken; lines are taken in as they come.
        """
        results = exchange.value("results") or "all"
        if results not in RESULTS:
            raise InvalidParameter(
                f"results is {reveal(results)!r}; expected all or errors", allowed=list(RESULTS)
            )
        if exchange.media_type(MEDIA_TYPES) == ARRAY:
            answer = await self._push.take_array(await exchange.body(), results=results)
        else:
            answer = await self._push.take_lines(exchange.chunks(), results=results)
        await exchange.answer_json(answer)
