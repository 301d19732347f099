"""Machines: every request is granted or refused by name, and the table alone decides which."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from automaton import exceptions as automaton_errors
from automaton import machines as automaton_machines
from hypothesis import given, settings
from lifecycle_made import EVENTS, ROLES, lifecycles
from statemachine import State, StateChart
from statemachine.exceptions import TransitionNotAllowed

from steersman.act.lifecycle import shipped
from steersman.kernel.errors import InvalidInput
from steersman.kinds.command import Evidence, Terms
from steersman.kinds.lifecycle import Lifecycle, LifecycleInvalid, NoPath, UnknownState
from steersman.kinds.machine import Machine
from steersman.kinds.plane_resources import FREEZE_LIFECYCLE, POLICY_LIFECYCLE
from steersman.kinds.policy import RECOMMENDATION_LIFECYCLE
from steersman.kinds.refusal import (
    GuardFailed,
    NotAllowed,
    RequirementMissing,
    TerminalState,
    UnknownEvent,
)
from steersman.kinds.state import NodeState

TABLE = """
name: site
override: true
states:
  service: {schedulable: true}
  late: {class: active, deadline: 1h, on_timeout: broken}
  tired: {deadline: 1h, on_timeout: rest}
  shop:
  broken:
  gone: {class: terminal}
guards:
  calm: size(holds) == 0
budgets:
  shop: {limit: 2, per: rack}
  tithe: {share: 0.1}
transitions:
  - {event: take, from: service, to: shop, by: [operator, engine], require: {reason: true}, budget: shop}
  - {event: tire, from: service, to: tired, budget: tithe}
  - {event: rest, from: tired, to: shop, by: operator}
  - {event: hurry, from: service, to: late, guard: 'conditions.health == "true"'}
  - {event: back, from: shop, to: service, guard: calm}
  - {event: sort, from: shop, to: service, guard: health == "good"}
  - {event: sort, from: shop, to: broken, guard: health != "good"}
  - {event: retire, from: [broken, shop], to: gone, by: admin,
     require: {reason: true, evidence: [wiped], approvals: 2}}
"""
MACHINE = Machine(Lifecycle.from_yaml(TABLE))
WHY = Terms(reason="because")


def node(status: str = "service", **fields: Any) -> NodeState:
    return NodeState(id="n1", status=status, **fields)


def test_a_move_says_event_target_and_places_in_budgets():
    move = MACHINE.judge(node(labels={"rack": "r7"}), ["engine"], event="take", terms=WHY)
    assert (move.event, move.source, move.to, move.forced) == ("take", "service", "shop", False)
    (draw,) = move.draws
    assert (draw.budget, draw.holder, draw.limit) == ("site/shop/rack=r7", "Node/n1", 2)


def test_a_share_needs_to_know_of_what():
    with pytest.raises(GuardFailed, match="share") as caught:
        MACHINE.judge(node(), event="tire")
    assert caught.value.facts["failed"][0]["outcome"] == "unknown"
    assert MACHINE.judge(node(), event="tire", facts={"totals": {"tithe": 57}}).draws[0].limit == 5
    assert MACHINE.judge(node(), event="tire", facts={"totals": {"tithe": 3}}).draws[0].limit == 1


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownEvent, match="did you mean take") as caught:
        MACHINE.judge("service", event="tako")
    assert caught.value.facts["nearest"] == "take"
    with pytest.raises(UnknownState):
        MACHINE.judge("service", to="shoop")
    with pytest.raises(UnknownState):
        MACHINE.judge("nowhere", event="take")
    with pytest.raises(InvalidInput):
        MACHINE.judge("service")


def test_what_is_not_allowed_says_what_is_and_who_may():
    with pytest.raises(NotAllowed) as caught:
        MACHINE.judge("service", ["monitor"], event="take")
    facts = caught.value.facts
    assert facts["may"] == ["operator", "engine"]
    assert [line["event"] for line in facts["allowed"]] == ["tire", "hurry"]
    with pytest.raises(NotAllowed, match="no line"):
        MACHINE.judge("service", ["admin"], event="back")


def test_a_terminal_state_is_named_as_such():
    with pytest.raises(TerminalState) as caught:
        MACHINE.judge("gone", ["admin"], event="take")
    assert caught.value.facts["allowed"] == []


def test_a_guard_that_cannot_tell_names_what_is_missing():
    with pytest.raises(GuardFailed) as caught:
        MACHINE.judge(node(), event="hurry")
    (failed,) = caught.value.facts["failed"]
    assert failed["outcome"] == "unknown"
    assert failed["missing"][0]["path"] == "conditions.health"
    assert [line["event"] for line in caught.value.facts["allowed"]] == ["tire"]


def test_a_guard_reads_conditions_and_holds_that_still_count():
    from steersman.kinds.axes import Condition, Hold, Truth

    at = datetime(2026, 1, 1, tzinfo=UTC)
    state = node()
    state.set_condition(Condition(type="health", status=Truth.TRUE, source="bus", observed_at=at))
    assert MACHINE.judge(state, event="hurry").to == "late"
    state.set_condition(Condition(type="health", status=Truth.FALSE, source="bus", observed_at=at))
    with pytest.raises(GuardFailed) as caught:
        MACHINE.judge(state, event="hurry")
    assert caught.value.facts["failed"][0]["outcome"] == "false"
    held = node("shop")
    held.place_hold(Hold(name="mine", owner="me", placed_at=at, expires_at=at.replace(hour=1)))
    with pytest.raises(GuardFailed):
        MACHINE.judge(held, event="back", facts={"now": at})
    assert MACHINE.judge(held, event="back", facts={"now": at.replace(hour=1)}).to == "service"


def test_of_several_lines_the_first_that_fits_is_taken_and_said():
    move = MACHINE.judge(node("shop"), event="sort", facts={"health": "bad"})
    assert move.to == "broken"
    assert "of 2 lines" in move.note
    to = MACHINE.judge(node("shop"), to="service", facts={"health": "good"})
    assert to.event == "back"
    with pytest.raises(GuardFailed) as caught:
        MACHINE.judge(node("shop"), event="sort")
    assert len(caught.value.facts["failed"]) == 2


def test_requirements_are_told_together_and_nobody_approves_their_own():
    with pytest.raises(RequirementMissing) as caught:
        MACHINE.judge("broken", ["admin"], event="retire")
    assert caught.value.facts["missing"] == ["reason", "evidence wiped", "2 more approvals"]
    terms = Terms(reason="old", evidence=(Evidence(kind="wiped"),), approvals=("user:a", "user:b"))
    with pytest.raises(RequirementMissing, match="1 more approval"):
        MACHINE.judge("broken", ["admin"], event="retire", terms=terms, facts={"actor": "user:a"})
    assert MACHINE.judge("broken", ["admin"], event="retire", terms=terms).to == "gone"


def test_only_time_sends_time_outs():
    assert MACHINE.judge("late", ["timer"], event="timeout").to == "broken"
    assert MACHINE.judge("tired", ["timer"], event="rest").to == "shop"
    with pytest.raises(NotAllowed):
        MACHINE.judge("late", ["admin"], event="timeout")


def test_an_override_is_for_an_admin_with_a_reason_where_the_table_lets():
    assert MACHINE.judge("gone", ["admin"], event="override", to="service", terms=WHY).forced
    with pytest.raises(NotAllowed):
        MACHINE.judge("gone", ["operator"], event="override", to="service", terms=WHY)
    with pytest.raises(RequirementMissing):
        MACHINE.judge("gone", ["admin"], event="override", to="service")
    with pytest.raises(InvalidInput):
        MACHINE.judge("gone", ["admin"], event="override", terms=WHY)
    strict = Machine(Lifecycle.from_map({"a": ["b"], "b": ["a"]}))
    with pytest.raises(UnknownEvent):
        strict.judge("a", ["admin"], event="override", to="b", terms=WHY)


def test_options_say_what_stands_against_each():
    options = {option.event: option for option in MACHINE.options(node(), ["operator"])}
    assert options["take"].enabled
    assert options["take"].require.reason
    assert "conditions.health" in options["hurry"].why_not
    assert MACHINE.options(node(), ["monitor"])[0].why_not == "only operator or engine may"


def test_a_path_names_what_each_step_asks_for():
    steps = MACHINE.path("service", "gone", ["operator", "admin"])
    assert [step.event for step in steps] == ["take", "retire"]
    assert steps[1].require.approvals == 2
    assert steps[0].budget == "shop"
    assert MACHINE.path("shop", "shop") == []
    with pytest.raises(NoPath, match="retire from shop to gone, is for admin") as caught:
        MACHINE.path("service", "gone", ["operator"])
    assert caught.value.facts["blocked"]["by"] == ["admin"]
    with pytest.raises(NoPath):
        MACHINE.path("gone", "service")


def test_a_bad_guard_is_refused_with_its_place():
    from steersman.act.lifecycle import lint_text

    line = '{event: go, from: a, to: b, guard: "health =="}'
    text = f"states: {{a: , b: {{class: terminal}}}}\ntransitions:\n  - {line}\n"
    with pytest.raises(LifecycleInvalid, match="health =="):
        Machine(Lifecycle.from_yaml(text))
    (finding,) = [one for one in lint_text(text, "site.yaml") if one.code == "guard_invalid"]
    assert (finding.place.file, finding.place.line) == ("site.yaml", 3)


REFUSALS = (NotAllowed, TerminalState, GuardFailed, RequirementMissing)
SHIPPED = [loaded.machine for loaded in shipped()]
TABLES = [*SHIPPED, *map(Machine, (RECOMMENDATION_LIFECYCLE, POLICY_LIFECYCLE, FREEZE_LIFECYCLE))]


def every_answer(machine: Machine, roles: tuple[str, ...]) -> None:
    """Each state, event and role is granted where the table has a line for it, else refused by name."""
    table = machine.lifecycle
    for state in table.state_names():
        for role in roles:
            for event in machine.events:
                goal = table.initial if event == "override" else None
                lines = [edge for edge in machine.edges(state) if edge.event == event]
                open_to = [edge for edge in lines if not edge.by or role in edge.by]
                try:
                    move = machine.judge(state, [role], event=event, to=goal)
                except (NotAllowed, TerminalState):
                    assert not open_to
                except (GuardFailed, RequirementMissing):
                    assert open_to or event == "override"
                else:
                    assert move.to in {edge.to for edge in open_to}


@pytest.mark.parametrize("machine", TABLES, ids=lambda machine: machine.name)
def test_each_state_event_and_role_has_an_answer_in_every_table(machine: Machine):
    every_answer(machine, ("operator", "admin", "policy", "engine", "timer", "monitor", "nobody"))


@given(lifecycles())
@settings(deadline=None, max_examples=60)
def test_each_state_event_and_role_has_an_answer_in_any_table(table: Lifecycle):
    every_answer(Machine(table), ROLES)


@given(lifecycles(guarded=False, roles=False))
@settings(deadline=None, max_examples=60)
def test_it_agrees_with_two_other_machines(table: Lifecycle):
    machine = Machine(table)
    chart = statechart(table)
    automaton = automaton_machines.FiniteMachine()
    for name in table.state_names():
        automaton.add_state(name)
    for name in table.state_names():
        for edge in table.edges(name):
            automaton.add_transition(name, edge.to, edge.event)
    for state in table.state_names():
        for event in machine.events:
            if event == "override":
                continue
            try:
                ours = machine.judge(state, event=event).to
            except REFUSALS:
                ours = None
            automaton.initialize(state)
            try:
                automaton.process_event(event)
                theirs = automaton.current_state
            except automaton_errors.NotFound:
                theirs = None
            assert ours == theirs
            assert ours == by_statechart(chart, state, event)


def statechart(table: Lifecycle) -> type[StateChart]:
    """The same table for python-statemachine."""
    nodes = {name: State(value=name, initial=name == table.initial) for name in table.state_names()}
    body: dict[str, Any] = {
        **nodes,
        "allow_event_without_transition": False,
        "validate_disconnected_states": False,
        "validate_trap_states": False,
        "validate_final_reachability": False,
    }
    for name, here in nodes.items():
        for edge in table.edges(name):
            line = here.to(nodes[edge.to])
            body[edge.event] = body[edge.event] | line if edge.event in body else line
    return type("Chart", (StateChart,), body)


def by_statechart(chart: type[StateChart], state: str, event: str) -> str | None:
    """Where python-statemachine comes to; None where it refuses."""
    running = chart(start_value=state)
    try:
        running.send(event)
    except TransitionNotAllowed:
        return None
    return str(next(iter(running.configuration)).value)


def test_events_are_those_of_the_table():
    assert set(EVENTS).isdisjoint(MACHINE.events)
    assert {"timeout", "override", "take"} <= set(MACHINE.events)
