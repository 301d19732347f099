"""The typed client for Python, synchronous and asynchronous.

    with Steersman() as plane:
        for node in plane.entities("nodes", healths=[HealthState.CRITICAL]):
            print(node.entity_id, node.health_reasons)

`Steersman` blocks, `AsyncSteersman` is for asyncio; both run the same calls.
"""

from __future__ import annotations

from steersman.client.aio import AsyncSteersman
from steersman.client.arguments import DEFAULT_SERVER
from steersman.client.blocking import Steersman
from steersman.client.errors import AnswerTimedOut, ApiError, BadAnswer, NotReachable
from steersman.client.shapes import Gone, IssuedToken, PushAnswer, Resync, Status, TokenInfo, WhoAmI
from steersman.kinds.explanation import EntityAt, EntityHistory, Explanation, SourceStatus

__all__ = [
    "DEFAULT_SERVER",
    "AnswerTimedOut",
    "ApiError",
    "AsyncSteersman",
    "BadAnswer",
    "EntityAt",
    "EntityHistory",
    "Explanation",
    "Gone",
    "IssuedToken",
    "NotReachable",
    "PushAnswer",
    "Resync",
    "SourceStatus",
    "Status",
    "Steersman",
    "TokenInfo",
    "WhoAmI",
]
