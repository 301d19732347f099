"""Lifecycle tables: what they refuse and where, and that a path is legal and as short as can be."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.kernel.errors import InvalidInput
from steersman.kernel.yamltext import YamlInvalid
from steersman.kinds.lifecycle import (
    STATES_MAX,
    Lifecycle,
    LifecycleInvalid,
    LifecycleState,
    LifecycleTransition,
    NoPath,
    StateClass,
    TimeoutMove,
    TransitionRequirements,
    UnknownState,
)

THREE_STATES = {
    "in_service": ["maintenance"],
    "maintenance": ["firmware_update", "in_service"],
    "firmware_update": ["in_service"],
}
"""The valid transitions of the node lifecycle document, verbatim."""

SITE = """\
name: site
version: "2.10"
initial: discovered
states:
  discovered:
  in_service: {schedulable: true}
  on_the_bench: {is_a: maintenance}
  firmware_update: {class: active, deadline: 2h, on_timeout: failed, phase: flash}
  burn_in: {class: active, deadline: 1d12h, on_timeout: fail}
  rma: {deadline_s: 60}
  failed:
  retired: {class: terminal, description: gone for good}
transitions:
  - {event: qualify, from: discovered, to: in_service}
  - {event: enter, from: in_service, to: on_the_bench, by: [operator, admin]}
  - {event: begin_update, from: on_the_bench, to: firmware_update, guard: [ok, "jobs == 0"], budget: rack}
  - event: updated
    from: firmware_update
    to: burn_in
  - {event: passed, from: burn_in, to: in_service, by: engine}
  - {event: fail, from: "*", to: failed}
  - {event: send_in, from: failed, to: rma}
  - event: retire
    from: [failed, on_the_bench]
    to: retired
    require: {reason: true, evidence: [wiped], approvals: 2}
  - {event: reinstate, from: retired, to: discovered, by: admin}
"""
MACHINE = Lifecycle.from_yaml(SITE)


def test_the_three_states_load_verbatim():
    machine = Lifecycle.from_map(THREE_STATES)
    assert machine.to_map() == THREE_STATES
    assert machine.state_names() == list(THREE_STATES)
    assert machine.initial == "in_service"
    assert machine.allowed("in_service") == ["maintenance"]
    assert machine.allowed("maintenance") == ["firmware_update", "in_service"]
    assert machine.path("in_service", "firmware_update") == ["maintenance", "firmware_update"]
    assert machine.path("firmware_update", "maintenance") == ["in_service", "maintenance"]


def test_the_same_table_as_yaml_as_transitions_and_as_plain_data():
    short = "".join(f"{state}: [{', '.join(following)}]\n" for state, following in THREE_STATES.items())
    machine = Lifecycle.from_map(THREE_STATES)
    assert Lifecycle.from_yaml(short) == machine
    assert Lifecycle.from_dict(THREE_STATES) == machine
    assert Lifecycle.from_dict({"transitions": THREE_STATES}) == machine


def test_a_state_that_nothing_leaves_is_terminal_in_a_map():
    machine = Lifecycle.from_map({"a": ["b", "c"], "b": []})
    assert [state.state_class for state in machine.states] == ["stable", "terminal", "terminal"]


def test_it_is_a_value():
    assert Lifecycle.from_yaml(SITE) == MACHINE
    assert hash(Lifecycle.from_yaml(SITE)) == hash(MACHINE)
    with pytest.raises(AttributeError):
        MACHINE.initial = "failed"  # type: ignore[misc]


def test_head_under_lifecycle_is_the_same_as_beside_states():
    moved = SITE.replace(
        'name: site\nversion: "2.10"\ninitial: discovered\n',
        'lifecycle: {name: site, version: "2.10", initial: discovered}\n',
    )
    assert Lifecycle.from_yaml(moved) == MACHINE


def test_every_key_is_kept():
    assert MACHINE.state("firmware_update") == LifecycleState(
        name="firmware_update",
        state_class=StateClass.ACTIVE,
        deadline_s=7200.0,
        on_timeout="failed",
        phase="flash",
    )
    assert MACHINE.state("rma").deadline_s == 60
    (update,) = MACHINE.find("on_the_bench", "begin_update")
    assert update == LifecycleTransition(
        event="begin_update",
        sources=("on_the_bench",),
        to="firmware_update",
        guard=("ok", "jobs == 0"),
        budget="rack",
    )
    (retire,) = MACHINE.find("failed", "retire")
    assert retire.require == TransitionRequirements(reason=True, evidence=("wiped",), approvals=2)
    assert str(MACHINE) == "site@2.10"


def test_state_names_are_matched_in_any_case_and_come_back_as_spelled():
    for spelling in ("In_Service", "IN-SERVICE", "in service", "InService"):
        assert MACHINE.canonical(spelling) == "in_service"
    assert MACHINE.allowed("ON THE BENCH") == ["begin_update", "fail", "retire"]


def test_any_state_means_all_but_terminal_ones_and_the_target():
    assert "fail" in MACHINE.allowed("in_service")
    assert "fail" not in MACHINE.allowed("failed")
    assert MACHINE.allowed("retired") == ["reinstate"]


def test_allowed_and_path_may_be_asked_for_one_class_of_initiator():
    assert MACHINE.allowed("in_service", by="operator") == ["enter", "fail"]
    assert MACHINE.allowed("in_service", by="monitor") == ["fail"]
    assert MACHINE.path("retired", "in_service", by="admin") == ["reinstate", "qualify"]
    with pytest.raises(NoPath, match="for operator"):
        MACHINE.path("retired", "in_service", by="operator")


def test_targets_and_meaning():
    assert MACHINE.targets("on_the_bench") == ["firmware_update", "failed", "retired"]
    assert MACHINE.meaning("on_the_bench") == "maintenance"
    assert MACHINE.meaning("failed") == "failed"


def test_a_timeout_goes_to_a_state_or_sends_an_event_or_only_warns():
    assert MACHINE.timeout("firmware_update") == TimeoutMove(7200.0, "timeout", "failed")
    assert MACHINE.timeout("burn_in") == TimeoutMove(36 * 3600.0, "fail", "failed")
    assert MACHINE.timeout("rma") is None
    assert MACHINE.timeout("in_service") is None


def test_an_unknown_state_is_refused_with_the_nearest():
    with pytest.raises(UnknownState, match="did you mean in_service") as caught:
        MACHINE.allowed("in_servce")
    assert caught.value.facts["nearest"] == "in_service"
    assert caught.value.facts["states"] == MACHINE.state_names()
    assert caught.value.status == 404


def test_no_path_says_what_can_be_reached():
    machine = Lifecycle.from_map({"a": ["b"], "b": ["a"], "c": ["a"]})
    with pytest.raises(NoPath, match="no events lead from a to c") as caught:
        machine.path("a", "c")
    assert caught.value.facts == {"from": "a", "to": "c", "reachable": ["b"]}
    with pytest.raises(NoPath, match="nothing leaves z"):
        Lifecycle.from_map({"a": ["z"]}).path("z", "a")


def test_no_path_needs_no_events_to_stay():
    assert MACHINE.path("failed", "failed") == []


def test_of_two_shortest_paths_the_first_in_the_table_is_taken():
    machine = Lifecycle.from_map({"a": ["c", "b"], "b": ["d"], "c": ["d"], "d": ["a"]})
    assert machine.path("a", "d") == ["c", "d"]


def test_guards_tell_two_ways_of_one_event_apart():
    states = (LifecycleState(name="a"), LifecycleState(name="b"), LifecycleState(name="c"))
    go_b = LifecycleTransition(event="go", sources=("a",), to="b", guard=("x",))
    go_c = LifecycleTransition(event="go", sources=("a",), to="c")
    machine = Lifecycle(states=states, transitions=(go_b, go_c))
    assert machine.find("a", "go") == (go_b, go_c)
    assert machine.allowed("a") == ["go"]
    with pytest.raises(LifecycleInvalid, match="guards do not tell them apart"):
        Lifecycle(states=states, transitions=(msgspec.structs.replace(go_b, guard=()), go_c))


# (what is replaced, by what, the line the error must name, what it must say)
BAD_YAML: list[tuple[str, str, int, str]] = [
    ("name: site", "nme: site", 1, "'nme' is not a key of a lifecycle; did you mean name"),
    ("name: site", "name: [site]", 1, "name is a name"),
    ('version: "2.10"', "version: 2.10", 2, "put it in quotes"),
    ("initial: discovered", "initial: discoverd", 3, "initial 'discoverd' is not a state; did you mean"),
    ("discovered:\n", "discovered: [x]\n", 5, "state discovered is a mapping"),
    ("schedulable: true", "schedulable: yes", 6, "schedulable is true or false, not 'yes'"),
    ("is_a: maintenance", "is_an: maintenance", 7, "did you mean is_a"),
    ("class: active, deadline: 2h", "class: busy, deadline: 2h", 8, "stable, active or terminal"),
    ("deadline: 2h", "deadline: 2x", 8, "is not a duration"),
    ("deadline: 2h", "deadline: 0s", 8, "more than zero"),
    ("deadline: 2h", "deadline: true", 8, "deadline is a duration"),
    ("deadline: 2h", "deadline: 2h, deadline_s: 3", 8, "say the same"),
    ("deadline: 2h, ", "", 8, "on_timeout and no deadline"),
    ("on_timeout: failed", "on_timeout: faild", 8, "neither an event that leaves it"),
    ("  failed:\n", "  failed:\n  Failed:\n", 12, "state Failed is there twice"),
    ("  failed:\n", "  failed:\n  failed:\n", 12, "given twice"),
    ("  failed:\n", "  9failed:\n", 11, "is not a name"),
    ("from: discovered, to: in_service", "from: discovered, to: in_servic", 14, "did you mean in_service"),
    ("from: discovered, to", "form: discovered, to", 14, "'form' is not a key of a transition"),
    ("from: discovered, ", "", 14, "a transition has from"),
    ("from: discovered", "from: discoverd", 14, "from 'discoverd' is not a state"),
    ("from: discovered", "from: []", 14, "from names no state"),
    ("by: [operator, admin]", "by: [operator, 5]", 15, "by is a name, not 5"),
    ("event: enter", 'event: "to work"', 15, "event 'to work' is not a name"),
    ("    to: burn_in", "    to: burnin_", 19, "did you mean burn_in"),
    ("event: passed", "event: fail", 21, "event fail leaves burn_in in 2 ways"),
    ("reason: true", "reason: 1", 26, "reason is true or false"),
    ("approvals: 2", "approvals: -1", 26, "number of people"),
    ("approvals: 2", "aprovals: 2", 26, "did you mean approvals"),
    ("transitions:\n", "transitions: fast\nx:\n", 14, "'x' is not a key"),
]


@pytest.mark.parametrize(("old", "new", "line", "says"), BAD_YAML, ids=lambda part: str(part)[:30])
def test_a_wrong_table_is_refused_with_file_and_line(old: str, new: str, line: int, says: str):
    assert old in SITE
    with pytest.raises(InvalidInput) as caught:
        Lifecycle.from_yaml(SITE.replace(old, new, 1), "site/nodes.yaml")
    error = caught.value
    assert says in error.detail
    assert error.facts["line"] == line
    assert error.facts["file"] == "site/nodes.yaml"
    assert f"site/nodes.yaml:{error.facts['line']}:" in error.detail


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a lifecycle is a mapping, not nothing"),
        ("[]", "not a list"),
        ("5", "not 5"),
        ("{}", "has states"),
        ("a: 1", "neither a key of a lifecycle"),
        ("stats: {a: }", "did you mean states"),
        ("states: {}", "1 to 256 states"),
        ("states: [{class: stable}]", "a state in a list has a name"),
        ("states: {a: {name: b}}", "another name"),
        ("name: x\nlifecycle: {name: y}\nstates: [a]", "not in both"),
        ("states: [a]\ntransitions: 5", "transitions is a list"),
        ("states: [a]\ntransitions: [5]", "a transition is a mapping"),
        ("a: [b\n", ""),
        ("a: &x [b]\nb: *x", ""),
    ],
)
def test_documents_that_are_no_lifecycle(text: str, says: str):
    with pytest.raises((LifecycleInvalid, YamlInvalid)) as caught:
        Lifecycle.from_yaml(text)
    assert says in caught.value.detail
    assert "line" in caught.value.facts


def test_a_list_of_states_and_single_names_are_read():
    machine = Lifecycle.from_yaml("states: [a, {name: b, class: terminal}]\ntransitions: {a: b}")
    assert machine == Lifecycle.from_map({"a": ["b"]})


def test_plain_data_that_is_no_lifecycle():
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    for data in ({"states": deep}, {"states": {"a": object()}}, {"states": {"a": {"class": b"x"}}}):
        with pytest.raises(LifecycleInvalid):
            Lifecycle.from_dict(data)


def test_bounds():
    Lifecycle.from_map({f"s{n}": [] for n in range(STATES_MAX)})
    with pytest.raises(LifecycleInvalid, match="1 to 256 states"):
        Lifecycle.from_map({f"s{n}": [] for n in range(STATES_MAX + 1)})


def test_a_lifecycle_that_is_decoded_is_checked_too():
    with pytest.raises(msgspec.ValidationError, match="not a state"):
        msgspec.json.decode(
            b'{"states": [{"name": "a"}], "transitions": [{"event": "e", "from": ["b"], "to": "a"}]}',
            type=Lifecycle,
        )


@pytest.mark.parametrize("machine", [MACHINE, Lifecycle.from_map(THREE_STATES)], ids=str)
def test_round_trips_of_real_tables(machine: Lifecycle):
    assert Lifecycle.from_dict(machine.to_dict()) == machine
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(machine), type=Lifecycle) == machine
        assert Lifecycle.from_dict(codec.decode(codec.encode(machine))) == machine


STATES = ("a", "b", "c", "d", "e", "f")
ROLES = ("operator", "engine")


@st.composite
def tables(draw: st.DrawFn) -> Lifecycle:
    """Any table over up to six states, with wildcards, roles and terminal states."""
    names = STATES[: draw(st.integers(1, len(STATES)))]
    classes = [draw(st.sampled_from(StateClass)) for _ in names]
    lines = draw(
        st.lists(
            st.tuples(
                st.lists(st.sampled_from([*names, "*"]), min_size=1, max_size=3, unique=True),
                st.sampled_from(names),
                st.lists(st.sampled_from(ROLES), max_size=1),
            ),
            max_size=10,
        )
    )
    return Lifecycle(
        states=tuple(
            LifecycleState(name=name, state_class=kind) for name, kind in zip(names, classes, strict=True)
        ),
        transitions=tuple(
            LifecycleTransition(event=f"e{n}", sources=tuple(sources), to=to, by=tuple(by))
            for n, (sources, to, by) in enumerate(lines)
        ),
    )


def walk(machine: Lifecycle, start: str, events: list[str], by: str | None) -> str:
    """Where these events lead; each must be allowed where it is sent."""
    here = start
    for event in events:
        assert event in machine.allowed(here, by)
        (edge,) = machine.find(here, event)
        here = edge.to
    return here


def distance_by_brute_force(machine: Lifecycle, start: str, end: str, by: str | None) -> int | None:
    """Try all walks in order of length: no queue, no memory of what was seen."""
    ends = {start}
    for length in range(len(machine.states)):
        if end in ends:
            return length
        ends = {
            edge.to
            for here in ends
            for edge in machine.transitions
            if by is None or not edge.by or by in edge.by
            if here in edge.sources
            or (
                "*" in edge.sources
                and machine.state(here).state_class is not StateClass.TERMINAL
                and edge.to != here
            )
        }
    return None


@given(tables(), st.sampled_from([None, *ROLES]))
def test_a_path_is_legal_and_as_short_as_can_be(machine: Lifecycle, by: str | None):
    for start, end in itertools.product(machine.state_names(), repeat=2):
        shortest = distance_by_brute_force(machine, start, end, by)
        if shortest is not None:
            events = machine.path(start, end, by)
            assert len(events) == shortest
            assert walk(machine, start, events, by) == end
            continue
        with pytest.raises(NoPath) as refused:
            machine.path(start, end, by)
        assert end not in refused.value.facts["reachable"]
        for other in refused.value.facts["reachable"]:
            assert walk(machine, start, machine.path(start, other, by), by) == other


@given(tables())
def test_lookups_agree_with_the_lines_of_the_table(machine: Lifecycle):
    for state in machine.state_names():
        edges = machine.edges(state)
        assert list(edges) == [edge for edge in machine.transitions if edge in edges]
        assert machine.allowed(state) == [edge.event for edge in edges]
        assert set(machine.targets(state)) == {edge.to for edge in edges}
        for edge in edges:
            assert state in edge.sources or "*" in edge.sources


@given(tables())
def test_round_trips(machine: Lifecycle):
    assert Lifecycle.from_dict(machine.to_dict()) == machine
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Lifecycle) == machine
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(machine), type=Lifecycle) == machine


@given(st.dictionaries(st.sampled_from(STATES), st.lists(st.sampled_from(STATES), unique=True), min_size=1))
def test_a_map_comes_back_from_its_lifecycle(table: dict[str, list[str]]):
    back = Lifecycle.from_map(table).to_map()
    assert {state: following for state, following in back.items() if following or state in table} == table


_yamlish = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from(["a", "b", "*", "active", "2h"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "states",
                    "transitions",
                    "lifecycle",
                    "class",
                    "from",
                    "to",
                    "event",
                    "deadline",
                    "a",
                    "b",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["states", "transitions", "lifecycle", "name", "a"]), _yamlish))
def test_any_data_is_a_lifecycle_or_a_typed_refusal(data: dict[str, Any]):
    try:
        machine = Lifecycle.from_dict(data)
    except LifecycleInvalid:
        return
    assert Lifecycle.from_dict(machine.to_dict()) == machine


@given(st.text(max_size=200) | st.binary(max_size=50).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_lifecycle_or_a_typed_refusal_with_its_place(text: str):
    try:
        Lifecycle.from_yaml(text, "x.yaml")
    except (LifecycleInvalid, YamlInvalid) as error:
        place = (error.facts["file"], error.facts["line"] >= 1)
    else:
        place = ("x.yaml", True)
    assert place == ("x.yaml", True)


@given(st.data())
def test_a_table_with_a_few_characters_changed_is_read_or_refused_with_its_place(data: st.DataObject):
    """Mutations of a real table reach deeper than random text does."""
    text = SITE
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        cut = data.draw(st.integers(0, 6))
        text = (
            text[:at]
            + data.draw(st.sampled_from(["", ":", "*", "[", "{}", "&a", "\n", "  ", "x", "-", "'"]))
            + text[at + cut :]
        )
    try:
        machine = Lifecycle.from_yaml(text, "x.yaml")
    except (LifecycleInvalid, YamlInvalid) as error:
        lines = text.count("\n") + 2
        place = 1 <= error.facts["line"] <= lines
    else:
        place = Lifecycle.from_dict(machine.to_dict()) == machine
    assert place
