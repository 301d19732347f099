"""Tokens over HTTP: for admins alone."""

from __future__ import annotations

from litestar import Response
from msgspec import Struct

from steersman.api.auth import NewToken, TokenInfo
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of, read_json


class TokenList(Struct, frozen=True):
    """All tokens, oldest first."""

    items: list[TokenInfo]


async def list_tokens(request: Asked) -> Answer:
    """All tokens; never their secrets."""
    return json_answer(TokenList(plane_of(request).tokens.list()))


async def create_token(request: Asked) -> Answer:
    """Make a token. The secret in the answer is shown this once."""
    wish = await read_json(exchange_of(request), NewToken)
    issued = await plane_of(request).tokens.create(wish)
    return json_answer(issued, status=201)


async def revoke_token(request: Asked) -> Answer:
    """Revoke a token at once."""
    await plane_of(request).tokens.revoke(exchange_of(request).parameters["id"])
    return Response(b"", status_code=204)
