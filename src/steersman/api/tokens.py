"""Tokens over HTTP: for admins alone."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.params import Body
from msgspec import Struct

from steersman.api.auth import NewToken, TokenInfo
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, plane_of


class TokenList(Struct, frozen=True):
    """All tokens, oldest first."""

    items: list[TokenInfo]


async def list_tokens(request: Asked) -> Answer:
    """All tokens; never their secrets."""
    return json_answer(TokenList(plane_of(request).tokens.list()))


async def create_token(request: Asked, data: Annotated[NewToken, Body()]) -> Answer:
    """Make a token. The secret in the answer is shown this once."""
    issued = await plane_of(request).tokens.create(data)
    return json_answer(issued, status=201)


async def revoke_token(request: Asked) -> Answer:
    """Revoke a token at once."""
    await plane_of(request).tokens.revoke(exchange_of(request).parameters["id"])
    return Response(b"", status_code=204)
