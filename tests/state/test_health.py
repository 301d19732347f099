"""Health tables: their language, their cover of the twelve types, and what unknown means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from bus_facts import GPU, JOB, NODE, SERVICE, START, declare, said, world
from hypothesis import given
from hypothesis import strategies as st

from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.explanation import HealthVerdict
from steersman.kinds.fields import FIELDS
from steersman.state.health.table import (
    Comparison,
    Entry,
    Planned,
    Rule,
    Table,
    check_of,
    may_hold,
    problems,
    table_for,
)
from steersman.state.health.verdict import health_of

CRITICAL, DEGRADED, WARNING = HealthState.CRITICAL, HealthState.DEGRADED, HealthState.WARNING
HEALTHY, UNKNOWN = HealthState.HEALTHY, HealthState.UNKNOWN

RULES = [(kind, rule) for kind in EntityType for rule in table_for(kind).rules]
PLANNED = [(kind, entry) for kind in EntityType for entry in table_for(kind).planned]


def verdict(kind: EntityType, **signals: Any) -> HealthVerdict:
    return health_of(kind, signals, START)


def rules(found: HealthVerdict) -> list[str]:
    return [reason.rule for reason in found.reasons]


def satisfying(entry: Entry) -> dict[str, Any]:
    """Signals under which the entry's conditions hold."""
    signals: dict[str, Any] = {}
    for test in (*entry.all, *entry.any[:1]):
        number = next((n for n in (test.gt, test.ge, test.lt, test.le) if n is not None), None)
        if test.contains is not None:
            signals.setdefault(test.field, f"it is {test.contains[-1].lower()} indeed")
        elif test.keys:
            signals[test.field] = {test.keys[-1]: number, "other": 1.0}
        elif test.beyond is not None:
            signals[test.field] = [test.beyond[0], "none of these"]
        elif test.lt_field is not None:
            signals[test.field], signals[test.lt_field] = 1, 2
        elif test.ne_field is not None:
            signals[test.field], signals[test.ne_field] = "x", "y"
        elif test.older_than_s is not None:
            signals[test.field] = START - timedelta(seconds=test.older_than_s + 1)
        elif test.older_than_field is not None:
            signals[test.field], signals[test.older_than_field] = START - timedelta(seconds=61), 60.0
        elif test.share_of is not None:
            low = int(1000 * test.lt) - 1 if test.lt is not None else int(1000 * (test.gt or 0)) + 1
            signals[test.share_of], signals[test.field] = 1000, max(1, low)
        elif number is not None:
            signals.setdefault(test.field, number + (test.gt is not None) - 0.01 * (test.lt is not None))
        elif test.words is not None:
            signals[test.field] = f"IDLE+{test.words[-1].lower()}"
        elif test.in_ is not None:
            signals[test.field] = test.in_[-1]
        elif test.has is not None:
            signals[test.field] = ["other", test.has[-1]]
        else:
            signals[test.field] = test.eq if test.eq is not None else 1
    return signals


@pytest.mark.parametrize("kind", EntityType)
def test_each_type_has_a_table_that_says_when_it_is_healthy(kind: EntityType) -> None:
    table = table_for(kind)
    assert table.version >= 1
    assert table.evidence, "without evidence nothing could be called healthy"
    assert verdict(kind).health is UNKNOWN, "knowing nothing is not health"
    assert verdict(kind, health_state="healthy").health is HEALTHY, "its source's own word counts"


@pytest.mark.parametrize(("kind", "rule"), RULES, ids=lambda v: v.name if isinstance(v, Rule) else str(v))
def test_each_rule_can_speak_and_gives_its_health_and_reason(kind: EntityType, rule: Rule) -> None:
    found = health_of(kind, satisfying(rule), START)
    (reason,) = [reason for reason in found.reasons if reason.rule == rule.name]
    assert reason.health is rule.health
    assert "{" not in reason.detail


@pytest.mark.parametrize(("kind", "rule"), RULES, ids=lambda v: v.name if isinstance(v, Rule) else str(v))
def test_a_rule_without_its_signals_is_unjudged_and_says_which_are_missing(
    kind: EntityType, rule: Rule
) -> None:
    found = health_of(kind, {}, START)
    assert found.unjudged[rule.name] == rule.fields()
    assert rule.name not in rules(found)


@pytest.mark.parametrize(
    ("kind", "entry"), PLANNED, ids=lambda v: v.name if isinstance(v, Planned) else str(v)
)
def test_a_planned_state_is_a_condition_and_no_ill_health(kind: EntityType, entry: Planned) -> None:
    found = health_of(kind, {"health_state": "healthy"} | satisfying(entry), START)
    assert entry.name in [condition.name for condition in found.conditions]
    assert found.health is (UNKNOWN if entry.unknown else HEALTHY)


def test_rule_names_are_fit_to_be_documented() -> None:
    for _, rule in RULES:
        assert rule.name.replace("_", "").isalpha()
        assert rule.detail


# ---- the deep ones


@pytest.mark.parametrize(
    ("state", "health", "planned"),
    [
        ("IDLE", HEALTHY, []),
        ("ALLOCATED", HEALTHY, []),
        ("MIXED+PLANNED", HEALTHY, []),
        ("IDLE+COMPLETING", HEALTHY, []),
        ("idle+drain", HEALTHY, ["draining"]),
        ("MIXED+DRAIN", HEALTHY, ["draining"]),
        ("MAINTENANCE", HEALTHY, ["maintenance"]),
        ("IDLE+RESERVED", HEALTHY, ["maintenance"]),
        ("DOWN+MAINTENANCE", HEALTHY, ["maintenance"]),
        ("IDLE+REBOOT_REQUESTED", HEALTHY, ["rebooting"]),
        ("DOWN", CRITICAL, []),
        ("DOWN*", CRITICAL, []),
        ("DOWN+DRAIN", CRITICAL, ["draining"]),
        ("ALLOCATED+FAIL", CRITICAL, []),
        ("IDLE+INVALID_REG", CRITICAL, []),
        ("IDLE+NOT_RESPONDING", DEGRADED, []),
        ("DOWN+NOT_RESPONDING", CRITICAL, []),
        ("IDLE+POWERED_DOWN", UNKNOWN, ["powered_down"]),
        ("IDLE+CLOUD+POWERING_UP", UNKNOWN, ["powered_down"]),
        ("FUTURE", UNKNOWN, ["powered_down"]),
        ("UNKNOWN", UNKNOWN, []),
    ],
)
def test_a_nodes_scheduler_states(state: str, health: HealthState, planned: list[str]) -> None:
    found = verdict(NODE, scheduler_state=state)
    assert (found.health, [c.name for c in found.conditions]) == (health, planned)


def test_a_cordon_is_a_condition_and_hides_no_fault() -> None:
    assert verdict(NODE, schedulable=False, cpu_utilization=0.1).health is HEALTHY
    found = verdict(NODE, schedulable=False, scheduler_state="NotReady")
    assert found.health is CRITICAL
    assert [c.name for c in found.conditions] == ["not_schedulable"]


def test_a_busy_node_is_not_an_ill_one() -> None:
    assert verdict(NODE, cpu_utilization=1.0, load_1m=500.0).health is HEALTHY


@pytest.mark.parametrize(
    ("signals", "health"),
    [
        ({"disk_utilization": 0.86}, WARNING),
        ({"disk_utilization": 0.92}, DEGRADED),
        ({"disk_utilization": 0.98}, CRITICAL),
        ({"memory_utilization": 0.95}, WARNING),
        ({"memory_pressure_full": 0.7}, CRITICAL),
        ({"network_error_rate": 0.02}, WARNING),
        ({"memory_utilization": 0.95, "disk_utilization": 0.98}, CRITICAL),
    ],
)
def test_a_nodes_thresholds_and_the_worst_rule_counts(signals: dict[str, Any], health: HealthState) -> None:
    assert verdict(NODE, **signals).health is health


def test_a_gpu_without_ecc_counters_is_not_judged_on_them() -> None:
    """Absent is not zero: DCGM does not export the ECC counters by default."""
    found = verdict(GPU, gpu_utilization=0.5)
    assert found.health is HEALTHY
    assert found.unjudged["ecc_uncorrected"] == ("ecc_errors",)
    assert "ecc_uncorrected" not in verdict(GPU, gpu_utilization=0.5, ecc_errors=0).unjudged


def test_the_drivers_own_verdict_stands_above_single_counters() -> None:
    assert verdict(GPU, ecc_errors=1).health is CRITICAL
    assert verdict(GPU, ecc_errors=1, recovery_action="none").health is DEGRADED
    assert verdict(GPU, ecc_errors=1, recovery_action="gpu_reset").health is CRITICAL
    assert verdict(GPU, recovery_action="drain_p2p").health is WARNING


def test_a_sticky_xid_alone_is_no_more_than_a_warning() -> None:
    """Checklist 14: the gauge keeps its last code, so its age is not known."""
    assert verdict(GPU, xid=79, gpu_utilization=0.1).health is WARNING
    assert verdict(GPU, xid=79, gpu_utilization=0.1, recovery_action="none").health is HEALTHY
    assert verdict(GPU, xid=31, gpu_utilization=0.1).health is HEALTHY, "an application's fault"


def test_an_idle_clock_is_no_throttling() -> None:
    assert verdict(GPU, gpu_utilization=0.0, throttle_reasons=["gpu_idle"]).health is HEALTHY
    assert verdict(GPU, gpu_utilization=1.0, throttle_reasons=["hw_thermal_slowdown"]).health is DEGRADED


def test_a_service_scaled_to_zero_is_idle_not_down() -> None:
    """Checklist 12: nothing desired, nothing there."""
    found = verdict(SERVICE, desired_replicas=0, available_replicas=0, up=False)
    assert (found.health, [c.name for c in found.conditions]) == (HEALTHY, ["scaled_to_zero"])
    assert verdict(SERVICE, desired_replicas=2, available_replicas=0).health is CRITICAL
    assert verdict(SERVICE, desired_replicas=2, available_replicas=1).health is DEGRADED
    assert verdict(SERVICE, available_replicas=0).health is HEALTHY, "without a wish there is no shortfall"


def test_a_service_without_traffic_is_not_judged_on_errors() -> None:
    """Checklist 17: a histogram with no traffic says nothing."""
    found = verdict(SERVICE, up=True)
    assert found.health is HEALTHY
    assert {"errors_most", "errors_many", "errors_some"} <= found.unjudged.keys()


def test_a_cancelled_job_is_somebodys_wish_and_a_failed_one_is_not() -> None:
    assert verdict(JOB, job_state="cancelled", exit_code=143).health is HEALTHY
    assert verdict(JOB, job_state="failed", exit_code=1).health is CRITICAL
    assert verdict(JOB, job_state="completed", exit_code=0).health is HEALTHY
    assert verdict(JOB, job_state="completed", exit_code=2).health is DEGRADED
    assert verdict(JOB, job_state="unknown").health is UNKNOWN


def test_a_config_snapshots_drift_by_word_or_by_hash() -> None:
    kind = EntityType.CONFIG_SNAPSHOT
    assert verdict(kind, config_hash="sha256:a").health is HEALTHY
    assert verdict(kind, config_hash="sha256:a", baseline_hash="sha256:b").health is WARNING
    assert verdict(kind, drift=True).health is WARNING
    assert rules(verdict(kind, present=False, drift=True)) == ["missing"]


def test_a_dead_run_that_its_tracker_calls_running_is_noticed() -> None:
    kind = EntityType.EXPERIMENT_TRACKER
    old, new = START - timedelta(hours=1), START - timedelta(seconds=5)
    assert verdict(kind, run_state="RUNNING", heartbeat_at=old).health is WARNING
    assert verdict(kind, run_state="RUNNING", heartbeat_at=new).health is HEALTHY
    assert verdict(kind, run_state="FINISHED", heartbeat_at=old).health is HEALTHY


def test_reasons_are_told_worst_first() -> None:
    found = verdict(NODE, disk_utilization=0.98, memory_utilization=0.95)
    assert rules(found) == ["disk_full", "disk_nearly_full", "memory_nearly_full", "disk_filling"]


def test_why_an_entity_is_unknown_names_the_signal() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), entity_type=JOB, job_state="running"))
    clock.advance(200)
    entity = bus.get(JOB, "n1")
    assert entity is not None
    (reason,) = entity.health_reasons
    assert (reason.health, reason.detail) == (UNKNOWN, "job_state is stale")


# ---- the language


def entry(**parts: Any) -> Rule:
    return Rule(name="r", detail="d", health=WARNING, **parts)


A, B = Comparison("cpu_utilization", gt=0.5), Comparison("memory_utilization", gt=0.5)
tri = st.sampled_from([True, False, None])


@given(st.lists(tri, min_size=1, max_size=3), st.lists(tri, max_size=3), st.lists(tri, max_size=2))
def test_conditions_join_three_valued(
    alls: list[bool | None], anys: list[bool | None], nones: list[bool | None]
) -> None:
    """Kleene's logic: unknown gives way to what decides without it, and to nothing else."""
    values = [*alls, *anys, *nones]
    tests = [Comparison(f"f{i}", eq=1) for i in range(len(values))]
    signals = {f"f{i}": int(v) for i, v in enumerate(values) if v is not None}
    made = entry(
        all=tuple(tests[: len(alls)]),
        any=tuple(tests[len(alls) : len(alls) + len(anys)]),
        unless=tuple(tests[len(alls) + len(anys) :]),
    )
    expected: bool | None = False if False in alls else None if None in alls else True
    if anys and expected is not False:
        some: bool | None = True if True in anys else None if None in anys else False
        expected = some if some is not True else expected
    if True in nones:
        expected = False
    assert check_of(made)(signals, START) is expected
    assert may_hold(made, frozenset(signals)) or expected is not True, "no name rules out what holds"


@pytest.mark.parametrize(
    ("test", "value", "answer"),
    [
        (Comparison("x", gt=1), "many", None),
        (Comparison("x", words=("DOWN",)), 5, None),
        (Comparison("x", older_than_s=5), "yesterday", None),
        (Comparison("x", older_than_field="x"), START, None),
        (Comparison("x", has=("a",)), 5, None),
        (Comparison("x", words=("DOWN",)), "POWERED_DOWN", False),
        (Comparison("x", words=("down",)), "Down*", True),
    ],
)
def test_a_value_of_another_type_is_unknown_never_a_crash(
    test: Comparison, value: Any, answer: bool | None
) -> None:
    assert check_of(entry(all=(test,)))({"x": value}, START) is answer


def test_entries_about_fields_that_are_not_known_are_not_tried() -> None:
    made = entry(
        all=(Comparison("x", share_of="y", gt=1),), any=(Comparison("a", eq=1), Comparison("b", eq=1))
    )
    assert may_hold(made, frozenset("xyb"))
    assert not may_hold(made, frozenset("xab"))
    assert not may_hold(made, frozenset("xy"))


@given(
    st.lists(st.permutations(["gpu_utilization", "temperature_celsius", "lost", "model_name"]), max_size=3)
)
def test_the_order_in_which_fields_come_changes_no_verdict(orders: list[list[str]]) -> None:
    signals: dict[str, Any] = {"gpu_utilization": 0.5, "temperature_celsius": 99.0, "lost": True}
    signals["model_name"] = "NVIDIA H100"
    wanted = health_of(GPU, signals, START)
    assert all(health_of(GPU, {n: signals[n] for n in order}, START) == wanted for order in orders)


def test_a_share_of_nothing_is_unknown() -> None:
    check = check_of(entry(all=(Comparison("x", share_of="y", lt=0.5),)))
    assert check({"x": 0, "y": 0}, START) is None
    assert check({"x": 1}, START) is None
    assert check({"x": 1, "y": 4}, START) is True


def test_a_value_is_never_read_as_a_template() -> None:
    found = verdict(NODE, scheduler_state="DOWN {scheduler_state} {0} {", cpu_utilization=0.1)
    assert found.reasons[0].detail == "its scheduler says DOWN {scheduler_state} {0} {"


def test_what_is_wrong_with_a_table_is_named() -> None:
    table = Table(
        entity_type=NODE,
        version=1,
        evidence=(("no_such",),),
        rules=(
            entry(all=(Comparison("nonsense", eq=1),)),
            entry(all=(Comparison("load_1m"),)),
            Rule(name="s", detail="d", health=WARNING),
            Rule(name="t", detail="d", health=WARNING, all=(A,), unless_planned=("never",)),
        ),
    )
    found = "\n".join(problems(table, NODE))
    for part in (
        "r: given twice",
        "r: no field 'nonsense'",
        "load_1m: exactly one comparison",
        "s: has no condition",
        "t: no planned state 'never'",
        "evidence: no field 'no_such'",
    ):
        assert part in found
    assert problems(table_for(NODE), GPU)[0] == "is for node"


def test_tables_speak_only_of_fields_their_type_has() -> None:
    for kind in EntityType:
        assert problems(table_for(kind), kind) == []
        assert all(name in FIELDS[kind] for group in table_for(kind).evidence for name in group)


# ---- what must never be called healthy


@pytest.mark.parametrize("word", ["great", "failed", "", "HEALTH", 42, True, ["critical"]])
def test_a_reported_word_that_is_no_health_is_no_evidence_of_it(word: object) -> None:
    found = verdict(GPU, health_state=word)
    assert (found.health, rules(found)) == (UNKNOWN, ["reported_not_understood"])
    assert verdict(GPU, health_state=word, gpu_utilization=0.5).health is UNKNOWN


@pytest.mark.parametrize(
    ("word", "health"),
    [("Critical", CRITICAL), ("WARNING", WARNING), ("Healthy", HEALTHY), ("Unknown", UNKNOWN)],
)
def test_the_case_of_a_reported_word_does_not_matter(word: str, health: HealthState) -> None:
    assert verdict(GPU, health_state=word).health is health


def test_a_fault_does_not_end_because_its_witness_fell_silent() -> None:
    bus, clock = world()
    declare(bus, "slurm")
    declare(bus, "host")
    bus.put(said(clock.now(), "slurm", scheduler_state="DOWN"))
    for _ in range(40):
        bus.put(said(clock.now(), "host", cpu_utilization=0.1, memory_utilization=0.1, gpu_count=0))
        clock.advance(10)
    node = bus.get(NODE, "n1")
    assert node is not None
    assert node.health_state is UNKNOWN
    assert [r.rule for r in node.health_reasons] == ["fault_not_seen_gone"]
    assert node.health_reasons[0].detail == "scheduler_state is stale; its last word: its scheduler says DOWN"
    bus.put(said(clock.now(), "slurm", scheduler_state="IDLE"))
    node = bus.get(NODE, "n1")
    assert node is not None
    assert node.health_state is HEALTHY


def test_a_fault_that_is_cleared_is_over() -> None:
    bus, clock = world()
    bus.put(said(clock.now(), "slurm", scheduler_state="DOWN"))
    clock.advance(600)
    bus.put(said(clock.now(), "slurm", clear=("scheduler_state",)))
    bus.put(said(clock.now(), "host", cpu_utilization=0.1))
    node = bus.get(NODE, "n1")
    assert node is not None
    assert node.health_state is HEALTHY


def test_the_last_word_is_judged_with_the_planned_state_that_it_told_of() -> None:
    found = health_of(
        NODE,
        {"load_1m": 1.0},
        START,
        {"scheduler_state": "stale"},
        {"load_1m": 1.0, "scheduler_state": "DOWN+MAINT"},
    )
    assert found.health is HEALTHY


def test_what_never_ages_is_no_evidence_of_health() -> None:
    bus, clock = world()
    scope = EntityType.TENANT_SCOPE
    bus.put(said(clock.now(), "a", "t", scope, scope_type="namespace", resource_usage={"cpu": 1.0}))
    for _ in range(120):
        clock.advance(60)
        bus.put(said(clock.now(), "a", "other", scope, scope_type="namespace"))
    entity = bus.get(scope, "t")
    assert entity is not None
    assert entity.health_state is UNKNOWN
    table = Table(entity_type=scope, version=1, evidence=(("scope_type",),), rules=())
    assert problems(table, scope) == ["evidence: scope_type never ages, so it tells nothing of health"]


@pytest.mark.parametrize("kind", list(EntityType), ids=str)
def test_what_was_pushed_once_by_a_source_that_promised_nothing_is_unknown_ten_minutes_later(
    kind: EntityType,
) -> None:
    words: dict[type, Any] = {float: 0.5, int: 1, str: "x", bool: True, list: ["x"], dict: {"x": 1.0}}
    bus, clock = world()
    fields: Any = {
        name: spec.words[0] if spec.words else words.get(spec.type, START)
        for name, spec in FIELDS[kind].items()
    }
    bus.put(said(clock.now(), "push", "e", kind, **fields))
    clock.advance(600)
    entity = bus.get(kind, "e")
    assert entity is not None
    assert (entity.health_state, entity.confidence_score) == (UNKNOWN, 0.0)
    assert entity.freshness != "fresh"


def test_a_witness_that_goes_on_speaking_and_leaves_the_field_out_has_said_that_it_is_over() -> None:
    """No request, no error rate: absent is neither zero nor a source that is down."""
    bus, clock = world()
    declare(bus, "probe")
    bus.put(said(clock.now(), "probe", entity_type=SERVICE, up=True, error_rate=0.6))
    healths: list[HealthState] = []
    for _ in range(10):
        clock.advance(10)
        bus.put(said(clock.now(), "probe", entity_type=SERVICE, up=True))
        entity = bus.get(SERVICE, "n1")
        assert entity is not None
        healths.append(entity.health_state)
    assert (healths[0], healths[-1]) == (CRITICAL, HEALTHY)


# ---- what people read


@pytest.mark.parametrize(
    ("kind", "signals", "detail"),
    [
        (JOB, {"job_state": "failed"}, "it failed"),
        (JOB, {"job_state": "failed", "exit_code": 137}, "it failed (exit code 137)"),
        (NODE, {"memory_utilization": 0.985}, "memory in use 98.5 %: the next allocation may end a process"),
        (NODE, {"disk_utilization": 1}, "the fullest file system is at 100 %"),
        (
            GPU,
            {"throttle_reasons": ["hw_thermal_slowdown", "sw_power_cap"]},
            "clocks are held down: hw_thermal_slowdown, sw_power_cap",
        ),
        (GPU, {"temperature_celsius": 94.5}, "it is at 94.5 °C"),
        (SERVICE, {"up": True, "error_rate": 0.123456}, "12.35 % of requests failed"),
        (
            EntityType.EXPERIMENT_TRACKER,
            {"run_state": "RUNNING", "heartbeat_at": START - timedelta(hours=1)},
            "it is said to run; its last sign of life was at 2026-03-01T11:00:00Z",
        ),
    ],
    ids=str,
)
def test_reasons_are_sentences_for_people(kind: EntityType, signals: dict[str, Any], detail: str) -> None:
    assert health_of(kind, signals, START).reasons[0].detail == detail


def test_a_detail_may_name_outside_of_brackets_only_what_is_there() -> None:
    rule = Rule(
        name="r",
        detail="{load_1m}[ of {load_5m}] {cpu_count}",
        health=WARNING,
        all=(Comparison("load_1m", gt=1),),
    )
    table = Table(entity_type=NODE, version=1, evidence=(), rules=(rule,))
    assert problems(table, NODE) == ["r: its detail names 'cpu_count', which may be missing"]


@pytest.mark.parametrize(
    ("state", "ago_s", "bound_s", "rule", "health"),
    [
        ("RUNNING", 3000, 7200, "no_fault_seen", HEALTHY),
        ("RUNNING", 7300, 7200, "silent", WARNING),
        ("running", 61, 60, "silent", WARNING),
        ("RUNNING", 599, None, "no_fault_seen", HEALTHY),
        ("RUNNING", 601, None, "no_sign_of_life", WARNING),
        ("FINISHED", 90_000, 60, "no_fault_seen", HEALTHY),
        ("SCHEDULED", 90_000, 60, "no_fault_seen", HEALTHY),
        ("crashed", 5, 60, "failed", HealthState.CRITICAL),
    ],
)
def test_a_run_that_is_said_to_run_is_silent_by_the_bound_of_its_source(
    state: str, ago_s: int, bound_s: int | None, rule: str, health: HealthState
) -> None:
    signals: dict[str, Any] = {"run_state": state, "heartbeat_at": START - timedelta(seconds=ago_s)}
    if bound_s is not None:
        signals["heartbeat_timeout_s"] = float(bound_s)
    found = verdict(EntityType.EXPERIMENT_TRACKER, **signals)
    assert (rules(found)[0], found.health) == (rule, health)


@pytest.mark.parametrize(
    ("signals", "health", "rule"),
    [
        ({"scheduler_state": "Ready", "problems": ["GpuMemWatch"]}, CRITICAL, "gpu_fault"),
        ({"scheduler_state": "Ready", "node_conditions": ["Ready", "DiskPressure"]}, DEGRADED, "agent_fault"),
        ({"scheduler_state": "Ready", "problems": ["NetworkUnavailable"]}, CRITICAL, "network_unavailable"),
        ({"scheduler_state": "Ready", "problems": ["PIDPressure"]}, WARNING, "agent_warning"),
        ({"scheduler_state": "Ready", "problems": ["OfOurOwnMaking"]}, HEALTHY, "no_fault_seen"),
        ({"scheduler_state": "Ready", "gpu_count": 7, "gpu_capacity": 8}, DEGRADED, "gpus_missing"),
        ({"scheduler_state": "Ready", "drain_intent": "automatic"}, DEGRADED, "taken_out"),
        (
            {"scheduler_state": "Ready", "drain_intent": "planned", "schedulable": False},
            HEALTHY,
            "no_fault_seen",
        ),
        ({"scheduler_state": "Unknown"}, UNKNOWN, "scheduler_does_not_know"),
        ({"scheduler_state": "Unknown", "scheduler_flags": ["Lost"]}, CRITICAL, "scheduler_lost_it"),
        ({"scheduler_state": "NotReady"}, CRITICAL, "scheduler_says_down"),
    ],
)
def test_what_kubernetes_and_its_monitors_say_of_a_node(
    signals: dict[str, Any], health: HealthState, rule: str
) -> None:
    found = verdict(NODE, **signals)
    assert (found.health, found.reasons[0].rule) == (health, rule)


def test_replicas_that_crash_are_ill_health_of_their_deployment_and_an_ended_job_is_not_judged_by_them() -> (
    None
):
    crash = {"problems": ["CrashLoopBackOff"]}
    assert (
        verdict(EntityType.DEPLOYMENT, available_replicas=2, desired_replicas=2, **crash).health is DEGRADED
    )
    assert verdict(JOB, job_state="running", problems=["OOMKilled"]).health is WARNING
    assert verdict(JOB, job_state="completed", **crash).health is HEALTHY
    assert verdict(JOB, job_state="suspended", **crash).health is HEALTHY


@pytest.mark.parametrize(
    ("signals", "health"),
    [
        ({"kv_cache_utilization": 0.99, "queue_depth": 0}, HealthState.HEALTHY),  # full and nobody waits
        ({"kv_cache_utilization": 0.99, "queue_depth": 4}, HealthState.WARNING),
        ({"preemptions_per_second": 0.05}, HealthState.HEALTHY),
        ({"preemptions_per_second": 2.0}, HealthState.WARNING),
        ({"heartbeat_age_seconds": 5.0}, HealthState.HEALTHY),
        ({"heartbeat_age_seconds": 90.0}, HealthState.DEGRADED),
    ],
)
def test_a_model_server_and_a_scheduler_at_their_limits(signals: dict[str, Any], health: HealthState) -> None:
    assert verdict(EntityType.SERVICE, up=True, **signals).health is health


@pytest.mark.parametrize(
    ("state", "silent_s", "health"),
    [
        ("IDLE+NOT_RESPONDING", 299, DEGRADED),
        ("IDLE+NOT_RESPONDING", 301, CRITICAL),
        ("IDLE+NOT_RESPONDING+REBOOT_ISSUED", 301, HEALTHY),
        ("IDLE+NOT_RESPONDING+POWERED_DOWN", 301, UNKNOWN),
        ("IDLE", 301, HEALTHY),
    ],
)
def test_a_node_that_long_gives_its_scheduler_no_answer_is_lost(
    state: str, silent_s: float, health: HealthState
) -> None:
    heard = START - timedelta(seconds=silent_s)
    assert verdict(NODE, scheduler_state=state, heartbeat_at=heard, cpu_utilization=0.1).health is health


@pytest.mark.parametrize(
    ("reason", "intent", "health"),
    [
        ("NHC: check_hw_physmem:  Actual RAM size 250 GiB", "automatic", CRITICAL),
        ("NHC: check_nvsmi_healthmon: GPU 3", "automatic", CRITICAL),
        ("xid 79 on GPU 3", "automatic", CRITICAL),
        ("xid 79 on GPU 3", "planned", HEALTHY),
        ("NHC: check_fs_mount: /scratch not mounted", "automatic", DEGRADED),
    ],
)
def test_a_drain_for_faulty_hardware_is_critical(reason: str, intent: str, health: HealthState) -> None:
    found = verdict(
        NODE, scheduler_state="IDLE+DRAIN", drain_reason=reason, drain_intent=intent, cpu_utilization=0.1
    )
    assert found.health is health
