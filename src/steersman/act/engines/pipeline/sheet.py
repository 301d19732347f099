"""The sheet on which one call of the engine works: the resource as it is, the progress, and each write of it.

A write names the version that was read and the epoch that was granted. Where another request came in between
(a hold, a condition, an answer on another replica), the change is made anew on what is there now, so that no
two writers lose each other's steps; where the epoch has gone on, `Fenced` comes out and nothing was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from steersman.act.engines.api import PhaseRun
from steersman.act.engines.pipeline.definition import GUARD_S, Plan, Step
from steersman.act.engines.pipeline.progress import (
    OVER,
    PROGRESS_VERSION,
    Progress,
    StepProgress,
    read_progress,
)
from steersman.kernel.clock import Clock
from steersman.kernel.redact import redact_text, shortened_middle
from steersman.kinds.command import EVIDENCE_MAX, Actor, Evidence, Terms, Written
from steersman.kinds.refusal import VersionConflict
from steersman.kinds.state import ResourceRef, ResourceState
from steersman.store.api import Held

CONFLICTS_MAX = 16
"""How often a change is made anew for other writers of the same resource, until the call gives up."""
DETAIL_MAX_CHARS = 1000

ACTOR = Actor("engine:pipeline", ("engine",))
"""Who writes progress."""

Change = Callable[[Progress], Progress | None]
"""Makes the new progress; None where there is nothing to change any more."""


class Journal(Protocol):
    """What the engine needs of the Ledger."""

    async def record_progress(
        self,
        ref: ResourceRef,
        actor: Actor,
        phase: str,
        progress: dict[str, Any] | None,
        *,
        data: Mapping[str, Any] | None = None,
        terms: Terms = ...,
        held: Held | None = None,
    ) -> Written:
        """Keep a phase's progress, durable when it returns. Raises `Fenced`, `VersionConflict`."""
        ...

    async def get(self, ref: ResourceRef) -> ResourceState:
        """The resource now."""
        ...


class Sheet:
    """One call's view. `progress` is never ahead of what is written."""

    def __init__(self, journal: Journal, run: PhaseRun, plan: Plan, clock: Clock) -> None:
        self.run = run
        self.plan = plan
        self.ref = ResourceRef(run.state.resource_type, run.state.id)
        self.state = run.state
        self._journal = journal
        self._clock = clock
        self.progress = self._read()

    def _read(self) -> Progress:
        kept = read_progress(self.state.pipeline_progress, self.run.phase.name)
        if kept is not None and kept.operation == self.run.operation.id:
            return kept
        return Progress(
            version=PROGRESS_VERSION,
            operation=self.run.operation.id,
            plan=self.plan.digest,
            started_at=self._clock.now(),
        )

    async def refresh(self) -> None:
        """Read the resource anew."""
        self.state = await self._journal.get(self.ref)
        self.progress = self._read()

    async def write(
        self,
        change: Change,
        data: Mapping[str, Any],
        evidence: tuple[Evidence, ...] = (),
        *,
        fenced: bool = True,
        acting: bool = False,
    ) -> bool:
        """Make a change and keep it; whether there was anything to change. `acting`: something begins, which
        a freeze refuses (`Frozen`), to the moment."""
        for left in reversed(range(CONFLICTS_MAX)):
            changed = change(self.progress)
            if changed is None:
                return False
            terms = Terms(
                expected_version=self.state.version,
                fence=self.run.operation.epoch if fenced else None,
                operation=self.run.operation.id,
                evidence=evidence[:EVIDENCE_MAX],
                acting=acting,
            )
            try:
                written = await self._journal.record_progress(
                    self.ref,
                    ACTOR,
                    self.run.phase.name,
                    changed.to_dict(),
                    data={"phase": self.run.phase.name, **data},
                    terms=terms,
                    held=self.run.held,
                )
            except VersionConflict:
                if not left:
                    raise
                await self.refresh()
            else:
                self.state, self.progress = written.state, changed
                return True
        return False

    def key(self, name: str, attempt: int) -> str:
        """The key of an attempt: the same for every repetition of it."""
        return f"{self.run.operation.id}/{name}/{attempt}"

    def failure(self) -> str | None:
        """The first required step that failed, with what was wrong."""
        for step in self.plan.steps:
            now = self.progress.steps.get(step.name)
            if now is not None and now.status in ("failed", "cancelled") and not step.optional:
                return f"step {step.name}: {now.detail or now.outcome or now.status}"
        return None

    def is_over(self) -> bool:
        """Whether nothing is left to be done or waited for."""
        steps = self.progress.steps
        if self.failure() is not None:
            return not any(step.status == "running" for step in steps.values())
        return all(step.name in steps and steps[step.name].status in OVER for step in self.plan.steps)

    def deadline(self) -> datetime | None:
        """Until when the whole may take."""
        longest_s = self.plan.max_duration_s
        return None if longest_s is None else self.progress.started_at + timedelta(seconds=longest_s)

    def due(self, name: str, step: StepProgress) -> datetime | None:
        """When a step that is under way is to be looked at by itself."""
        defined = self.plan.step(name)
        if step.status == "running":
            longest_s = (defined.timeout_s if defined is not None else 0.0) + GUARD_S
            return (step.started_at or self._clock.now()) + timedelta(seconds=longest_s)
        return self.repeat_at(defined, step) if step.status == "retrying" else step.waiting_until

    def is_awaited(self, step: Step, begun: StepProgress) -> bool:
        """Whether another site may still hand over the end of an attempt. A beginning that is far ahead of
        our clock was written by another one, and is not waited for."""
        longest_s = step.timeout_s + GUARD_S
        since_s = (self._clock.now() - (begun.started_at or self._clock.now())).total_seconds()
        return -longest_s < since_s < longest_s

    def repeat_at(self, step: Step | None, done: StepProgress) -> datetime:
        """When an attempt is repeated: at once where it seems further off than any such wait is long, for
        then the wall clock was set back."""
        now = self._clock.now()
        at = done.next_at or now
        if step is not None and (at - now).total_seconds() > step.backoff.ceiling_s(done.attempt):
            return now
        return at

    def names(self) -> dict[str, Any]:
        """What references and conditions may speak of."""
        resource: dict[str, Any] = msgspec.to_builtins(self.state)
        for bulky in ("pipeline_progress", "state_history", "lifecycle"):
            resource.pop(bulky, None)
        steps = {
            name: {"status": step.status, "outcome": step.outcome, "outputs": step.outputs}
            for name, step in self.progress.steps.items()
        }
        operation = {"id": self.run.operation.id, "epoch": self.run.operation.epoch}
        return {"resource": resource, "inputs": self.run.inputs, "operation": operation, "steps": steps}


def shown(text: str) -> str:
    """A sentence as it is kept: short, credentials masked."""
    return shortened_middle(redact_text(text), DETAIL_MAX_CHARS)


def told_of(name: str, step: StepProgress) -> dict[str, Any]:
    """What a row of history says of a step."""
    told: dict[str, Any] = {"step": name, "attempt": step.attempt, "step_status": step.status}
    if step.outcome is not None:
        told["outcome"] = step.outcome.value
    if step.detail:
        told["detail"] = step.detail
    return told
