"""The sheet on which one call of the engine works: the resource as it is, the progress, and each write of it.

A write names the version that was read and the epoch that was granted. Where another request came in between
(a hold, a condition, an answer on another replica), the change is made anew on what is there now, so that no
two writers lose each other's steps; where the epoch has gone on, `Fenced` comes out and nothing was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from steersman.act.engines.api import PhaseRun
from steersman.act.engines.pipeline.definition import Plan
from steersman.act.engines.pipeline.progress import PROGRESS_VERSION, Progress, read_progress
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
    ) -> bool:
        """Make a change and keep it; whether there was anything to change."""
        for left in reversed(range(CONFLICTS_MAX)):
            changed = change(self.progress)
            if changed is None:
                return False
            terms = Terms(
                expected_version=self.state.version,
                fence=self.run.operation.epoch if fenced else None,
                operation=self.run.operation.id,
                evidence=evidence[:EVIDENCE_MAX],
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
