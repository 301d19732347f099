"""A lifecycle table at work: it judges each request against where a thing is, and says why where it refuses.

A `Machine` is a `Lifecycle` with its lookups made and its guards compiled; asking it is a dictionary access
and the guards of the lines found. It holds no state and reads no clock: what it is not given, it does not
know. Each question has one of two ends: a `Move`, or a refusal by name (`kinds.refusal`).

The order of a judgement: the event and the states exist → a line leads from here → one of the asker's roles
is listed in `by` → guards → requirements. Where several lines fit, the first of the table whose guards and
requirements are met is taken, and the move's `note` says so.

Two events are no line of a table. `timeout` is what a deadline sends where `on_timeout` names a state; only
the class `timer` may. `override`, where the table says `override: true`, takes a thing from any state to any
other; only the class `admin` may, with a reason, and the move is `forced`. The class `timer` may also send
the event that a state's `on_timeout` names, whoever else `by` lists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean, nearest
from steersman.kinds.axes import Truth
from steersman.kinds.command import NO_TERMS, Draw, Terms
from steersman.kinds.lifecycle import (
    NAME_MAX_CHARS,
    OVERRIDE_EVENT,
    TIMEOUT_EVENT,
    Lifecycle,
    LifecycleTransition,
    NoPath,
    StateClass,
    TimeoutMove,
    TransitionRequirements,
)
from steersman.kinds.phase import LifecyclePhase
from steersman.kinds.refusal import GuardFailed, NotAllowed, RequirementMissing, TerminalState, UnknownEvent
from steersman.kinds.state import ResourceState

if TYPE_CHECKING:
    from steersman.kinds.guards import CompiledGuard, GuardFacts, GuardOutcome

ADMIN_ROLE, TIMER_ROLE = "admin", "timer"
_NO_FACTS: Mapping[str, Any] = {}

PlaceOf = Callable[[Sequence[str | int]], tuple[str, int, int]]
"""File, line and column of a path into a table."""


class Move(Struct, frozen=True, kw_only=True):
    """A request that may be granted: `event` takes the thing from `source` to `to`.

    `draws` are the places in budgets that the commit must get. `forced`: an override. `note` says which line
    was taken where several fitted.
    """

    event: str
    source: str
    to: str
    draws: tuple[Draw, ...] = ()
    forced: bool = False
    note: str = ""


class Option(Struct, frozen=True, kw_only=True):
    """What could be asked now. `enabled`: by this asker, if they bring what `require` lists; else `why_not`
    says what stands against it."""

    event: str
    to: str
    by: tuple[str, ...] = ()
    enabled: bool = True
    why_not: str = ""
    require: TransitionRequirements = TransitionRequirements()


class PathStep(Struct, frozen=True, kw_only=True):
    """One step of a way through a table, and what it will ask for when it is taken."""

    event: str
    source: str
    to: str
    by: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    require: TransitionRequirements = TransitionRequirements()
    budget: str | None = None


class _Failure(Struct, frozen=True):
    """Why a line that leads there can't be taken now."""

    edge: LifecycleTransition
    guards: tuple[GuardOutcome, ...] = ()
    missing: tuple[str, ...] = ()


class Machine:
    """A lifecycle, compiled. Raises `LifecycleInvalid` where a guard is no expression.

    `place_of` says where a part of the table was written, for that error.
    """

    def __init__(self, lifecycle: Lifecycle, place_of: PlaceOf | None = None) -> None:
        self.lifecycle = lifecycle
        self.name = str(lifecycle)
        self._guards = _compiled(lifecycle, place_of)
        self._edges: dict[str, tuple[LifecycleTransition, ...]] = {
            state.name: self._with_timer(state.name) for state in lifecycle.states
        }
        self._by_event: dict[tuple[str, str], tuple[LifecycleTransition, ...]] = {
            (name, event): tuple(edge for edge in edges if edge.event == event)
            for name, edges in self._edges.items()
            for event in {edge.event for edge in edges}
        }
        events = (edge.event for edges in self._edges.values() for edge in edges)
        override = (OVERRIDE_EVENT,) if lifecycle.override else ()
        self.events: tuple[str, ...] = tuple(
            dict.fromkeys((*(line.event for line in lifecycle.transitions), *events, *override))
        )

    def judge(
        self,
        state: ResourceState | str,
        roles: Collection[str] = (),
        *,
        event: str | None = None,
        to: str | None = None,
        terms: Terms = NO_TERMS,
        facts: Mapping[str, Any] = _NO_FACTS,
    ) -> Move:
        """Whether a thing in that state may take the event, or go to the state `to`, or both.

        `facts`: `actor`, `now`, `entity`, `health`, and `totals` (budget → how many things a share is of).
        Raises `UnknownEvent`, `UnknownState`, `NotAllowed`, `TerminalState`, `GuardFailed`,
        `RequirementMissing`; `InvalidInput` where neither event nor target is named.
        """
        here = self.lifecycle.canonical(_status(state))
        goal = None if to is None else self.lifecycle.canonical(to)
        if event is None and goal is None:
            raise InvalidInput("a transition names an event, or the state to go to")
        if event is not None and event not in self.events:
            raise self._unknown_event(event)
        if event == OVERRIDE_EVENT:
            return self._override(here, goal, roles, terms)
        leads: Sequence[LifecycleTransition] = (
            self._edges[here] if event is None else self._by_event.get((here, event), ())
        )
        if goal is not None:
            leads = [edge for edge in leads if edge.to == goal]
        lines = [edge for edge in leads if _may(edge, roles)]
        if not lines:
            raise self._not_allowed(here, roles, event, goal, leads)
        failures: list[_Failure] = []
        for edge in lines:
            failure = self._failure(edge, state, terms, facts)
            if failure is None:
                return self._move(here, edge, state, facts, len(leads))
            failures.append(failure)
        raise self._refusal(here, roles, failures)

    def options(
        self,
        state: ResourceState | str,
        roles: Collection[str] = (),
        *,
        terms: Terms = NO_TERMS,
        facts: Mapping[str, Any] = _NO_FACTS,
    ) -> list[Option]:
        """Every line that leaves the state, in the order of the table, and whether it could be taken now.
        What the asker must bring is not held against it. Raises `UnknownState`."""
        found: list[Option] = []
        for edge in self._edges[self.lifecycle.canonical(_status(state))]:
            why_not = "" if _may(edge, roles) else f"only {' or '.join(edge.by)} may"
            if not why_not:
                why_not = "; ".join(outcome.words() for outcome in self._failing(edge, state, terms, facts))
            found.append(
                Option(
                    event=edge.event,
                    to=edge.to,
                    by=edge.by,
                    enabled=not why_not,
                    why_not=why_not,
                    require=edge.require,
                )
            )
        return found

    def allowed(self, state: ResourceState | str, roles: Collection[str] = ()) -> list[Option]:
        """`options` with nothing known but the state itself."""
        return self.options(state, roles)

    def path(self, start: str, goal: str, roles: Collection[str] | None = None) -> list[PathStep]:
        """The shortest way from one state to another, for an asker with these classes (None: anybody), with
        what each step will ask for; empty where they are the same. Guards are named, not asked. Time-outs
        are not used. Raises `UnknownState`, and `NoPath`, which says who could where others could."""
        table = self.lifecycle
        origin, end = table.canonical(start), table.canonical(goal)
        came: dict[str, LifecycleTransition] = {}
        before: dict[str, str] = {}
        queue = deque([origin])
        while queue and end not in before and end != origin:
            here = queue.popleft()
            for edge in table.edges(here):
                if edge.to != origin and edge.to not in before and (roles is None or _may(edge, roles)):
                    before[edge.to], came[edge.to] = here, edge
                    queue.append(edge.to)
        if end != origin and end not in before:
            raise self._no_path(origin, end, roles, before)
        steps: list[PathStep] = []
        while end != origin:
            edge = came[end]
            steps.append(
                PathStep(
                    event=edge.event,
                    source=before[end],
                    to=end,
                    by=edge.by,
                    guard=edge.guard,
                    require=edge.require,
                    budget=edge.budget,
                )
            )
            end = before[end]
        return steps[::-1]

    def timeout(self, state: str) -> TimeoutMove | None:
        """What the state's time-out does; see `Lifecycle.timeout`."""
        return self.lifecycle.timeout(state)

    def phase(self, name: str) -> LifecyclePhase | None:
        """The phase of that name; None where the table has none."""
        return self.lifecycle.phases.get(name)

    def edges(self, state: str) -> tuple[LifecycleTransition, ...]:
        """What leaves a state, its time-out among it. Raises `UnknownState`."""
        return self._edges[self.lifecycle.canonical(state)]

    # ---- compiling

    def _with_timer(self, state: str) -> tuple[LifecycleTransition, ...]:
        edges = self.lifecycle.edges(state)
        move = self.lifecycle.timeout(state)
        if move is None:
            return edges
        if not any(edge.event == move.event for edge in edges):
            timer = LifecycleTransition(event=TIMEOUT_EVENT, sources=(state,), to=move.to, by=(TIMER_ROLE,))
            return (*edges, timer)
        return tuple(
            replace(edge, by=(*edge.by, TIMER_ROLE))
            if edge.event == move.event and edge.by and TIMER_ROLE not in edge.by
            else edge
            for edge in edges
        )

    # ---- judging

    def _failing(
        self,
        edge: LifecycleTransition,
        state: ResourceState | str,
        terms: Terms,
        facts: Mapping[str, Any],
    ) -> list[GuardOutcome]:
        if not edge.guard:
            return []
        known = _guard_facts(edge, state, terms, facts)
        outcomes = (self._guards[name].ask(known) for name in edge.guard)
        return [outcome for outcome in outcomes if not outcome.holds]

    def _failure(
        self,
        edge: LifecycleTransition,
        state: ResourceState | str,
        terms: Terms,
        facts: Mapping[str, Any],
    ) -> _Failure | None:
        failing = self._failing(edge, state, terms, facts)
        if failing:
            return _Failure(edge, guards=tuple(failing))
        missing = _missing(edge.require, terms, str(facts.get("actor", "")))
        return _Failure(edge, missing=tuple(missing)) if missing else None

    def _move(
        self,
        here: str,
        edge: LifecycleTransition,
        state: ResourceState | str,
        facts: Mapping[str, Any],
        leads: int,
    ) -> Move:
        draws = () if edge.budget is None else self._draws(edge.budget, edge, state, facts)
        note = f"{edge.event} to {edge.to} is the first of {leads} lines that fits" if leads > 1 else ""
        return Move(event=edge.event, source=here, to=edge.to, draws=draws, note=note)

    def _draws(
        self,
        name: str,
        edge: LifecycleTransition,
        state: ResourceState | str,
        facts: Mapping[str, Any],
    ) -> tuple[Draw, ...]:
        """The place that the move must get. Raises `GuardFailed` where nobody knows what a share is of."""
        budget = self.lifecycle.budgets.get(name)
        if budget is None or isinstance(state, str):
            return ()
        account = f"{self.lifecycle.name}/{name}"
        if budget.per:
            account = f"{account}/{budget.per}={state.labels.get(budget.per, '')}"
        if budget.limit is not None:
            limit = budget.limit
        else:
            total = facts.get("totals", _NO_FACTS).get(name)
            if total is None:
                lack = {
                    "path": f"totals.{name}",
                    "why": "absent",
                    "detail": "how many there are is not known",
                }
                failed = {"guard": f"budget {name}", "outcome": Truth.UNKNOWN.value, "missing": [lack]}
                raise GuardFailed(
                    f"budget {name} is a share, and how many there are is not known",
                    current=state.status,
                    failed=[{**failed, "event": edge.event, "to": edge.to}],
                    allowed=[],
                    lifecycle=self.name,
                )
            limit = max(1, int((budget.share or 0.0) * total))  # a share of a few is one, or none ever moved
        return (Draw(budget=account, holder=f"{state.resource_type}/{state.id}", limit=limit),)

    def _override(self, here: str, goal: str | None, roles: Collection[str], terms: Terms) -> Move:
        if goal is None:
            raise InvalidInput("event override names the state to go to", event=OVERRIDE_EVENT)
        if ADMIN_ROLE not in roles:
            raise self._not_allowed(here, roles, OVERRIDE_EVENT, goal, [], by=(ADMIN_ROLE,))
        if not terms.reason.strip():
            raise RequirementMissing(
                "an override needs a reason", missing=["reason"], current=here, event=OVERRIDE_EVENT, to=goal
            )
        return Move(event=OVERRIDE_EVENT, source=here, to=goal, forced=True)

    # ---- refusing

    def _unknown_event(self, event: str) -> UnknownEvent:
        hint = did_you_mean(event, self.events) or f"; the events are {', '.join(self.events) or 'none'}"
        shown = event[:NAME_MAX_CHARS]
        return UnknownEvent(
            f"lifecycle {self.name} has no event {shown!r}{hint}",
            event=shown,
            events=list(self.events),
            nearest=nearest(event, self.events),
            lifecycle=self.name,
        )

    def _not_allowed(
        self,
        here: str,
        roles: Collection[str],
        event: str | None,
        goal: str | None,
        leads: Sequence[LifecycleTransition],
        by: tuple[str, ...] = (),
    ) -> NotAllowed | TerminalState:
        asked: dict[str, Any] = {"current": here, "lifecycle": self.name}
        asked |= {key: value for key, value in (("event", event), ("to", goal)) if value is not None}
        edges = self._edges[here]
        if not edges and not by and self.lifecycle.state(here).state_class is StateClass.TERMINAL:
            return TerminalState(f"{here} is a terminal state: nothing leaves it", **asked, allowed=[])
        mine = [edge for edge in edges if _may(edge, roles)]
        allowed = [{"event": edge.event, "to": edge.to, "by": list(edge.by)} for edge in mine]
        may = list(dict.fromkeys((*by, *(role for edge in leads for role in edge.by))))
        wish = " ".join(part for part in (event, f"to {goal}" if goal else "") if part)
        who = " or ".join(roles) or "nobody in particular"
        if may:
            said = f"{wish} from {here} is for {' or '.join(may)}, not for {who}"
        else:
            said = f"no line of {self.name} leads {wish} from {here}"
        instead = ", ".join(dict.fromkeys(f"{edge.event} to {edge.to}" for edge in mine)) or "nothing"
        return NotAllowed(f"{said}; allowed from here: {instead}", **asked, allowed=allowed, may=may)

    def _refusal(
        self, here: str, roles: Collection[str], failures: list[_Failure]
    ) -> GuardFailed | RequirementMissing:
        first = next((failure for failure in failures if failure.missing), failures[0])
        edge = first.edge
        asked = {"current": here, "event": edge.event, "to": edge.to, "lifecycle": self.name}
        if first.missing:
            return RequirementMissing(
                f"{edge.event} to {edge.to} needs {', '.join(first.missing)}",
                **asked,
                missing=list(first.missing),
            )
        allowed = [
            {"event": line.event, "to": line.to, "by": list(line.by)}
            for line in self._edges[here]
            if _may(line, roles) and all(line is not failure.edge for failure in failures)
        ]
        failed = [
            {
                "guard": outcome.guard,
                "outcome": outcome.outcome.value,
                "missing": list(outcome.missing),
                "event": failure.edge.event,
                "to": failure.edge.to,
            }
            for failure in failures
            for outcome in failure.guards
        ]
        words = "; ".join(outcome.words() for failure in failures for outcome in failure.guards)
        return GuardFailed(f"{edge.event} from {here}: {words}", **asked, failed=failed, allowed=allowed)

    def _no_path(
        self, origin: str, end: str, roles: Collection[str] | None, seen: Mapping[str, str]
    ) -> NoPath:
        reachable = [name for name in self.lifecycle.state_names() if name in seen]
        facts: dict[str, Any] = {"from": origin, "to": end, "reachable": reachable}
        said = f"lifecycle {self.name}: no events lead from {origin} to {end}"
        if roles is None:
            return NoPath(f"{said}; from {origin} one can reach {reachable or 'nothing'}", **facts)
        said += f" for {' or '.join(roles) or 'nobody in particular'}"
        try:
            others = self.path(origin, end)
        except NoPath:
            return NoPath(f"{said}, nor for anybody", **facts)
        at, step = next(step for step in enumerate(others) if not _may_class(step[1].by, roles))
        facts["blocked"] = {"event": step.event, "from": step.source, "to": step.to, "by": list(step.by)}
        return NoPath(
            f"{said}: step {at + 1} of the way, {step.event} from {step.source} to {step.to}, is for"
            f" {' or '.join(step.by)}",
            **facts,
        )


def _compiled(lifecycle: Lifecycle, place_of: PlaceOf | None) -> Mapping[str, CompiledGuard]:
    if not lifecycle.guards and not any(edge.guard for edge in lifecycle.transitions):
        return {}
    # Here, not above: the grammar of CEL takes a while to load, and most tables have no guard.
    from steersman.kinds.guards import compile_guards

    return compile_guards(lifecycle, place_of or _nowhere)


def _guard_facts(
    edge: LifecycleTransition, state: ResourceState | str, terms: Terms, facts: Mapping[str, Any]
) -> GuardFacts:
    from steersman.kinds.guards import GuardFacts

    request = {"event": edge.event, "to": edge.to}
    return GuardFacts(None if isinstance(state, str) else state, terms, request, facts)


def _nowhere(_: Sequence[str | int]) -> tuple[str, int, int]:
    return "", 1, 1


def _missing(require: TransitionRequirements, terms: Terms, actor: str) -> list[str]:
    """What the asker did not bring. Nobody approves their own request."""
    missing: list[str] = []
    if require.reason and not terms.reason.strip():
        missing.append("reason")
    brought = {item.kind for item in terms.evidence}
    missing += [f"evidence {kind}" for kind in require.evidence if kind not in brought]
    short = require.approvals - len(set(terms.approvals) - {actor})
    if short > 0:
        missing.append(f"{short} more approval{'s' if short > 1 else ''}")
    return missing


def _status(state: ResourceState | str) -> str:
    return state if isinstance(state, str) else state.status


def _may(edge: LifecycleTransition, roles: Collection[str]) -> bool:
    return _may_class(edge.by, roles)


def _may_class(by: tuple[str, ...], roles: Collection[str]) -> bool:
    return not by or any(role in by for role in roles)
