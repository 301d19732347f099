"""How far a pipeline is, as it is kept with the resource under `pipeline_progress[phase]`.

Values: each change makes a new one. A step that is not in `steps` has not been begun. The stored form has a
`version`; one that this program does not know is refused, never guessed at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from steersman.kernel.errors import InvalidInput
from steersman.kinds.step import StepOutcome

PROGRESS_VERSION = 1

StepStatus = Literal["running", "retrying", "suspended", "succeeded", "failed", "skipped", "cancelled"]
"""`running`: dispatched, its end not seen. `retrying`: waits for `next_at`. `suspended`: for an answer."""
RunStatus = Literal["running", "completed", "partial", "failed", "cancelled"]

UNDER_WAY = ("running", "retrying", "suspended")
OVER = frozenset({"succeeded", "failed", "skipped", "cancelled"})
"""A step in one of these is never begun again."""


class ProgressUnreadable(InvalidInput):
    """Stored progress has a shape that this program does not know. `facts`: `phase`, `version`."""

    code = "progress_unreadable"
    title = "Progress of a pipeline unreadable"


class StepProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step. `attempt` counts from 1; `detail` is a sentence; `outputs` are read by later steps; `site` is
    where the attempt was begun, where that matters."""

    status: StepStatus
    attempt: Annotated[int, Meta(ge=1)] = 1
    outcome: StepOutcome | None = None
    detail: str = ""
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    started_at: datetime | None = None
    ended_at: datetime | None = None
    next_at: datetime | None = None
    correlation_id: str = ""
    waiting_until: datetime | None = None
    site: str = ""


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One phase, for one operation. `plan` is the digest of the definition that it follows. `late` counts the
    answers that came too late and were recorded."""

    version: int
    operation: str
    plan: str
    started_at: datetime
    status: RunStatus = "running"
    detail: str = ""
    steps: dict[str, StepProgress] = field(default_factory=dict[str, StepProgress])
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    late: int = 0

    def with_step(self, name: str, step: StepProgress) -> Progress:
        """The same with one step put in place."""
        return replace(self, steps={**self.steps, name: step})

    def to_dict(self) -> dict[str, Any]:
        """The stored form."""
        return msgspec.to_builtins(self)


def read_progress(kept: dict[str, Any] | None, phase: str) -> Progress | None:
    """The progress of a phase from `state.pipeline_progress`; None where it has none.

    Raises `ProgressUnreadable`."""
    stored = (kept or {}).get(phase)
    if stored is None:
        return None
    version = stored.get("version") if isinstance(stored, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - checked by convert
    if version != PROGRESS_VERSION:
        raise ProgressUnreadable(
            f"progress of phase {phase} has version {version!r}; this program reads {PROGRESS_VERSION}",
            phase=phase,
            version=version,
        )
    try:
        return msgspec.convert(stored, Progress, strict=False)
    except msgspec.ValidationError as error:
        raise ProgressUnreadable(
            f"progress of phase {phase}: {error}", phase=phase, version=version
        ) from None
