"""LifecyclePhase and ManagedLifecycle: engines and payloads, order, both stored forms."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.kinds.phase import (
    PHASES_MAX,
    LifecyclePhase,
    ManagedLifecycle,
    PhaseInvalid,
    WorkflowRef,
)

SESSION = [
    ("schedule", True),
    ("instantiate", True),
    ("activate", True),
    ("monitor", True),
    ("collect_evidence", False),
    ("compute_grading", False),
    ("teardown", True),
    ("archive", False),
    ("expire", True),
    ("terminate", True),
]
LIFECYCLE = ManagedLifecycle(
    tuple(LifecyclePhase(name, is_required=required) for name, required in SESSION), "schedule"
)


def test_only_a_name_is_needed():
    assert LifecyclePhase("boot").to_dict() == {
        "name": "boot",
        "engine": "pipeline",
        "trigger_on_status": None,
        "pipeline_def": None,
        "workflow_ref": None,
        "is_required": True,
    }
    assert LifecyclePhase.from_dict({"name": "boot"}) == LifecyclePhase("boot")


def test_both_are_frozen():
    with pytest.raises(AttributeError):
        LifecyclePhase("boot").name = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        LIFECYCLE.current_phase = None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "name"),
        ({"name": ""}, "name of 1 to"),
        ({"name": "x" * 129}, "name of 1 to"),
        ({"name": "grade", "engine": "cron"}, "phase grade.*'cron'"),
        (
            {"name": "grade", "engine": "pipeline", "workflow_ref": "w@1"},
            "phase grade: engine pipeline takes",
        ),
        ({"name": "grade", "engine": "workflow", "pipeline_def": {"steps": []}}, "engine workflow takes"),
        ({"name": "boot", "pipeline_def": {"steps": {}}}, "steps is a list"),
        ({"name": "boot", "pipeline_def": []}, "pipeline_def"),
        ({"name": "boot", "is_required": "no"}, "is_required"),
        ({"name": "boot", "workflow": "x"}, "'workflow' is not a key"),
        ({"name": "g", "engine": "workflow", "workflow_ref": "a b"}, "workflow_ref is"),
        ({"name": "g", "engine": "workflow", "workflow_ref": ""}, "workflow_ref is"),
        ({"name": "g", "engine": "workflow", "workflow_ref": 5}, "workflow_ref is"),
        ({"name": "g", "engine": "workflow", "workflow_ref": {"version": "1"}}, "workflow_ref has a name"),
        ({"name": "g", "engine": "workflow", "workflow_ref": {"name": "a", "tag": "1"}}, "workflow_ref has"),
        ({"name": "g", "engine": "workflow", "workflow_ref": {"name": "a/b/c"}}, "workflow_ref is"),
    ],
)
def test_a_phase_that_contradicts_itself_is_refused_by_name(data: dict[str, Any], says: str):
    with pytest.raises(PhaseInvalid, match=says):
        LifecyclePhase.from_dict(data)


def test_an_unknown_engine_is_refused_at_construction_too():
    with pytest.raises(PhaseInvalid, match="engine is pipeline or workflow"):
        LifecyclePhase("grade", engine="cron")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_ref", "text", "parts"),
    [
        ("grade", "grade", WorkflowRef("grade")),
        ("grade@2", "grade@2", WorkflowRef("grade", version="2")),
        ("exams/grade@2", "exams/grade@2", WorkflowRef("grade", "exams", "2")),
        ({"name": "grade"}, "grade", WorkflowRef("grade")),
        (
            {"namespace": "exams", "name": "grade", "version": 2},
            "exams/grade@2",
            WorkflowRef("grade", "exams", "2"),
        ),
        ({"namespace": None, "name": "grade", "version": "2"}, "grade@2", WorkflowRef("grade", version="2")),
    ],
)
def test_a_workflow_is_named_by_text_or_mapping(given_ref: Any, text: str, parts: WorkflowRef):
    phase = LifecyclePhase.from_dict({"name": "g", "engine": "workflow", "workflow_ref": given_ref})
    assert phase.workflow_ref == text
    assert phase.workflow() == parts
    assert LifecyclePhase("g", "workflow", workflow_ref=given_ref) == phase


def test_a_payload_may_be_bound_later():
    assert LifecyclePhase("grade", engine="workflow").workflow() is None
    assert LifecyclePhase("boot").pipeline_def is None


def test_to_dict_shares_nothing():
    phase = LifecyclePhase("boot", pipeline_def={"steps": [{"name": "a"}]})
    phase.to_dict()["pipeline_def"]["steps"].clear()
    assert phase.pipeline_def == {"steps": [{"name": "a"}]}


def test_get_phase_never_raises():
    assert LIFECYCLE.get_phase("monitor") == LifecyclePhase("monitor")
    assert LIFECYCLE.get_phase("nothing") is None


def test_active_phases_are_the_required_ones():
    assert [phase.name for phase in LIFECYCLE.get_active_phases()] == [
        name for name, required in SESSION if required
    ]


def test_names_keep_their_order():
    assert LIFECYCLE.phase_names() == [name for name, _ in SESSION]


def test_str_shows_order_and_place():
    two = ManagedLifecycle((LifecyclePhase("a"), LifecyclePhase("b")))
    assert str(two) == "ManagedLifecycle(a -> b)"
    assert str(two.at("b")) == "ManagedLifecycle(a -> b [current: b])"


def test_an_empty_lifecycle_is_one():
    assert ManagedLifecycle().phases == ()
    assert ManagedLifecycle.from_dict({}) == ManagedLifecycle()
    assert ManagedLifecycle.from_dict(ManagedLifecycle().to_dict()) == ManagedLifecycle()


def test_the_order_survives_a_store_that_sorts_keys():
    stored = msgspec.json.decode(msgspec.json.encode(LIFECYCLE.to_dict(), order="sorted"))
    assert list(stored["phases"]) != LIFECYCLE.phase_names()
    assert ManagedLifecycle.from_dict(stored) == LIFECYCLE


def test_a_mapping_without_order_has_the_order_of_its_keys():
    lifecycle = ManagedLifecycle.from_dict({"phases": {"b": {}, "a": None}, "current_phase": "a"})
    assert lifecycle.phase_names() == ["b", "a"]
    assert lifecycle.current_phase == "a"


def test_a_list_is_read_in_its_order():
    lifecycle = ManagedLifecycle.from_dict({"phases": [{"name": "b"}, {"name": "a", "is_required": False}]})
    assert lifecycle.phase_names() == ["b", "a"]
    assert [phase.name for phase in lifecycle.get_active_phases()] == ["b"]


def test_an_explicit_name_wins_over_the_key():
    lifecycle = ManagedLifecycle.from_dict({"phases": {"key": {"name": "own"}}})
    assert lifecycle.phase_names() == ["own"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"phases": [{"name": "a"}, {"name": "a"}]}, "phase a is there twice"),
        ({"phases": {"x": {"name": "a"}, "y": {"name": "a"}}}, "phase a is there twice"),
        ({"phases": {"a": {}}, "current_phase": "b"}, "current_phase 'b'"),
        ({"phases": {"a": {}, "b": {}}, "order": ["a"]}, "order must name each phase"),
        ({"phases": {"a": {}}, "order": ["a", "a"]}, "order must name each phase"),
        ({"phases": "a"}, "phases"),
        ({"phases": {"a": []}}, "phases"),
        ({"phase": {}}, "phase"),
        ({"phases": {f"p{n}": {} for n in range(PHASES_MAX + 1)}}, "at most"),
        ({"phases": {"a": {"engine": "cron"}}}, "phase a"),
    ],
)
def test_a_lifecycle_that_contradicts_itself_is_refused_by_name(data: dict[str, Any], says: str):
    with pytest.raises(PhaseInvalid, match=says):
        ManagedLifecycle.from_dict(data)


def test_at_moves_and_refuses_a_phase_that_is_not_there():
    assert LIFECYCLE.at("teardown").current_phase == "teardown"
    assert LIFECYCLE.at(None).current_phase is None
    with pytest.raises(PhaseInvalid, match="current_phase"):
        LIFECYCLE.at("lunch")


_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
_pipelines = st.builds(
    LifecyclePhase,
    _names,
    trigger_on_status=st.none() | _names,
    pipeline_def=st.none() | st.fixed_dictionaries({"steps": st.lists(st.just({"name": "s"}), max_size=2)}),
    is_required=st.booleans(),
)
_workflows = st.builds(
    LifecyclePhase,
    _names,
    engine=st.just("workflow"),
    workflow_ref=st.none() | st.from_regex(r"\A([a-z]{1,4}/)?[a-z]{1,4}(@[0-9]{1,2})?\Z"),
    is_required=st.booleans(),
)


@st.composite
def lifecycles(draw: st.DrawFn) -> ManagedLifecycle:
    phases = draw(st.lists(_pipelines | _workflows, max_size=6, unique_by=lambda phase: phase.name))
    current = draw(st.none() | st.sampled_from([phase.name for phase in phases])) if phases else None
    return ManagedLifecycle(tuple(phases), current)


@given(lifecycles())
def test_round_trips(lifecycle: ManagedLifecycle):
    assert ManagedLifecycle.from_dict(lifecycle.to_dict()) == lifecycle
    for codec in (msgspec.json, msgspec.msgpack):
        assert ManagedLifecycle.from_dict(codec.decode(codec.encode(lifecycle.to_dict()))) == lifecycle
        assert codec.decode(codec.encode(lifecycle), type=ManagedLifecycle) == lifecycle
        assert ManagedLifecycle.from_dict(codec.decode(codec.encode(lifecycle))) == lifecycle
    for phase in lifecycle.phases:
        assert LifecyclePhase.from_dict(phase.to_dict()) == phase
        assert lifecycle.get_phase(phase.name) is phase
