"""Every key of a policy's YAML: what it may be, and what is said where it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.decide import read_policies
from steersman.decide.reading import ACTION_KEYS, KEYS, LIMIT_KEYS, MATCH_KEYS, POLICIES_MAX
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.policy import PolicyMode, Risk

WHOLE = """
name: whole
version: 3
description: All there is
match:
  entity_type: node
  labels: {rack: r1}
  scope: site-a
  scheduler_domain: slurm
  workload_type: llm_serving
  health: [degraded, critical]
when: disk_utilization > 0.9
for: 1m30s
min_confidence: 50%
max_staleness: 2m
action: {name: drain_or_avoid_node, parameters: {grace: 5}}
risk: high
priority: 100
mode: controlled_auto_act
limits:
  cooldown: 5m
  window: 1h
  max_count: 2
  max_share: 25%
  failure_domain: rack
  capacity_floor: 0.5
  breaker_failures: 3
approvals: 2
reason: "{entity} by {policy}: {disk_utilization}"
expires_after: 30m
enabled: false
"""
BASE = {"name": "p", "match": "{entity_type: node}", "when": "disk_utilization > 0.9", "action": "a"}


def text_of(**keys: str) -> str:
    """A policy of the four keys that each must have, with others or none of them."""
    body = {**BASE, **{key.rstrip("_"): value for key, value in keys.items()}}
    return "".join(f"{key}: {value}\n" for key, value in body.items() if value)


def test_every_key_is_read() -> None:
    (loaded,) = read_policies(WHOLE, "p.yaml").policies
    policy = loaded.policy
    assert loaded.place == "p.yaml:2"
    assert (policy.name, policy.version, policy.description) == ("whole", 3, "All there is")
    match = policy.match
    assert (match.entity_type, match.labels, match.scope) == (EntityType.NODE, {"rack": "r1"}, "site-a")
    assert (str(match.scheduler_domain), str(match.workload_type)) == ("slurm", "llm_serving")
    assert match.health == (HealthState.DEGRADED, HealthState.CRITICAL)
    assert (policy.when, policy.for_s, policy.min_confidence) == ("disk_utilization > 0.9", 90.0, 0.5)
    assert (policy.max_staleness_s, policy.expires_after_s) == (120.0, 1800.0)
    assert (policy.action.name, policy.action.parameters) == ("drain_or_avoid_node", {"grace": 5})
    assert (policy.risk, policy.priority, policy.mode) == (Risk.HIGH, 100, PolicyMode.CONTROLLED_AUTO_ACT)
    limits = policy.limits
    assert (limits.cooldown_s, limits.window_s, limits.max_count, limits.max_share) == (
        300.0,
        3600.0,
        2,
        0.25,
    )
    assert (limits.failure_domain, limits.capacity_floor, limits.breaker_failures) == ("rack", 0.5, 3)
    assert (policy.approvals, policy.enabled) == (2, False)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": ""}, "a policy has name"),
        ({"match": ""}, "a policy has match"),
        ({"when": ""}, "a policy has when"),
        ({"action": ""}, "a policy has action"),
        ({"name": "7"}, "name is a text"),
        ({"name": "x" * 129}, "1 to 128 characters"),
        ({"version": "0"}, "version is a whole number, 1 or more"),
        ({"version": "true"}, "version is a whole number"),
        ({"version": "99999999999"}, "version is a whole number"),
        ({"description": "[a]"}, "description is a text"),
        ({"match": "node"}, "match is a mapping"),
        ({"match": "{scope: a}"}, "match has entity_type"),
        ({"match": "{entity_type: nod}"}, "did you mean node"),
        ({"match": "{entity_type: node, scop: a}"}, "did you mean scope"),
        ({"match": "{entity_type: node, labels: rack}"}, "labels is a mapping"),
        ({"match": "{entity_type: node, labels: {rack: 7}}"}, "rack is a text"),
        ({"match": "{entity_type: node, scope: 7}"}, "scope is a text"),
        ({"match": "{entity_type: node, scheduler_domain: slrm}"}, "did you mean slurm"),
        ({"match": "{entity_type: node, workload_type: llm_servin}"}, "did you mean llm_serving"),
        ({"match": "{entity_type: node, health: [degarded]}"}, "did you mean degraded"),
        ({"when": "7"}, "when is a text"),
        ({"when": "disk_utilization >"}, "expected"),
        ({"when": "disk_utilisation > 0.9"}, "did you mean disk_utilization"),
        ({"when": "resource.statu == 'a'"}, "did you mean status"),
        ({"when": "entity.disk_utilisation > 0.9"}, "did you mean disk_utilization"),
        ({"when": "entity > 0.9"}, "can't be read of a node"),
        ({"for_": "soon"}, "for: "),
        ({"for_": "-1"}, "for: "),
        ({"for_": "true"}, "for is a duration"),
        ({"min_confidence": "101%"}, "min_confidence is a share"),
        ({"min_confidence": "-0.1"}, "min_confidence is a share"),
        ({"min_confidence": ".nan"}, ""),
        ({"max_staleness": "0s"}, "max_staleness is more than zero"),
        ({"action": "{parameters: {}}"}, "action has name"),
        ({"action": "{name: a, parameter: {}}"}, "did you mean parameters"),
        ({"action": "{name: a, parameters: 7}"}, "parameters is a mapping"),
        ({"action": "[a]"}, "action is a text"),
        ({"action": "{name: a}", "parameters": "{}"}, "not in both"),
        ({"risk": "hihg"}, "did you mean high"),
        ({"priority": "101"}, "priority is a whole number from 0 to 100"),
        ({"priority": "-1"}, "priority is a whole number"),
        ({"mode": "auto"}, "observe_only"),
        ({"mode": "controlled_auto_act"}, "max_count or limits.max_share"),
        ({"limits": "7"}, "limits is a mapping"),
        ({"limits": "{cooldwn: 5m}"}, "did you mean cooldown"),
        ({"limits": "{cooldown: often}"}, "cooldown: "),
        ({"limits": "{window: 0s, max_count: 1}"}, "window is more than zero"),
        ({"limits": "{max_count: 1}"}, "need window"),
        ({"limits": "{max_count: 1.5, window: 1h}"}, "max_count is a whole number"),
        ({"limits": "{max_share: 2, window: 1h}"}, "max_share is a share"),
        ({"limits": "{failure_domain: 7}"}, "failure_domain is a text"),
        ({"limits": "{capacity_floor: 120%}"}, "capacity_floor is a share"),
        ({"limits": "{breaker_failures: 0}"}, "breaker_failures is a whole number, 1 or more"),
        ({"approvals": "many"}, "approvals is a whole number"),
        ({"reason": "'{disk_utilisation}'"}, "did you mean disk_utilization"),
        ({"reason": "'{resource.statu}'"}, "did you mean status"),
        ({"reason": "7"}, "reason is a text"),
        ({"expires_after": "0"}, "expires_after is more than zero"),
        ({"enabled": "yes"}, "enabled is true or false"),
        ({"whne": "x"}, "did you mean when"),
        ({"colour": "red"}, "the keys are name, version"),
    ],
    ids=str,
)
def test_what_a_key_may_not_be_is_said_with_its_place(keys: dict[str, str], said: str) -> None:
    text = text_of(**keys)
    reading = read_policies(text, "p.yaml")
    assert reading.policies == ()
    (problem,) = reading.problems
    assert said in problem.detail
    assert (problem.file, problem.column > 0) == ("p.yaml", True)
    lines = text.splitlines()
    key = next((key.rstrip("_") for key, value in reversed(keys.items()) if value), "")
    wanted = next((n for n, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
    whole = said in ("1 to 128 characters", "max_count or limits.max_share", "need window")
    assert problem.line == (1 if whole else wanted)
    assert f"p.yaml:{problem.line}:" in problem.detail


def test_an_expressions_error_names_line_and_column_in_the_file() -> None:
    (problem,) = read_policies(text_of(when="  1 + > 2"), "p.yaml").problems
    assert (problem.line, problem.column) == (3, 13)
    (quoted,) = read_policies(text_of(when='"cpu_utilizatio > 1"'), "p.yaml").problems
    assert (quoted.line, quoted.column) == (3, 8)


@pytest.mark.parametrize(
    "text", ["", "7", "policies: 7", "policies: []\nmore: 1", "a: [", "[7]", "policies: [[]]", "a: 1\na: 2"]
)
def test_a_text_that_is_no_policy_is_a_problem_and_no_error(text: str) -> None:
    reading = read_policies(text, "p.yaml")
    assert reading.policies == ()
    assert len(reading.problems) == 1
    assert reading.problems[0].detail


def test_a_name_stands_once_and_the_first_stays() -> None:
    twice = "- {{name: p, match: {{entity_type: node}}, when: 'true', action: {}}}\n"
    reading = read_policies(twice.format("a") + twice.format("b"), "p.yaml")
    assert [one.policy.action.name for one in reading.policies] == ["a"]
    assert [(one.line, "there twice" in one.detail) for one in reading.problems] == [(2, True)]


def test_a_file_has_so_many_policies_and_no_more() -> None:
    one = "- {{name: p{}, match: {{entity_type: node}}, when: 'true', action: a}}\n"
    full = "".join(one.format(n) for n in range(POLICIES_MAX))
    assert len(read_policies(full, "p.yaml").policies) == POLICIES_MAX
    reading = read_policies(full + one.format("x"), "p.yaml")
    assert reading.policies == ()
    assert f"at most {POLICIES_MAX}" in reading.problems[0].detail


def test_the_digest_follows_what_is_said_and_not_how() -> None:
    digests = [
        read_policies(text, "p.yaml").policies[0].digest
        for text in (text_of(), "# a word\n" + text_of(), text_of(priority="51"))
    ]
    assert digests[0] == digests[1] != digests[2]


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    read_policies(text, "p.yaml")
    read_policies(text_of(when=text or "x"), "p.yaml")


def test_each_key_has_its_heading_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "policies.md").read_text()
    headings = set(re.findall(r"^### `([^`]+)`", page, re.MULTILINE))
    keys = {*KEYS, *(f"match.{key}" for key in MATCH_KEYS), *(f"limits.{key}" for key in LIMIT_KEYS)}
    assert headings >= keys | {f"action.{key}" for key in ACTION_KEYS}
