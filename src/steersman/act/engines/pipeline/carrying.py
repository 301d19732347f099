"""One attempt, carried to its end in a task: made or taken up again, held to its time, and looked at where
its end is not certain."""

from __future__ import annotations

import asyncio

from steersman.act.engines.pipeline.definition import GUARD_S
from steersman.act.engines.pipeline.folding import Ended
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import error_text
from steersman.kinds.step import StepCall, StepHandler, StepOutcome, StepResult

CANCEL_TIMEOUT_S = 60.0
"""How long a handler may take to end what it started."""
OBSERVE_TIMEOUT_S = 60.0

_log = get_logger("act.pipeline")


async def carry(handler: StepHandler, call: StepCall, *, fresh: bool, may_begin: bool = True) -> Ended:
    """Make the attempt (`fresh`), or take up one whose end nobody saw. Raises nothing but cancellation; that
    also where it never began, and may not begin now (a freeze, a hold): it has no end, and is taken up later.
    """
    never_began = False
    result: StepResult | None
    try:
        async with asyncio.timeout(call.timeout_s + GUARD_S):
            result = None if fresh else await handler.observe(call)
            if result is not None and result.outcome is not StepOutcome.UNCERTAIN:
                return Ended(result, confirmed=True)
            if result is None and not may_begin:
                raise asyncio.CancelledError
            if result is None:
                result = await handler.run(call)
    except TimeoutError:
        await end_effect(handler, call)
        result = _uncertain(f"no end within {call.timeout_s:g} s and {GUARD_S:g} s more")
    except Exception as error:  # noqa: BLE001 - a handler's mistake is that attempt's outcome, not the loop's death
        result = _uncertain(error_text(error))
    if result.outcome not in (StepOutcome.UNCERTAIN, StepOutcome.TRANSIENT):
        return Ended(result)
    try:
        async with asyncio.timeout(OBSERVE_TIMEOUT_S):
            seen = await handler.observe(call)
    except Exception as error:  # noqa: BLE001 - as above; what can't be observed stays as it was told
        _log.warning("step_not_observed", key=call.key, error=error_text(error))
        return Ended(result)
    if seen is None:
        never_began = True
    elif seen.outcome is not StepOutcome.UNCERTAIN:
        return Ended(seen, confirmed=True)
    return Ended(result, never_began=never_began)


async def end_effect(handler: StepHandler, call: StepCall) -> str:
    """Have a handler end what an attempt started; what went wrong, or nothing."""
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await handler.cancel(call)
    except Exception as error:  # noqa: BLE001 - what can't be ended is said, and ends by its own time-out
        _log.warning("step_not_cancelled", key=call.key, error=error_text(error))
        return error_text(error)
    return ""


async def carry_look(handler: StepHandler | None, call: StepCall) -> Ended:
    """The last look at a step whose answer did not come."""
    ended = await missing_handler("") if handler is None else await carry_observed(handler, call)
    if ended is None or ended.result.outcome is StepOutcome.SUSPENDED:
        return Ended(_uncertain("no answer came in time"))
    return ended


async def carry_observed(handler: StepHandler, call: StepCall) -> Ended | None:
    """What a handler says of an attempt now, without anything being begun; None where it can't be told."""
    try:
        async with asyncio.timeout(OBSERVE_TIMEOUT_S):
            seen = await handler.observe(call)
    except Exception as error:  # noqa: BLE001 - a handler's mistake is the step's outcome
        _log.warning("step_not_observed", key=call.key, error=error_text(error))
        return None
    return None if seen is None else Ended(seen, confirmed=seen.outcome is not StepOutcome.UNCERTAIN)


async def missing_handler(uses: str) -> Ended:
    """The end of a step that nothing here carries out."""
    return Ended(StepResult(outcome=StepOutcome.PERMANENT, detail=f"nothing here carries out {uses!r}"))


async def settle_attempt(handler: StepHandler, call: StepCall) -> None:
    """Tell a handler that an attempt's end is on record. What can't be told now is found by tending."""
    try:
        async with asyncio.timeout(OBSERVE_TIMEOUT_S):
            await handler.settle(call)
    except Exception as error:  # noqa: BLE001 - as above; it is only kept longer
        _log.warning("step_not_settled", key=call.key, error=error_text(error))


def _uncertain(detail: str) -> StepResult:
    return StepResult(outcome=StepOutcome.UNCERTAIN, detail=detail)
