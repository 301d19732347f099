"""The whole story of a resource: where it is, where it is going and why, what it waits for, what was done."""

from __future__ import annotations

from datetime import timedelta

from steersman.api.control import Control, control_of, tag_of
from steersman.api.framework import Answer, Asked, json_answer, plane_of
from steersman.api.managed import ref_of, shown_entry, shown_resource
from steersman.api.plane import Plane
from steersman.api.shown import shown_explanation
from steersman.kernel.errors import SteersmanError
from steersman.kinds.command import ChangeAction, HistoryEntry
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.machine import Machine, PathStep
from steersman.kinds.plane_resources import RecommendationState
from steersman.kinds.state import NodeState, ResourceRef, ResourceState
from steersman.kinds.story import Story, StoryFrozen, StoryGoing, StoryObserved, StoryPlace

ENTRIES_TOLD = 10
RECOMMENDATIONS_TOLD = 10
INTENT_ROWS_MAX = 500
"""History rows that are searched for the one that set the intent."""
INTENT_PAGE = 100


async def explain_resource(request: Asked) -> Answer:
    """Everything that answers "why is it so, and what happens next?" """
    ref, control, plane = ref_of(request), control_of(request), plane_of(request)
    state = await control.ledger.get(ref)
    story = await tell(plane, control, ref, state)
    return json_answer(story, headers={"etag": tag_of(state.version), "cache-control": "no-cache"})


async def tell(plane: Plane, control: Control, ref: ResourceRef, state: ResourceState) -> Story:
    """The story of one resource as of now."""
    now = plane.clock.now()
    try:
        machine = control.lifecycles.machine(state.lifecycle_table)
    except SteersmanError:
        machine = None  # its table is gone; all else is told
    shown = shown_resource(control, state, now)
    look = control.loop.explain(ref) if control.loop is not None else None
    frozen = control.advice.book.frozen() if control.advice is not None else None
    page = await control.ledger.history(ref, limit=ENTRIES_TOLD, newest_first=True)
    return Story(
        resource=shown,
        place=_place(state, machine.lifecycle if machine is not None else None),
        operation=state.operation,
        conditions=tuple(state.conditions),
        holds=tuple(hold for hold in state.holds if hold.is_alive(now)),
        work=shown.work,
        going=await _going(control, ref, state, machine),
        loop=look,
        retry=state.retry,
        frozen=None
        if frozen is None
        else StoryFrozen(since=frozen.since, by=frozen.by, reason=frozen.reason),
        history=tuple(shown_entry(one) for one in page.entries),
        recommendations=tuple(shown_resource(control, one, now) for one in _about(control, state)),
        observed=_observed(plane, state),
    )


def _place(state: ResourceState, lifecycle: Lifecycle | None) -> StoryPlace:
    if lifecycle is None:
        return StoryPlace(status=state.status, since=state.status_since, lifecycle=state.lifecycle_table)
    spec = lifecycle.state(state.status)
    return StoryPlace(
        status=spec.name,
        since=state.status_since,
        lifecycle=str(lifecycle),
        state_class=spec.state_class.value,
        schedulable=spec.schedulable,
        stands_for=spec.is_a,
        description=spec.description,
        deadline=None if spec.deadline_s is None else state.status_since + timedelta(seconds=spec.deadline_s),
        on_timeout=spec.on_timeout,
        phase=spec.phase,
    )


async def _going(
    control: Control, ref: ResourceRef, state: ResourceState, machine: Machine | None
) -> StoryGoing:
    desired = state.desired_status
    path: list[PathStep] = []
    no_path = ""
    if desired is not None and desired != state.status and machine is not None:
        try:
            path = machine.path(state.status, desired)
        except SteersmanError as error:
            no_path = error.detail
    return StoryGoing(
        desired_status=desired,
        converged=state.is_converged(),
        by=state.desired_by,
        reason=state.desired_reason,
        path=tuple(path),
        no_path=no_path,
        set_by=await _intent_entry(control, ref) if desired is not None else None,
    )


async def _intent_entry(control: Control, ref: ResourceRef) -> HistoryEntry | None:
    """The newest row that set the intent, among the last `INTENT_ROWS_MAX`."""
    after, looked = 0, 0
    while looked < INTENT_ROWS_MAX:
        page = await control.ledger.history(ref, after, limit=INTENT_PAGE, newest_first=True)
        for entry in page.entries:
            if entry.action is ChangeAction.INTENT_SET:
                return shown_entry(entry)
        looked += len(page.entries)
        if page.after_seq is None or not page.entries:
            return None
        after = page.after_seq
    return None


def _about(control: Control, state: ResourceState) -> list[RecommendationState]:
    """The newest recommendations about the entity that observes a node."""
    if control.advice is None or not isinstance(state, NodeState):
        return []
    from steersman.act.advice.standing import key_of  # what is acted with is loaded where it is used

    wanted = EntityKey(EntityType.NODE, state.scope, state.id)
    about = [one for one in control.advice.book.recommendations() if key_of(one) == wanted]
    return sorted(about, key=lambda one: one.created_at, reverse=True)[:RECOMMENDATIONS_TOLD]


def _observed(plane: Plane, state: ResourceState) -> StoryObserved | None:
    if not isinstance(state, NodeState):
        return None
    explained = plane.bus.explain(EntityType.NODE, state.id, scope=state.scope)
    if explained is None:
        return None
    explained = shown_explanation(explained)
    return StoryObserved(
        entity=f"node/{state.id}",
        health=explained.health,
        freshness=explained.freshness,
        confidence=explained.confidence,
    )
