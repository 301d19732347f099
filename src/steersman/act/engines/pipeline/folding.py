"""What the end of an attempt means for its step. Pure.

What failed for certain is tried again as often as `retry` says. What is uncertain is tried again only where
the step is declared idempotent: otherwise a person decides, because the effect may have taken place.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from steersman.act.engines.pipeline.definition import Step
from steersman.act.engines.pipeline.inputs import InputMissing, find
from steersman.act.engines.pipeline.progress import StepProgress
from steersman.act.engines.pipeline.sheet import shown
from steersman.kernel.ids import Rng
from steersman.kinds.step import StepOutcome, StepResult

SUSPENDED_DEFAULT_S = 1800.0
"""How long a suspended step is waited for, where its handler does not say."""
OUTPUTS_MAX_BYTES = 16 * 1024
"""Outputs that one step may keep."""


class Ended(Struct, frozen=True):
    """The end of an attempt. `confirmed`: it was observed, or answered from outside. `never_began`: it is
    certain that it had no effect."""

    result: StepResult
    confirmed: bool = False
    never_began: bool = False


def fold(step: Step, before: StepProgress, ended: Ended, now: datetime, rng: Rng) -> StepProgress:
    """The step after the attempt."""
    result, outcome = ended.result, ended.result.outcome
    detail = shown(result.detail)
    if outcome is StepOutcome.SUSPENDED:
        until = result.waiting_until or now + timedelta(seconds=SUSPENDED_DEFAULT_S)
        return replace(
            before,
            status="suspended",
            outcome=outcome,
            detail=detail,
            correlation_id=result.correlation_id,
            waiting_until=until,
        )
    over = replace(before, outcome=outcome, detail=detail, ended_at=now, waiting_until=None, next_at=None)
    if outcome is StepOutcome.SUCCEEDED:
        outputs, lost = kept_outputs(step, result.outputs)
        return replace(over, status="succeeded", outputs=outputs, detail=_join(detail, lost))
    if outcome is StepOutcome.SKIPPED:
        return replace(over, status="skipped", outputs=kept_outputs(step, result.outputs)[0])
    if outcome is StepOutcome.CANCELLED:
        return replace(over, status="cancelled")
    if _may_repeat(step, ended):
        if before.attempt < step.attempts:
            delay_s = step.backoff.delay_s(before.attempt, rng)
            return replace(over, status="retrying", next_at=now + timedelta(seconds=delay_s))
    elif outcome in (StepOutcome.TRANSIENT, StepOutcome.UNCERTAIN):
        over = replace(
            over, detail=_join(detail, "not repeated: it may have taken effect and is not idempotent")
        )
    return replace(over, status="failed")


def kept_outputs(step: Step, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The outputs that are kept, and what to say of those that are not."""
    lost: list[str] = []
    outputs = given
    if step.outputs is not None:
        outputs = {}
        for name, path in step.outputs.items():
            try:
                outputs[name] = find(path, given)
            except InputMissing:
                lost.append(name)
    try:
        plain = cast("dict[str, Any]", msgspec.to_builtins(outputs))
        size = len(msgspec.json.encode(plain))
    except (TypeError, ValueError, msgspec.MsgspecError):
        return {}, "its outputs are no plain data and were dropped"
    if size > OUTPUTS_MAX_BYTES:
        return {}, f"its outputs have {size} bytes, over {OUTPUTS_MAX_BYTES}, and were dropped"
    return plain, f"outputs not there: {', '.join(lost)}" if lost else ""


def _may_repeat(step: Step, ended: Ended) -> bool:
    if ended.result.outcome is StepOutcome.TRANSIENT:
        return step.idempotent or ended.confirmed or ended.never_began
    return ended.result.outcome is StepOutcome.UNCERTAIN and (step.idempotent or ended.never_began)


def _join(detail: str, more: str) -> str:
    return "; ".join(part for part in (detail, more) if part)
