"""The freeze switch: one resource, thrown by people, that stops everything the plane does by itself.

The Ledger reads it in the commit of each request with `terms.acting`, so a freeze is exact: nothing that was
decided before it is written after it.
"""

from __future__ import annotations

from steersman.kinds.command import Actor, Terms, Written
from steersman.kinds.plane_resources import FREEZE_ID, FROZEN, OPEN, FreezeState
from steersman.kinds.refusal import ResourceExists
from steersman.kinds.state import ResourceRef
from steersman.state.ledger import Ledger

FREEZE = ResourceRef("Freeze", FREEZE_ID)
_FIRST = Actor("importer", ("importer",))


async def ensure_freeze(ledger: Ledger) -> None:
    """Make the switch at the first start, open. Repeating it does nothing. Raises the Ledger's errors."""
    if await ledger.find(FREEZE) is not None:
        return
    state = FreezeState(id=FREEZE_ID, status=OPEN, lifecycle_table="freeze")
    try:
        await ledger.create(state, _FIRST, terms=Terms(reason="first start"))
    except ResourceExists:
        return  # another replica was quicker


async def freeze(
    ledger: Ledger, actor: Actor, reason: str, *, idempotency_key: str | None = None
) -> Written | None:
    """Stop all acting. None where it is frozen already. Raises the Ledger's refusals."""
    return await _throw(
        ledger, actor, "freeze", FROZEN, Terms(reason=reason, idempotency_key=idempotency_key)
    )


async def thaw(
    ledger: Ledger, actor: Actor, reason: str, *, idempotency_key: str | None = None
) -> Written | None:
    """Let acting go on. None where it is not frozen. Raises the Ledger's refusals."""
    return await _throw(ledger, actor, "thaw", OPEN, Terms(reason=reason, idempotency_key=idempotency_key))


async def _throw(ledger: Ledger, actor: Actor, event: str, to: str, terms: Terms) -> Written | None:
    state = await ledger.get(FREEZE)
    if state.status == to:
        return None
    return await ledger.transition(FREEZE, actor, event=event, terms=terms)
