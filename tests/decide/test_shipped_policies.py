"""The policies that come with Steersman, and how a bad one is told."""

from __future__ import annotations

from typing import Any

import pytest
from decide_house import Watched

from steersman.decide import coverage, read_policies, shipped_policies
from steersman.decide.rules import CompiledPolicy
from steersman.kinds.axes import Truth
from steersman.kinds.entity import EntityType
from steersman.kinds.policy import PolicyMode

BAD = """policies:
  - {name: good, match: {entity_type: node}, when: disk_utilization > 0.9, action: a}
  - {name: misspelt, match: {entity_type: node}, when: disk_utilisation > 0.9, action: a}
  - {name: strange, match: {entity_type: node}, whne: "true", action: a}
"""


def test_the_shipped_policies_load_and_ask_before_they_act() -> None:
    read = [read_policies(text, file) for file, text in shipped_policies().items()]
    assert [one.problems for one in read] == [(), ()]
    policies = [loaded.policy for one in read for loaded in one.policies]
    assert [policy.name for policy in policies] == ["node-pressure", "node-recovered"]
    assert {policy.mode for policy in policies} == {PolicyMode.RECOMMEND_WITH_APPROVAL}


def test_one_bad_policy_leaves_the_others_and_is_told_with_its_line() -> None:
    read = read_policies(BAD, "p.yaml")
    assert [one.policy.name for one in read.policies] == ["good"]
    assert [(one.policy, one.line) for one in read.problems] == [("misspelt", 3), ("strange", 4)]
    assert "did you mean disk_utilization" in read.problems[0].detail
    assert "did you mean when" in read.problems[1].detail


def test_a_policy_whose_signals_nobody_collects_is_named() -> None:
    policies = [one.policy for one in read_policies(BAD, "p.yaml").policies]
    (blind,) = coverage(policies, {EntityType.NODE: {"load_1m"}})
    assert (blind.missing, blind.blind) == (("disk_utilization",), True)
    (seeing,) = coverage(policies, {EntityType.NODE: {"disk_utilization"}})
    assert (seeing.missing, seeing.blind) == ((), False)


def shipped(name: str) -> CompiledPolicy:
    """One of them, compiled."""
    texts = shipped_policies()
    (loaded,) = read_policies(texts[f"{name}.yaml"], name).policies
    return CompiledPolicy(loaded.policy)


def truth_of(name: str, made: Watched) -> Truth:
    """What one of them says now."""
    return shipped(name).judge(made.seen(), made.clock.now()).truth


QUIET: dict[str, Any] = {"cpu_utilization": 0.1, "memory_utilization": 0.3}


@pytest.mark.parametrize("more", [QUIET, {"cpu_utilization": 0.1}], ids=["with memory", "without memory"])
def test_pressure_is_true_and_false_on_a_machine_without_swap_or_pressure(more: dict[str, Any]) -> None:
    made = Watched()
    made.manage()
    made.say(disk_utilization=0.93, **more)
    assert truth_of("node-pressure", made) is Truth.TRUE
    for disk in (0.5, 0.87):
        made.clock.advance(1)
        made.say(disk_utilization=disk, **more)
        assert truth_of("node-pressure", made) is Truth.FALSE, "not stuck at unknown"


def test_pressure_is_false_where_it_is_ill_of_something_else() -> None:
    made = Watched()
    made.manage()
    made.say(disk_utilization=0.5, scheduler_state="DOWN", **QUIET)
    assert truth_of("node-pressure", made) is Truth.FALSE


@pytest.mark.parametrize("field", ["memory_utilization", "memory_pressure_full", "disk_utilization"])
def test_each_pressure_alone_is_enough(field: str) -> None:
    made = Watched()
    made.manage()
    words: dict[str, Any] = {"cpu_utilization": 0.1, field: 0.99}
    made.say(**words)
    assert truth_of("node-pressure", made) is Truth.TRUE


@pytest.mark.parametrize(
    ("status", "desired", "truth"),
    [("in_service", "in_service", Truth.TRUE), ("in_service", "maintenance", Truth.FALSE),
     ("maintenance", "maintenance", Truth.FALSE), ("draining", None, Truth.FALSE)],
)  # fmt: skip
def test_only_a_node_that_serves_and_is_meant_to_is_taken_out(
    status: str, desired: str | None, truth: Truth
) -> None:
    made = Watched()
    made.manage(status, desired_status=desired)
    made.say(disk_utilization=0.93, **QUIET)
    assert truth_of("node-pressure", made) is truth


def test_recovered_brings_back_what_pressure_took_and_nothing_else() -> None:
    made = Watched()
    for by, truth in (("policy:node-pressure", Truth.TRUE), ("user:alice", Truth.FALSE)):
        made.manage("maintenance", desired_status="maintenance", desired_by=by)
        made.say(disk_utilization=0.5, **QUIET)
        assert truth_of("node-recovered", made) is truth
        made.clock.advance(1)


def test_recovered_waits_where_nobody_can_tell_whether_the_pressure_is_over() -> None:
    made = Watched()
    made.manage("maintenance", desired_status="maintenance", desired_by="policy:node-pressure")
    made.say("slurm", disk_utilization=0.95)
    made.say(**QUIET)
    assert truth_of("node-recovered", made) is Truth.FALSE
    made.pass_time(3600, **QUIET)
    assert truth_of("node-recovered", made) is Truth.UNKNOWN
    made.say(disk_utilization=0.5, **QUIET)
    assert truth_of("node-recovered", made) is Truth.TRUE
