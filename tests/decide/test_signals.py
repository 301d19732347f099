"""Silence is no answer: with a signal that can't be told a policy neither fires nor denies."""

from __future__ import annotations

import msgspec
import pytest
from decide_house import Watched

from steersman.kinds.axes import Condition, Truth

OPERATIONS = """
{} > 0.5 | {} >= 0.5 | {} < 0.5 | {} <= 0.5 | {} == 0.5 | {} != 0.5 | {} in [0.5] | !({} in [0.5])
{} + 1.0 > 0.0 | {} - 1.0 < 9.0 | {} * 0.0 == 0.0 | {} / 2.0 < 9.0 | -{} < 9.0 | string({}) != ""
int({}) >= 0 | double({}) >= 0.0 | [{}].exists(x, x >= 0.0) | [{}].all(x, x >= 0.0) | size([{}]) == 1
[{}].filter(x, x > 0.0) == [] | [{}].map(x, x) != [] | [{}].exists_one(x, x >= 0.0) | !({} > 0.5)
{} > 0.5 ? true : true | {} > 0.5 && true | {} > 0.5 ? false : true
"""


def silent(how: str) -> Watched:
    """A node of which cpu_utilization can't be told."""
    made = Watched()
    if how != "never said":
        made.say("slurm", cpu_utilization=0.7)
    made.say(disk_utilization=0.2, memory_utilization=0.2)
    match how:
        case "cleared":
            made.clock.advance(1)
            made.say("slurm", clear=("cpu_utilization",))
        case "silent source":
            made.pass_time(120, memory_utilization=0.2, disk_utilization=0.2)
        case "failing source":
            made.pass_time(40, memory_utilization=0.2, disk_utilization=0.2)
            made.bus.report_source("slurm", False, "connection refused")
        case "everything expired":
            made.pass_time(3600)
        case _:
            pass
    return made


HOW = ("never said", "cleared", "silent source", "failing source", "everything expired")


@pytest.mark.parametrize("how", HOW)
def test_what_cannot_be_told_makes_no_rule_true_or_false(how: str) -> None:
    made = silent(how)
    wrong = [
        operation
        for line in OPERATIONS.strip().splitlines()
        for operation in line.split(" | ")
        for name in ("cpu_utilization", "entity.cpu_utilization")
        if made.truth(operation.format(name)) is not Truth.UNKNOWN
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("how", "why"),
    [("never said", "absent"), ("cleared", "absent"), ("silent source", "source_down"),
     ("failing source", "source_down"), ("everything expired", "source_down")],
)  # fmt: skip
def test_a_missing_fact_says_why(how: str, why: str) -> None:
    judged = silent(how).judge("cpu_utilization > 0.5")
    (fact,) = judged.facts_missing
    assert (fact.entity, fact.field, fact.why) == ("node/n1", "cpu_utilization", why)
    assert fact.detail
    assert f"cpu_utilization is {why}" in judged.why


def test_a_fact_carries_value_source_age_and_unit() -> None:
    made = Watched()
    made.say(disk_utilization=0.93, labels={"rack": "r1"})
    made.clock.advance(7)
    (disk, label) = made.judge('disk_utilization > 0.9 && labels.rack == "r1"').facts_read
    assert (disk.value, disk.source, disk.age_s, disk.unit) == (0.93, "host", 7.0, "1")
    assert (label.field, label.value, label.source) == ("labels.rack", "r1", "host")


def test_the_policys_bound_on_age_holds_for_each_signal_and_for_health() -> None:
    made = Watched()
    made.say(disk_utilization=0.95, cpu_utilization=0.1)
    made.clock.advance(15)
    for when in (
        "disk_utilization > 0.9",
        'health == "degraded"',
        'health_reasons != ["x"]',
        "size(planned) == 0",
    ):
        assert made.truth(when, max_staleness="15s") is Truth.TRUE, when
    made.clock.advance(1)
    for when in ("disk_utilization > 0.9", 'health == "degraded"', "size(health_reasons) > 0"):
        assert made.truth(when, max_staleness="15s") is Truth.UNKNOWN, when
    judged = made.judge("true", match="entity_type: node, health: [degraded]", max_staleness="15s")
    assert judged.truth is Truth.UNKNOWN
    assert [(fact.field, fact.why) for fact in judged.facts_missing] == [("health", "stale")]


def test_a_planned_state_is_not_over_because_its_scheduler_fell_silent() -> None:
    made = Watched()
    made.say(cpu_utilization=0.1)
    assert made.truth("size(planned) == 0") is Truth.TRUE
    made.say("slurm", scheduler_state="MAINT")
    assert made.truth('"maintenance" in planned') is Truth.TRUE
    made.pass_time(3600, cpu_utilization=0.1)
    for when in (
        '"maintenance" in planned',
        '!("maintenance" in planned)',
        "size(planned) == 0",
        "planned == []",
        "planned != []",
        'planned.all(p, p == "x")',
        'planned.exists(p, p == "x")',
        "[planned] == [[]]",
    ):
        judged = made.judge(when)
        assert judged.truth is Truth.UNKNOWN, when
        assert judged.facts_missing[0].field == "planned"
        assert "scheduler_state" in judged.facts_missing[0].detail
        msgspec.json.encode(judged)


def test_a_rule_of_health_that_can_not_be_judged_any_more_did_not_fall_silent() -> None:
    made = Watched()
    made.say("slurm", memory_utilization=0.5)
    made.say(disk_utilization=0.95, cpu_utilization=0.1)
    assert made.truth('"memory_full" in health_reasons') is Truth.FALSE
    made.pass_time(3600, disk_utilization=0.95, cpu_utilization=0.1)
    assert made.truth('"disk_nearly_full" in health_reasons') is Truth.TRUE, "what speaks is known"
    assert made.truth('"memory_full" in health_reasons') is Truth.UNKNOWN
    assert made.truth('!health_reasons.exists(rule, rule == "memory_full")') is Truth.UNKNOWN
    (read,) = made.judge("size(health_reasons) > 0").facts_read
    assert read.value == ["disk_nearly_full", "disk_filling"]


def test_fields_that_no_kind_declares_age_too() -> None:
    made = Watched()
    made.say("slurm", fans=2)
    made.say(cpu_utilization=0.1)
    for when in ("extra.fans == 2", 'extra["fa" + "ns"] == 2'):
        assert made.truth(when) is Truth.TRUE
    made.pass_time(100 * 3600, cpu_utilization=0.1)
    for when in ("extra.fans == 2", 'extra["fa" + "ns"] == 2', "size(extra) == 1", "extra.fans != 2"):
        assert made.truth(when) is Truth.UNKNOWN, when


def test_the_managed_node_and_its_conditions_are_read() -> None:
    made = Watched()
    made.say(cpu_utilization=0.1)
    assert made.truth('resource.status == "in_service"') is Truth.UNKNOWN, "nobody manages it"
    made.manage()
    assert made.truth('resource.status == "in_service" && resource.desired_status == ""') is Truth.TRUE
    assert made.truth("conditions.reachable") is Truth.UNKNOWN
    assert made.node is not None
    for status, truth in (
        (Truth.TRUE, Truth.TRUE),
        (Truth.FALSE, Truth.FALSE),
        (Truth.UNKNOWN, Truth.UNKNOWN),
    ):
        made.node.conditions = [
            Condition(
                type="reachable", status=status, reason="told", observed_at=made.clock.now(),
                source="host",
            ),
        ]  # fmt: skip
        assert made.truth("conditions.reachable") is truth


def test_who_asks_for_unknown_health_gets_it() -> None:
    made = Watched()
    made.say(hostname="n1")
    assert made.truth("true", match="entity_type: node, health: [unknown]") is Truth.TRUE
    assert made.truth("true", match="entity_type: node, health: [healthy]") is Truth.UNKNOWN
