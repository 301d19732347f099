"""The one seam to phase engines: `pipeline` (built in) and `workflow` (an outside engine) look the same.

An engine is advanced, not run: a call does what can be done now, keeps its progress with the resource before
it takes the next step, and says how far it got. It may be called again at any moment, by another process, and
goes on from the progress. What was done once is not done again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol

from msgspec import Struct, field

from steersman.kinds.axes import Operation
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.state import ResourceState
from steersman.kinds.step import StepResult
from steersman.store.api import Held

PhaseStatus = Literal["running", "waiting", "held", "completed", "partial", "failed"]
"""`partial` is completed with optional steps that failed. `held`: a freeze or a person stopped it between two
steps."""


class PhaseRun(Struct, frozen=True):
    """A phase of one resource, for one operation. `operation.epoch` fences every write of its progress."""

    state: ResourceState
    phase: LifecyclePhase
    operation: Operation
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    held: Held | None = None


class PhaseReport(Struct, frozen=True):
    """How far a phase is. `look_again`: when there may be more to do by itself. `outputs`: the phase's."""

    status: PhaseStatus
    detail: str = ""
    step: str | None = None
    look_again: datetime | None = None
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])


class PhaseEngine(Protocol):
    """An engine. Its progress is under `state.pipeline_progress[phase.name]`, in its own shape."""

    name: ClassVar[str]

    def check(self, phase: LifecyclePhase) -> None:
        """Refuse a phase that can't run, when its lifecycle is loaded. Raises `InvalidInput`."""
        ...

    async def advance(self, run: PhaseRun) -> PhaseReport:
        """Do what can be done now."""
        ...

    async def answer(self, run: PhaseRun, step: str, attempt: int, result: StepResult) -> PhaseReport:
        """An answer from outside for a suspended step. Late and duplicate ones are recorded, not applied."""
        ...

    async def cancel(self, run: PhaseRun, reason: str) -> PhaseReport:
        """End what is under way."""
        ...

    async def tend(self, phase_of: Callable[[ResourceState, str], LifecyclePhase | None]) -> int:
        """Look after what was begun here, whosever the resource is now: end what is over on record (also
        where the resource is gone), hand over what has ended and is awaited. How much it was."""
        ...
