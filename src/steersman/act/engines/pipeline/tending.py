"""What was begun here and is nobody's work any more, or another replica's: judged from what is on record.

A resource may be deleted (by force), its operation left behind, or its shard handed to another replica, while
an effect runs at this site. The site that began an attempt is the only one that can end it or tell how it
ended. So each site looks after its own attempts, whosever the resource is: the ones that are over on record
are ended, the ones that are awaited are handed over once they have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from steersman.act.engines.pipeline.progress import ProgressUnreadable, read_progress
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.state import ResourceState
from steersman.kinds.step import StepCall

PhaseOf = Callable[[ResourceState, str], LifecyclePhase | None]
"""The definition of a resource's phase; None where it has none any more."""


class Claim(StrEnum):
    """Who wants an attempt."""

    AWAITED = "awaited"  # it is on record as under way
    OVER = "over"  # nobody: its resource, operation or attempt is over
    UNKNOWN = "unknown"  # that can't be told now: nothing is done about it


def claim_on(state: ResourceState | None, call: StepCall) -> Claim:
    """Who wants the attempt. `state` was read after the attempt was found, and an attempt is on record before
    it begins: so what is not on record then is over, and not still to come."""
    operation = state.operation if state is not None else None
    if state is None or operation is None or operation.id != call.operation:
        return Claim.OVER
    try:
        progress = read_progress(state.pipeline_progress, call.phase)
    except ProgressUnreadable:
        return Claim.UNKNOWN
    step = progress.steps.get(call.step) if progress is not None else None
    if progress is None or progress.operation != operation.id or step is None:
        return Claim.UNKNOWN
    if progress.status != "running" or step.attempt > call.attempt:
        return Claim.OVER
    if step.attempt < call.attempt:
        return Claim.UNKNOWN
    return Claim.AWAITED if step.status in ("running", "suspended") else Claim.OVER
