"""Which steps of a resource wait for an answer from outside: how a callback finds its step."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from steersman.act.engines.pipeline.progress import ProgressUnreadable, read_progress
from steersman.kinds.state import ResourceState


class WaitingStep(Struct, frozen=True):
    """A suspended step. `until` is when its watchdog ends the wait."""

    phase: str
    operation: str
    step: str
    attempt: int
    correlation_id: str
    until: datetime | None


def waiting_steps(state: ResourceState) -> list[WaitingStep]:
    """All of them, of the resource's present operation. Progress that can't be read has none."""
    found: list[WaitingStep] = []
    current = state.operation.id if state.operation is not None else None
    for phase in state.pipeline_progress or {}:
        try:
            progress = read_progress(state.pipeline_progress, phase)
        except ProgressUnreadable:
            continue
        if progress is None or progress.operation != current:
            continue
        found += [
            WaitingStep(
                phase, progress.operation, name, step.attempt, step.correlation_id, step.waiting_until
            )
            for name, step in progress.steps.items()
            if step.status == "suspended"
        ]
    return found
