"""Resources that are the plane's own: recommendations, the mode of each policy, and the freeze switch.

They are resources like any other, so that who approved, who raised a mode and who froze the plane is in
history, is told to subscribers, and is written by the Ledger alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import field

from steersman.kinds.lifecycle import Lifecycle, LifecycleState, LifecycleTransition, TransitionRequirements
from steersman.kinds.policy import GuardrailVerdict, PolicyMode, Recommendation
from steersman.kinds.resource import RESOURCE_KINDS, ResourceInstance
from steersman.kinds.state import ResourceState

FREEZE_ID = "plane"
"""The id of the one freeze switch."""
FROZEN, OPEN = "frozen", "open"
DISABLED = "disabled"
"""A policy that is loaded and not evaluated."""


class RecommendationState(ResourceState, kw_only=True):
    """A recommendation on its way. `recommendation` is what was proposed and never changes; `status` is where
    it stands (the value's own `status` is that of the proposal). `snoozed_until`: nobody is asked before.
    `guardrails` are the verdicts of the last check."""

    resource_type: str = "Recommendation"
    recommendation: Recommendation | None = None
    snoozed_until: datetime | None = None
    approved_by: list[str] = field(default_factory=list[str])
    guardrails: tuple[GuardrailVerdict, ...] = ()


class PolicyState(ResourceState, kw_only=True):
    """A policy that is loaded. `status` is its mode, or `disabled`; `digest` is of the text it was read from,
    `place` its file and line, `policy_version` the rule's."""

    resource_type: str = "Policy"
    policy_version: int = 1
    digest: str = ""
    place: str = ""


class FreezeState(ResourceState, kw_only=True):
    """The freeze switch: `frozen` or `open`."""

    resource_type: str = "Freeze"


class RecommendationResource(ResourceInstance[RecommendationState]):
    """A recommendation as a resource."""

    KIND = "Recommendation"
    STATE = RecommendationState


class PolicyResource(ResourceInstance[PolicyState]):
    """A policy's mode as a resource."""

    KIND = "Policy"
    STATE = PolicyState


class FreezeResource(ResourceInstance[FreezeState]):
    """The freeze switch as a resource."""

    KIND = "Freeze"
    STATE = FreezeState


_REASON = TransitionRequirements(reason=True)
_PEOPLE = ("operator", "admin")

FREEZE_LIFECYCLE = Lifecycle(
    name="freeze",
    states=(LifecycleState(name=OPEN), LifecycleState(name=FROZEN)),
    transitions=(
        LifecycleTransition(event="freeze", sources=(OPEN,), to=FROZEN, by=_PEOPLE, require=_REASON),
        LifecycleTransition(event="thaw", sources=(FROZEN,), to=OPEN, by=_PEOPLE, require=_REASON),
    ),
)
"""A person freezes and a person thaws; both say why."""

_MODES = (DISABLED, *(mode.value for mode in PolicyMode))

_LOADER = ("importer",)


def _policy_lifecycle() -> Lifecycle:
    moves = [
        LifecycleTransition(
            event=f"set_{mode}",
            sources=tuple(other for other in _MODES if other != mode),
            to=mode,
            by=_PEOPLE,
            require=_REASON,
        )
        for mode in _MODES
    ]
    active = _MODES[1:]
    moves.append(
        LifecycleTransition(event="unload", sources=active, to=DISABLED, by=_LOADER, require=_REASON)
    )
    moves += [
        LifecycleTransition(event=f"reload_{mode}", sources=(DISABLED,), to=mode, by=_LOADER, require=_REASON)
        for mode in active
    ]
    return Lifecycle(
        name="policy", states=tuple(LifecycleState(name=mode) for mode in _MODES), transitions=tuple(moves)
    )


POLICY_LIFECYCLE = _policy_lifecycle()
"""How far a policy may go is a person's decision, on record. `unload` disables one whose file is gone or
can't be read; `reload_MODE` gives it back the mode that it had before that."""

KINDS: Mapping[str, type[ResourceInstance[Any]]] = {
    **RESOURCE_KINDS,
    **{cls.KIND: cls for cls in (RecommendationResource, PolicyResource, FreezeResource)},
}
"""Every kind of resource that the Ledger holds."""
