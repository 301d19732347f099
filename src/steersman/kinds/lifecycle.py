"""A lifecycle: which states a thing can be in, and which events take it from one to another.

A lifecycle is data, usually written by a site in YAML, and immutable once read. The lookups are made once,
when it is read; asking costs a dictionary access. What is checked here is that the table means something:
every name it uses exists, no event is ambiguous, every time-out leads somewhere. Whether it is wise (dead
ends, unreachable states, work placed on a node that nobody verified) is for the linter.

Words, in this module and everywhere: a *state* is where a thing is, an *event* is what moves it, a
*transition* is one line of the table. State names match in any case and come
back as the table spells them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from steersman.kernel.errors import InvalidInput, NotFound, Refused
from steersman.kernel.nearest import did_you_mean, nearest
from steersman.kinds.phase import LifecyclePhase

STATES_MAX = 256
TRANSITIONS_MAX = 4096
BUDGETS_MAX = 256
GUARDS_MAX = 256
NAME_MAX_CHARS = 64
ANY_STATE = "*"
"""In `from`: every state that is not terminal, other than the transition's own target."""
OVERRIDE_EVENT = "override"
"""The event of a forced move, from any state to any; no line of a table may have it."""
TIMEOUT_EVENT = "timeout"
"""The event of a state's time-out, where the table gives it no other name."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")


class LifecycleInvalid(InvalidInput, ValueError):
    """A lifecycle that contradicts itself or can't be read. `facts`: `path`, and `file` and `line` where it
    was read from text."""

    code = "lifecycle_invalid"
    title = "Lifecycle invalid"


class UnknownState(NotFound, ValueError):
    """The lifecycle has no such state. `facts`: `state`, `states`, and `nearest` where one is near."""

    code = "unknown_state"
    title = "Unknown state"


class NoPath(Refused, ValueError):
    """No events lead from one state to the other. `facts`: `from`, `to`, `reachable`."""

    code = "no_path"
    title = "No path between states"


class StateClass(StrEnum):
    """What kind of state it is."""

    STABLE = "stable"  # a thing may stay here
    ACTIVE = "active"  # something is being done, and it must end
    TERMINAL = "terminal"  # the end; only a transition that names the state leaves it


Initiators = str | Collection[str] | None
"""Classes of initiator: one, several of which any will do, or None for whoever may."""


class LifecycleState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One state.

    - `is_a`: the canonical state that a site's own state stands for; empty where it is its own.
    - `schedulable`: whether work may be placed on a thing in this state, as far as the state goes.
    - `deadline_s`: how long a thing may be in it; `on_timeout` is what happens then: an event that leaves the
      state, or a state to go to. Without `on_timeout` the deadline only raises an alarm.
    - `phase`: the lifecycle phase that runs in it; `on_success` and `on_failure` are the events that its end
      sends.
    """

    name: str
    state_class: StateClass = field(default=StateClass.STABLE, name="class")
    is_a: str = ""
    schedulable: bool = False
    deadline_s: Annotated[float, Meta(gt=0)] | None = None
    on_timeout: str | None = None
    phase: str | None = None
    on_success: str | None = None
    on_failure: str | None = None
    description: str = ""


class TransitionRequirements(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the asker of a transition must bring: a reason, named pieces of evidence, approvals of others."""

    reason: bool = False
    evidence: tuple[str, ...] = ()
    approvals: Annotated[int, Meta(ge=0)] = 0


class LifecycleTransition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the table: `event` takes a thing from any of `sources` (written `from`) to `to`.

    - `by`: classes of initiator that may send it; empty is everybody.
    - `guard`: names or expressions that must all hold; two lines for one event and state must differ in it.
    - `require`: what the asker must bring. `budget`: the budget that it draws on.
    """

    event: str
    sources: tuple[str, ...] = field(name="from")
    to: str
    by: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    require: TransitionRequirements = TransitionRequirements()
    budget: str | None = None
    description: str = ""


class LifecycleBudget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many resources may be at it at once: a number (`limit`) or a share of all (`share`, above 0 to 1).

    `per`: a label; each of its values then has an account of its own, a resource without it another.
    """

    limit: Annotated[int, Meta(ge=0)] | None = None
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    per: str = ""

    def __post_init__(self) -> None:
        if (self.limit is None) == (self.share is None):
            raise LifecycleInvalid("a budget has either limit or share")
        if self.limit is not None and self.limit < 0:
            raise LifecycleInvalid("a budget's limit is 0 or more")
        if self.share is not None and not 0 < self.share <= 1:
            raise LifecycleInvalid("a budget's share is above 0 and at most 1")


class TimeoutMove(Struct, frozen=True):
    """What a state's time-out does: after `deadline_s`, `event` takes the thing to `to`."""

    deadline_s: float
    event: str
    to: str


class Lifecycle(Struct, frozen=True, kw_only=True, dict=True):
    """The table; a value. `initial` is the first state where nothing is said.

    - `phases`: what is done in the states that name them. `budgets`: what transitions draw on.
    - `guards`: named guards, each an expression. `migrate`: states of an earlier version → states of this.
    - `override`: whether an admin may force a resource from any state to any, with a reason, on record.

    Its encoded form (JSON, msgpack, `to_dict`) is what `from_dict` reads; `from_yaml` and `from_map` read the
    forms that people write. All raise `LifecycleInvalid`.
    """

    name: str = "lifecycle"
    version: str = "1"
    initial: str = ""
    states: tuple[LifecycleState, ...]
    transitions: tuple[LifecycleTransition, ...] = ()
    phases: dict[str, LifecyclePhase] = field(default_factory=dict[str, LifecyclePhase])
    budgets: dict[str, LifecycleBudget] = field(default_factory=dict[str, LifecycleBudget])
    guards: dict[str, str] = field(default_factory=dict[str, str])
    migrate: dict[str, str] = field(default_factory=dict[str, str])
    override: bool = False

    def __post_init__(self) -> None:
        self._check_states()
        self._check_names()
        for at, transition in enumerate(self.transitions):
            self._check_transition(transition, ("transitions", at))
        for state in self.states:
            self._check_events(state.name)
            self._check_timeout(state)
            self._check_phase(state)

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.initial, self.states, self.transitions))

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def state_names(self) -> list[str]:
        """All states, in the order of the table."""
        return [state.name for state in self.states]

    def canonical(self, state: str) -> str:
        """The state as the table spells it; case, dashes and spaces do not matter. Raises `UnknownState`."""
        name = self._spelled.get(state) or self._spelled.get(_plain(state))
        if name is None:
            raise UnknownState(
                f"lifecycle {self} has no state {state[:NAME_MAX_CHARS]!r}{self._hint(state)}",
                state=state[:NAME_MAX_CHARS],
                states=self.state_names(),
                nearest=nearest(state, self._by_name),
            )
        return name

    def state(self, name: str) -> LifecycleState:
        """The state of that name. Raises `UnknownState`."""
        return self._by_name[self.canonical(name)]

    def meaning(self, state: str) -> str:
        """The canonical state that this one stands for; itself where it says nothing."""
        spec = self.state(state)
        return spec.is_a or spec.name

    def edges(self, state: str) -> tuple[LifecycleTransition, ...]:
        """The transitions that leave a state, in the order of the table. Raises `UnknownState`."""
        return self._leaving[self.canonical(state)]

    def allowed(self, state: str, by: Initiators = None) -> list[str]:
        """The events that a thing in this state can take, in the order of the table; with `by`, those that
        this class of initiator, or one of these, may send. Guards are not asked. Raises `UnknownState`."""
        events = (edge.event for edge in self.edges(state) if _may(edge, by))
        return list(dict.fromkeys(events))

    def targets(self, state: str, by: Initiators = None) -> list[str]:
        """The states that can be next, in the order of the table. Raises `UnknownState`."""
        return list(dict.fromkeys(edge.to for edge in self.edges(state) if _may(edge, by)))

    def find(self, state: str, event: str, by: Initiators = None) -> tuple[LifecycleTransition, ...]:
        """The transitions of this event from this state: none, one, or several with different guards."""
        return tuple(edge for edge in self.edges(state) if edge.event == event and _may(edge, by))

    def timeout(self, state: str) -> TimeoutMove | None:
        """What the state's time-out does; None where it has none, or only raises an alarm."""
        spec = self.state(state)
        if spec.deadline_s is None or spec.on_timeout is None:
            return None
        edges = self.find(spec.name, spec.on_timeout)
        if edges:
            return TimeoutMove(spec.deadline_s, edges[0].event, edges[0].to)
        return TimeoutMove(spec.deadline_s, TIMEOUT_EVENT, self.canonical(spec.on_timeout))

    def path(self, start: str, end: str, by: Initiators = None) -> list[str]:
        """The shortest list of events from one state to another; empty where they are the same.

        Of several that are equally short, the one whose events come first in the table. Guards are not asked
        and time-outs not used. Raises `UnknownState`, and `NoPath` with what can be reached instead.
        """
        origin, goal = self.canonical(start), self.canonical(end)
        came: dict[str, tuple[str, str]] = {}  # state → the state before it, and the event between
        seen = {origin}
        queue = deque([origin])
        while queue and goal not in seen:
            here = queue.popleft()
            for edge in self._leaving[here]:
                if edge.to not in seen and _may(edge, by):
                    seen.add(edge.to)
                    came[edge.to] = (here, edge.event)
                    queue.append(edge.to)
        if goal not in seen:
            reachable = [name for name in self.state_names() if name in seen and name != origin]
            raise NoPath(
                f"lifecycle {self}: no events lead from {origin} to {goal}"
                + (f" for {by if isinstance(by, str) else ' or '.join(by)}" if by else "")
                + (
                    f"; from {origin} one can reach {reachable}"
                    if reachable
                    else f"; nothing leaves {origin}"
                ),
                **{"from": origin, "to": goal, "reachable": reachable},
            )
        events: list[str] = []
        while goal != origin:
            goal, event = came[goal]
            events.append(event)
        return events[::-1]

    def to_dict(self) -> dict[str, Any]:
        """The encoded form, as plain data."""
        return msgspec.to_builtins(self)

    def to_map(self) -> dict[str, list[str]]:
        """State to next states: what `from_map` reads. Events, guards and time-outs are not in it."""
        return {name: self.targets(name) for name in self.state_names()}

    @classmethod
    def from_map(
        cls,
        table: Mapping[str, Sequence[str]],
        *,
        name: str = "lifecycle",
        version: str = "1",
        initial: str = "",
    ) -> Lifecycle:
        """Read a map of state to the states that may follow. Each transition's event is named as its target;
        a state that nothing leaves is terminal."""
        names = list(dict.fromkeys([*table, *(to for following in table.values() for to in following)]))
        return cls(
            name=name,
            version=version,
            initial=initial,
            states=tuple(
                LifecycleState(
                    name=state, state_class=StateClass.STABLE if table.get(state) else StateClass.TERMINAL
                )
                for state in names
            ),
            transitions=tuple(
                LifecycleTransition(event=to, sources=(state,), to=to)
                for state, following in table.items()
                for to in following
            ),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Lifecycle:
        """Read a lifecycle from plain data in any form that YAML may have; see `from_yaml`."""
        from steersman.kinds.lifecycle_text import read_data  # it imports this module

        return read_data(data)

    @classmethod
    def from_yaml(cls, text: str, file: str | Path = "lifecycle.yaml") -> Lifecycle:
        """Read a lifecycle from YAML; docs/reference/kinds.md shows the form. Errors carry file and line."""
        from steersman.kinds.lifecycle_text import read_text  # it imports this module

        return read_text(text, str(file))

    @cached_property
    def _by_name(self) -> dict[str, LifecycleState]:
        return {state.name: state for state in self.states}

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {form: state.name for state in self.states for form in (_plain(state.name), state.name)}

    @cached_property
    def _leaving(self) -> dict[str, tuple[LifecycleTransition, ...]]:
        leaving: dict[str, list[LifecycleTransition]] = {state.name: [] for state in self.states}
        for edge in self.transitions:
            names = set(edge.sources)
            if ANY_STATE in names:
                names |= {state.name for state in self.states if state.state_class is not StateClass.TERMINAL}
                names -= {ANY_STATE, *({edge.to} - set(edge.sources))}
            for name in names:
                leaving[name].append(edge)
        return {name: tuple(edges) for name, edges in leaving.items()}

    def _check_states(self) -> None:
        if not self.states or len(self.states) > STATES_MAX:
            raise _invalid(f"a lifecycle has 1 to {STATES_MAX} states, not {len(self.states)}", "states")
        if len(self.transitions) > TRANSITIONS_MAX:
            raise _invalid(f"a lifecycle has at most {TRANSITIONS_MAX} transitions", "transitions")
        plain: dict[str, str] = {}
        for state in self.states:
            _check_name("state", state.name, ("states", state.name))
            if _plain(state.name) in plain:
                twin = plain[_plain(state.name)]
                raise _invalid(f"state {state.name} is there twice (as {twin})", "states", state.name)
            plain[_plain(state.name)] = state.name
        initial = self.initial or self.states[0].name
        if initial not in self._by_name:
            raise _invalid(f"initial {initial!r} is not a state{self._hint(initial)}", "initial")
        msgspec.structs.force_setattr(self, "initial", initial)

    def _check_transition(self, transition: LifecycleTransition, path: tuple[str | int, ...]) -> None:
        _check_name("event", transition.event, (*path, "event"))
        if transition.event == OVERRIDE_EVENT:
            raise _invalid("event override is not for tables; say `override: true` instead", *path, "event")
        if transition.to not in self._by_name:
            hint = self._hint(transition.to)
            raise _invalid(f"{transition.event}: to {transition.to!r} is not a state{hint}", *path, "to")
        if not transition.sources:
            raise _invalid(f"{transition.event}: from names no state", *path, "from")
        for source in transition.sources:
            if source != ANY_STATE and source not in self._by_name:
                hint = self._hint(source)
                raise _invalid(f"{transition.event}: from {source!r} is not a state{hint}", *path, "from")

    def _check_events(self, state: str) -> None:
        by_event: dict[str, list[LifecycleTransition]] = {}
        for edge in self._leaving[state]:
            by_event.setdefault(edge.event, []).append(edge)
        for event, edges in by_event.items():
            if len({edge.guard for edge in edges}) < len(edges):
                raise _invalid(
                    f"event {event} leaves {state} in {len(edges)} ways, to {[edge.to for edge in edges]},"
                    " and their guards do not tell them apart",
                    "transitions",
                    self.transitions.index(edges[-1]),
                )

    def _check_timeout(self, state: LifecycleState) -> None:
        if state.on_timeout is None:
            return
        path = ("states", state.name, "on_timeout")
        if state.deadline_s is None:
            raise _invalid(f"state {state.name} has on_timeout and no deadline", *path)
        edges = self.find(state.name, state.on_timeout)
        if len(edges) > 1:
            raise _invalid(
                f"state {state.name}: on_timeout {state.on_timeout} has several targets; name a state",
                *path,
            )
        if not edges and state.on_timeout not in self._by_name:
            raise _invalid(
                f"state {state.name}: on_timeout {state.on_timeout!r} is neither an event that leaves it"
                f" ({', '.join(self.allowed(state.name)) or 'none does'}) nor a state",
                *path,
            )

    def _check_phase(self, state: LifecycleState) -> None:
        for key, event in (("on_success", state.on_success), ("on_failure", state.on_failure)):
            if event is None:
                continue
            path = ("states", state.name, key)
            if state.phase is None:
                raise _invalid(f"state {state.name} has {key} and no phase", *path)
            if not self.find(state.name, event):
                leaving = self.allowed(state.name)
                hint = did_you_mean(event, leaving) or f" ({', '.join(leaving) or 'none does'})"
                raise _invalid(f"state {state.name}: {key} {event!r} is no event that leaves it{hint}", *path)

    def _check_names(self) -> None:
        for key, names, most in (
            ("phases", self.phases, STATES_MAX),
            ("budgets", self.budgets, BUDGETS_MAX),
            ("guards", self.guards, GUARDS_MAX),
        ):
            if len(names) > most:
                raise _invalid(f"a lifecycle has at most {most} {key}", key)
            for name in names:
                _check_name(key.removesuffix("s"), name, (key, name))
        for name, phase in self.phases.items():
            if phase.name != name:
                raise _invalid(f"phase {name} calls itself {phase.name}", "phases", name)
        for old, new in self.migrate.items():
            if new not in self._by_name:
                raise _invalid(f"migrate: {new!r} is not a state{self._hint(new)}", "migrate", old)

    def _hint(self, name: str) -> str:
        return did_you_mean(name, self._by_name) or f"; the states are {', '.join(self.state_names())}"


def _may(edge: LifecycleTransition, by: Initiators) -> bool:
    if by is None or not edge.by:
        return True
    return by in edge.by if isinstance(by, str) else any(one in edge.by for one in by)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _check_name(what: str, name: str, path: tuple[str | int, ...]) -> None:
    if len(name) > NAME_MAX_CHARS or not _NAME.fullmatch(name):
        raise _invalid(
            f"{what} {name[:NAME_MAX_CHARS]!r} is not a name: a letter, then letters, digits, _, - and .,"
            f" at most {NAME_MAX_CHARS}",
            *path,
        )


def _invalid(detail: str, *path: str | int) -> LifecycleInvalid:
    return LifecycleInvalid(detail, path=list(path))
