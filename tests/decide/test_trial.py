"""What policies would say, and which of two sets says more; and which signals nobody collects."""

from __future__ import annotations

from datetime import datetime

from decide_house import Watched, policy

from steersman.decide import compare, coverage, try_policies
from steersman.kinds.axes import Truth
from steersman.kinds.deciding import Seen
from steersman.kinds.entity import EntityType


def test_a_trial_waits_for_nothing_and_leaves_other_types_out() -> None:
    made = Watched()
    made.say(disk_utilization=0.95)
    rules = [policy(for_="1h"), policy("gpu_utilization > 0.5", match="entity_type: gpu")]
    (told,) = try_policies(rules, [made.seen()], made.clock.now())
    assert (told.entity, told.truth, told.recommendation is not None) == ("node/n1", Truth.TRUE, True)
    (blind,) = try_policies([policy("load_1m > 3.0")], [made.seen()], made.clock.now())
    assert (blind.truth, blind.recommendation) == (Truth.UNKNOWN, None)
    assert blind.facts_missing[0].field == "load_1m"


def test_two_sets_differ_where_only_one_proposes() -> None:
    made = Watched()
    history: list[tuple[datetime, list[Seen]]] = []
    for disk in (0.5, 0.85, 0.95, 0.5):
        made.clock.advance(10)
        made.say(disk_utilization=disk)
        history.append((made.clock.now(), [made.seen()]))
    strict, loose = policy("disk_utilization > 0.9"), policy("disk_utilization > 0.8")
    assert compare([strict], [strict], history) == []
    (difference,) = compare([strict], [loose], history)
    assert (difference.side, difference.at) == ("after", history[1][0])
    (other_way,) = compare([loose], [strict], history)
    assert other_way.side == "before"


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
