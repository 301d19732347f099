"""What is unwise about a lifecycle table, though it can be read.

Errors refuse the table; warnings are listed beside it. docs/reference/lifecycles.md has a heading for each
code. The rules about what a state is for go by its meaning (`is_a`, else its name).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal

from msgspec import Struct

from steersman.kinds.lifecycle import (
    TIMEOUT_EVENT,
    Lifecycle,
    LifecycleInvalid,
    LifecycleState,
    LifecycleTransition,
    StateClass,
)
from steersman.kinds.machine import Machine, PlaceOf

TOUCHED = frozenset({"firmware_update", "rma"})
"""Meanings of states after which a thing must be verified before it takes work."""
VERIFYING = frozenset({"diagnostics", "burn_in"})
"""Meanings of states that verify."""
FAILED, IN_SERVICE = "failed", "in_service"
PEOPLE_AND_TIME = frozenset({"operator", "admin", "dc_tech", "timer"})
"""Classes of initiator that break a cycle: a person, or time that passes."""

_NAME_ONLY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMPARISON = re.compile(r"(?P<left>.+?)\s*(?P<operator>==|!=)\s*(?P<right>\"[^\"]*\"|'[^']*'|[\w.]+)")

Severity = Literal["error", "warning"]


class Place(Struct, frozen=True):
    """Where in a file, from 1. `file` is empty where a table was not read from text."""

    file: str = ""
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file or '<table>'}:{self.line}:{self.column}"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is unwise: what, where, and what to do about it."""

    code: str
    severity: Severity
    place: Place
    message: str
    fix: str = ""

    def __str__(self) -> str:
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.place}: {self.severity} {self.code}: {self.message}{fix}"


def lint(lifecycle: Lifecycle, place_of: PlaceOf | None = None) -> list[Finding]:
    """Everything found, errors first, then by place. Never raises for what a table says."""
    found = [finding for rule in _RULES for finding in rule(_Table(lifecycle, place_of))]
    order = {"error": 0, "warning": 1}
    return sorted(found, key=lambda one: (order[one.severity], one.place.line, one.place.column, one.code))


class _Table:
    """A table with what several rules ask."""

    def __init__(self, lifecycle: Lifecycle, place_of: PlaceOf | None) -> None:
        self.lifecycle = lifecycle
        self.place_of: PlaceOf = place_of or (lambda _: ("", 1, 1))
        self.next: dict[str, list[tuple[LifecycleTransition | None, str]]] = {}
        for state in lifecycle.states:
            leads: list[tuple[LifecycleTransition | None, str]] = [
                (edge, edge.to) for edge in lifecycle.edges(state.name)
            ]
            move = lifecycle.timeout(state.name)
            if move is not None:
                leads.append((None, move.to))
            self.next[state.name] = leads

    def meaning(self, state: str) -> str:
        return self.lifecycle.meaning(state)

    def reached(self, start: str, around: Iterable[str] = ()) -> set[str]:
        """States that can be reached from one, itself included, without going through those in `around`."""
        seen, closed, todo = {start}, set(around), [start]
        while todo:
            for _, to in self.next[todo.pop()]:
                if to not in seen and to not in closed:
                    seen.add(to)
                    todo.append(to)
        return seen

    def finding(
        self, code: str, severity: Severity, path: Sequence[str | int], message: str, fix: str = ""
    ) -> Finding:
        place = Place(*self.place_of(path))
        return Finding(code=code, severity=severity, place=place, message=message, fix=fix)

    def of_state(self, code: str, severity: Severity, state: str, message: str, fix: str = "") -> Finding:
        return self.finding(code, severity, ("states", state), message, fix)


def _unreachable(table: _Table) -> Iterator[Finding]:
    seen = table.reached(table.lifecycle.initial)
    for name in table.lifecycle.state_names():
        if name not in seen:
            yield table.of_state(
                "unreachable",
                "warning",
                name,
                f"nothing leads from {table.lifecycle.initial} to {name}",
                "add a transition to it, or take it out",
            )


def _trap(table: _Table) -> Iterator[Finding]:
    for state in table.lifecycle.states:
        if state.state_class is StateClass.TERMINAL:
            continue
        if not table.next[state.name]:
            yield table.of_state(
                "trap",
                "error",
                state.name,
                f"nothing leaves {state.name}, and it is not terminal",
                "add a transition from it, or say class: terminal",
            )


def _active(table: _Table) -> Iterator[Finding]:
    for state in table.lifecycle.states:
        if state.state_class is not StateClass.ACTIVE:
            continue
        if state.deadline_s is None:
            yield table.of_state(
                "active_without_timeout",
                "error",
                state.name,
                f"{state.name} is active and may last for ever",
                "give it a deadline",
            )
        if state.on_failure is None and not _fails(table, state):
            yield table.of_state(
                "active_without_failure_exit",
                "warning" if state.phase is None else "error",
                state.name,
                f"{state.name} is active, and nothing says where it goes when its work fails",
                "give it on_failure, or a transition to a state that is_a failed",
            )


def _fails(table: _Table, state: LifecycleState) -> bool:
    return any(table.meaning(to) == FAILED for _, to in table.next[state.name])


def _ambiguous(table: _Table) -> Iterator[Finding]:
    lifecycle = table.lifecycle
    told: set[tuple[int, int]] = set()
    for state in lifecycle.state_names():
        for first, second in combinations(lifecycle.edges(state), 2):
            if first.event != second.event or _exclusive(lifecycle, first.guard, second.guard):
                continue
            pair = (lifecycle.transitions.index(first), lifecycle.transitions.index(second))
            if pair not in told:
                told.add(pair)
                yield table.finding(
                    "ambiguous_guards",
                    "warning",
                    ("transitions", pair[1]),
                    f"{first.event} from {state} leads to {first.to} and to {second.to}, and the guards of"
                    " both can hold; the first line is then taken",
                    "write the second guard as the first one's opposite",
                )


def _exclusive(lifecycle: Lifecycle, first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two lists of guards are plainly never true together. Only what the text shows is seen."""
    texts = [[lifecycle.guards.get(guard, guard).strip() for guard in guards] for guards in (first, second)]
    return any(_opposite(one, other) or _opposite(other, one) for one in texts[0] for other in texts[1])


def _opposite(one: str, other: str) -> bool:
    if other in (f"!({one})", f"!{one}" if _NAME_ONLY.fullmatch(one) else ""):
        return True
    left, right = _COMPARISON.fullmatch(one), _COMPARISON.fullmatch(other)
    if left is None or right is None or left["left"] != right["left"]:
        return False
    same = left["right"] == right["right"]
    return same if left["operator"] != right["operator"] else not same and left["operator"] == "=="


def _unverified(table: _Table) -> Iterator[Finding]:
    lifecycle = table.lifecycle
    verifying = {name for name in lifecycle.state_names() if table.meaning(name) in VERIFYING}
    for state in lifecycle.states:
        if table.meaning(state.name) not in TOUCHED:
            continue
        for name in sorted(table.reached(state.name, verifying) - {state.name}):
            schedulable = lifecycle.state(name).schedulable
            if schedulable or table.meaning(name) == IN_SERVICE:
                yield table.of_state(
                    "unverified_return",
                    "error" if schedulable else "warning",
                    state.name,
                    f"a thing can come from {state.name} to {name}, which takes work, without being verified",
                    f"lead it through a state that is_a {' or '.join(sorted(VERIFYING))}",
                )


def _never_schedulable(table: _Table) -> Iterator[Finding]:
    if not any(state.schedulable for state in table.lifecycle.states):
        yield table.finding(
            "never_schedulable",
            "warning",
            ("states",),
            "no state takes work",
            "say schedulable: true of those that do",
        )


def _livelock(table: _Table) -> Iterator[Finding]:
    """Cycles of which each step may be sent by machines alone, and by nobody else."""
    alone: dict[str, set[str]] = {
        state: {
            to
            for edge, to in leads
            if edge is not None and edge.by and not PEOPLE_AND_TIME.intersection(edge.by)
        }
        for state, leads in table.next.items()
    }
    told: set[str] = set()
    for start in table.lifecycle.state_names():
        if start in told:
            continue
        around = _round(alone, start)
        if around:
            told.update(around)
            yield table.of_state(
                "cycle_without_human_or_timer",
                "warning",
                start,
                f"{' to '.join([*around, start])} can go round for ever with nobody looking",
                "let a person or a deadline take part in one of its steps",
            )


def _round(leads: dict[str, set[str]], start: str) -> list[str]:
    """The shortest way from a state back to itself; empty where there is none."""
    came: dict[str, str] = {}
    queue = [start]
    for here in queue:
        for to in sorted(leads[here]):
            if to == start:
                way = [here]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if to not in came:
                came[to] = here
                queue.append(to)
    return []


def _roles(table: _Table) -> Iterator[Finding]:
    """A class that brings a thing into a state and, from there, can never move it on."""
    lifecycle = table.lifecycle
    for at, edge in enumerate(lifecycle.transitions):
        target = lifecycle.state(edge.to)
        if target.state_class is StateClass.TERMINAL or not edge.by:
            continue
        leaving = lifecycle.edges(edge.to)
        if leaving and not any(not line.by or set(line.by) - {"timer"} for line in leaving):
            yield table.finding(
                "role_cannot_leave",
                "warning",
                ("transitions", at),
                f"{' and '.join(edge.by)} can bring a thing into {edge.to}, and only time leads out of it",
                "let somebody leave it",
            )


def _unknown_names(table: _Table) -> Iterator[Finding]:
    lifecycle = table.lifecycle
    for state in lifecycle.states:
        if state.phase is not None and state.phase not in lifecycle.phases:
            yield table.finding(
                "unknown_phase",
                "error" if lifecycle.phases else "warning",
                ("states", state.name, "phase"),
                f"{state.name} runs phase {state.phase}, which the table does not define",
                "list it under phases; without it each resource must bring its own",
            )
    for at, edge in enumerate(lifecycle.transitions):
        if edge.budget is not None and edge.budget not in lifecycle.budgets:
            yield table.finding(
                "unknown_budget",
                "error",
                ("transitions", at, "budget"),
                f"{edge.event} draws on budget {edge.budget}, which the table does not define",
                "list it under budgets",
            )
        for index, guard in enumerate(edge.guard):
            if _NAME_ONLY.fullmatch(guard) and guard not in lifecycle.guards:
                yield table.finding(
                    "unknown_guard",
                    "error",
                    ("transitions", at, "guard", index),
                    f"{edge.event} has guard {guard}, which the table does not define",
                    "list it under guards",
                )


def _guards(table: _Table) -> Iterator[Finding]:
    if next(_unknown_names(table), None) is not None and any(
        finding.code == "unknown_guard" for finding in _unknown_names(table)
    ):
        return  # each is told by its own rule, with the better words
    try:
        Machine(table.lifecycle, table.place_of)
    except LifecycleInvalid as error:
        facts = error.facts
        place = Place(str(facts.get("file", "")), int(facts.get("line", 1)), int(facts.get("column", 1)))
        yield Finding(
            code="guard_invalid", severity="error", place=place, message=error.detail, fix="docs: lifecycles"
        )


def _phase_ends(table: _Table) -> Iterator[Finding]:
    for state in table.lifecycle.states:
        for key, event in (("on_success", state.on_success), ("on_failure", state.on_failure)):
            if event is not None and not table.lifecycle.find(state.name, event, "engine"):
                yield table.finding(
                    "phase_end_refused",
                    "error",
                    ("states", state.name, key),
                    f"{key} of {state.name} sends {event}, which the class engine may not",
                    f"add engine to the by of {event}",
                )
        if state.phase is not None and state.on_success is None:
            yield table.of_state(
                "phase_without_end",
                "warning",
                state.name,
                f"phase {state.phase} of {state.name} ends and moves nothing",
                "give it on_success",
            )


def _timeout_name(table: _Table) -> Iterator[Finding]:
    for at, edge in enumerate(table.lifecycle.transitions):
        if edge.event == TIMEOUT_EVENT and edge.by and "timer" not in edge.by:
            yield table.finding(
                "timeout_not_for_timer",
                "warning",
                ("transitions", at, "event"),
                "an event named timeout that the class timer may not send",
                "add timer to its by, or give it another name",
            )


_RULES: tuple[Callable[[_Table], Iterator[Finding]], ...] = (
    _unreachable,
    _trap,
    _active,
    _ambiguous,
    _unverified,
    _never_schedulable,
    _livelock,
    _roles,
    _unknown_names,
    _guards,
    _phase_ends,
    _timeout_name,
)
