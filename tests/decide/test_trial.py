"""What policies would say, and which of two sets says more; and which signals nobody collects."""

from __future__ import annotations

from decide_house import Watched, policy

from steersman.decide import coverage, try_policies
from steersman.kinds.axes import Truth
from steersman.kinds.entity import EntityType


def test_a_trial_waits_for_nothing_and_leaves_other_types_out() -> None:
    made = Watched()
    made.say(disk_utilization=0.95)
    rules = [policy(for_="1h"), policy("gpu_utilization > 0.5", match="entity_type: gpu")]
    ((told,),) = try_policies(rules, [made.seen()], made.clock.now())
    assert (told.entity_type, told.entity_id, told.truth) == ("node", "n1", Truth.TRUE)
    assert (told.action, [one.field for one in told.facts_read]) == ("a", ["disk_utilization"])
    ((blind,),) = try_policies([policy("load_1m > 3.0")], [made.seen()], made.clock.now())
    assert (blind.truth, blind.action, blind.reason) == (Truth.UNKNOWN, "", "")
    assert blind.facts_missing[0].field == "load_1m"


def test_what_a_policy_does_not_match_is_not_told() -> None:
    made = Watched()
    made.say(disk_utilization=0.95)
    elsewhere = policy(match="entity_type: node, scope: elsewhere")
    assert list(try_policies([elsewhere], [made.seen()], made.clock.now())) == [()]


def test_coverage_counts_fields_and_not_what_every_entity_has() -> None:
    rules = [
        policy("disk_utilization > 0.9 || entity.load_1m > 3.0"),
        policy('labels.rack == "r1" && resource.status == "in_service" && health == "critical"'),
        policy("gpu_utilization > 0.5", match="entity_type: gpu"),
    ]
    some, none, gpu = coverage(rules, {EntityType.NODE: {"load_1m"}})
    assert (some.reads, some.missing, some.blind) == (
        ("disk_utilization", "load_1m"), ("disk_utilization",), False,
    )  # fmt: skip
    assert (none.reads, none.missing, none.blind) == ((), (), False)
    assert (gpu.missing, gpu.blind) == (("gpu_utilization",), True)


def test_a_rule_that_needs_what_nobody_collects_can_never_fire() -> None:
    rules = [
        policy("disk_utilization > 0.9 && load_1m > 3.0"),
        policy("disk_utilization > 0.9 || (load_1m > 3.0 && cpu_utilization > 0.5)"),
    ]
    both, either = coverage(rules, {EntityType.NODE: {"load_1m", "cpu_utilization"}})
    assert (both.missing, both.blind) == (("disk_utilization",), True)
    assert (either.missing, either.blind) == (("disk_utilization",), False)
