"""The policies that come with Steersman, and how a bad one is told."""

from __future__ import annotations

from steersman.decide import coverage, read_policies, shipped_policies
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
