"""Field declarations, and what may stand in a field."""

from __future__ import annotations

import typing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from struct_instances import typed_fields

from steersman.kinds.entity import (
    ENTITY_CLASSES,
    CanonicalEntity,
    EntityType,
    SchedulerDomainType,
    WorkloadType,
)
from steersman.kinds.fields import (
    ALIASES,
    FIELDS,
    ITEMS_MAX,
    NUMBER_MAX,
    WORD_ALIASES,
    canonical_name,
    check_fields,
    clean_fields,
    domain_of,
    expected_fields,
    workload_of,
)
from steersman.kinds.fragment import NAME_MAX_CHARS, TEXT_MAX_CHARS

SEED_FIELDS = {
    EntityType.SERVICE: {
        "latency_p95_ms": float,
        "latency_p99_ms": float,
        "throughput": float,
        "queue_depth": int,
        "error_rate": float,
    },
    EntityType.DEPLOYMENT: {
        "replica_count": int,
        "available_replicas": int,
        "desired_replicas": int,
        "cpu_utilization": float,
        "memory_utilization": float,
    },
    EntityType.GPU: {
        "gpu_utilization": float,
        "gpu_memory_used": int,
        "temperature_celsius": float,
        "ecc_errors": int,
    },
    EntityType.NODE: {"cpu_utilization": float, "memory_utilization": float, "gpu_count": int},
    EntityType.JOB: {"job_state": str, "assigned_gpu_count": int, "gpu_utilization": float},
}


def test_every_type_has_specs_with_a_meaning_and_a_known_pace():
    assert set(FIELDS) == set(EntityType)
    assert len(EntityType) == 12
    for specs in FIELDS.values():
        for name, spec in specs.items():
            assert spec.name == name
            assert spec.description
            assert spec.pace in {"volatile", "slow", "static", "event"}
            assert spec.type in {float, int, str, bool, datetime, list, dict}


@pytest.mark.parametrize("entity_type", list(EntityType))
def test_every_type_expects_something_so_that_coverage_means_something(entity_type: EntityType):
    assert expected_fields(entity_type)
    assert set(expected_fields(entity_type)) <= set(FIELDS[entity_type])


@pytest.mark.parametrize("entity_type", list(SEED_FIELDS))
def test_the_fields_of_the_canonical_model_are_declared(entity_type: EntityType):
    for name, kind in SEED_FIELDS[entity_type].items():
        assert FIELDS[entity_type][name].type is kind


def test_no_declared_field_hides_a_common_one_or_an_alias():
    for entity_type, specs in FIELDS.items():
        assert not set(specs) & set(CanonicalEntity.__struct_fields__)
        for alias, name in ALIASES[entity_type].items():
            assert alias not in specs
            assert name in specs


def test_vocabularies_hold_unknown_and_the_words_that_aliases_point_to():
    for specs in FIELDS.values():
        for spec in specs.values():
            if spec.words:
                assert "unknown" in spec.words
                assert set(WORD_ALIASES.get(spec.name, {}).values()) <= set(spec.words)


def test_shares_are_bounded_and_counts_are_not_negative():
    assert FIELDS[EntityType.SERVICE]["error_rate"].high == 1
    assert FIELDS[EntityType.DEPLOYMENT]["cpu_utilization"].high is None
    assert FIELDS[EntityType.SERVICE]["queue_depth"].low == 0
    assert FIELDS[EntityType.JOB]["exit_code"].low is None


CASES: list[tuple[EntityType, str, Any, Any]] = [
    (EntityType.SERVICE, "latency_p95_ms", 142.0, 142.0),
    (EntityType.SERVICE, "latency_p95_ms", 142, 142),
    (EntityType.SERVICE, "queue_depth", 46, 46),
    (EntityType.SERVICE, "queue_depth", 46.0, 46),
    (EntityType.SERVICE, "error_rate", 1.0, 1.0),
    (EntityType.SERVICE, "error_rate", 0, 0),
    (EntityType.SERVICE, "error_rate", 1.0000000002, 1),
    (EntityType.GPU, "temperature_celsius", -40.0, -40.0),
    (EntityType.JOB, "exit_code", -9, -9),
    (EntityType.SERVICE, "up", False, False),
    (EntityType.SERVICE, "url", "http://x", "http://x"),
    (EntityType.JOB, "job_state", "running", "running"),
    (EntityType.JOB, "job_state", "RUNNING", "running"),
    (EntityType.JOB, "job_state", "canceled", "cancelled"),
    (EntityType.SCHEDULER_DOMAIN, "domain_type", "managed_cloud", "cloud_managed"),
    (EntityType.SERVICE, "last_success_at", "2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
    (EntityType.SERVICE, "last_success_at", "2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)),
    (EntityType.SERVICE, "last_success_at", "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
    (EntityType.SERVICE, "last_success_at", datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),  # noqa: DTZ001
    (EntityType.GPU, "throttle_reasons", ["sw_power_cap"], ["sw_power_cap"]),
    (EntityType.GPU, "throttle_reasons", ("sw_power_cap",), ["sw_power_cap"]),
    (EntityType.NODE, "disks", {"/": 0.5}, {"/": 0.5}),
    (EntityType.NODE, "not_declared", {"a": [1, None, True]}, {"a": [1, None, True]}),
    (EntityType.NODE, "scheduler_domain", "slurm", "slurm"),
    (EntityType.NODE, "health_state", "healthy", "healthy"),
]


@pytest.mark.parametrize(("entity_type", "name", "given_value", "read"), CASES)
def test_accepted_values(entity_type: EntityType, name: str, given_value: Any, read: Any):
    clean = clean_fields(entity_type, {name: given_value})
    assert clean.problems == ()
    assert clean.drift == ()
    assert clean.fields == {name: read}
    assert type(clean.fields[name]) is type(read)


REFUSED: list[tuple[EntityType, str, Any, str]] = [
    (EntityType.SERVICE, "latency_p95_ms", "142", "number"),
    (EntityType.SERVICE, "latency_p95_ms", True, "number"),
    (EntityType.SERVICE, "latency_p95_ms", -1.0, "at least 0"),
    (EntityType.SERVICE, "latency_p95_ms", float("nan"), "number"),
    (EntityType.SERVICE, "latency_p95_ms", float("inf"), "number"),
    (EntityType.SERVICE, "latency_p95_ms", 10**400, "number"),
    (EntityType.SERVICE, "queue_depth", 4.5, "whole number"),
    (EntityType.SERVICE, "queue_depth", True, "whole number"),
    (EntityType.SERVICE, "queue_depth", -1, "at least 0"),
    (EntityType.SERVICE, "queue_depth", NUMBER_MAX + 1, "whole number"),
    (EntityType.SERVICE, "error_rate", 45.0, "from 0 to 1"),
    (EntityType.GPU, "gpu_memory_used", 0.45, "whole number"),
    (EntityType.GPU, "temperature_celsius", -300, "at least -273.15"),
    (EntityType.SERVICE, "up", 1, "true or false"),
    (EntityType.SERVICE, "url", 7, "text"),
    (EntityType.SERVICE, "url", "x" * (TEXT_MAX_CHARS + 1), "characters"),
    (EntityType.SERVICE, "last_success_at", 1767225600, "ISO 8601"),
    (EntityType.SERVICE, "last_success_at", "yesterday", "ISO 8601"),
    (EntityType.SERVICE, "last_success_at", "0001-01-01T00:00:00+14:00", "years 1 to 9999"),
    (EntityType.GPU, "throttle_reasons", "sw_power_cap", "list of texts"),
    (EntityType.GPU, "throttle_reasons", [1], "list of texts"),
    (EntityType.GPU, "throttle_reasons", ["x"] * (ITEMS_MAX + 1), "items"),
    (EntityType.NODE, "disks", {"/": "full"}, "numbers"),
    (EntityType.NODE, "disks", {"/": float("nan")}, "numbers"),
    (EntityType.NODE, "disks", [0.5], "mapping"),
    (EntityType.NODE, "disks", {str(i): 0 for i in range(ITEMS_MAX + 1)}, "items"),
    (EntityType.NODE, "custom", object(), "JSON value"),
    (EntityType.NODE, "custom", 2**64, "63 bits"),
    (EntityType.NODE, "custom", "x" * (TEXT_MAX_CHARS + 1), "characters"),
    (EntityType.NODE, "custom", [[[[[1]]]]], "nesting"),
    (EntityType.NODE, "custom", {1: 2}, "names"),
    (EntityType.NODE, "custom", [0] * (ITEMS_MAX + 1), "items"),
    (EntityType.NODE, "n" * (NAME_MAX_CHARS + 1), 1, "name"),
    (EntityType.NODE, "", 1, "name"),
]


@pytest.mark.parametrize(("entity_type", "name", "value", "says"), REFUSED)
def test_refused_values_name_the_field_and_what_was_expected(
    entity_type: EntityType, name: str, value: Any, says: str
):
    (problem,) = check_fields(entity_type, {name: value})
    assert problem.field == name[:NAME_MAX_CHARS]
    assert says in problem.detail
    assert len(str(problem)) < 300


def test_an_unknown_word_is_kept_as_unknown_and_reported_as_drift():
    clean = clean_fields(EntityType.JOB, {"job_state": "REVOKED_BY_MOON"})
    assert clean.fields == {"job_state": "unknown"}
    assert clean.drift == ("job_state: unknown word 'REVOKED_BY_MOON'",)
    assert clean.problems == ()


def test_a_bad_field_does_not_take_the_good_ones_with_it():
    clean = clean_fields(EntityType.SERVICE, {"error_rate": 7.0, "queue_depth": 3})
    assert clean.fields == {"queue_depth": 3}
    assert [problem.field for problem in clean.problems] == ["error_rate"]


def test_fields_that_need_no_change_are_handed_back_uncopied():
    fields = {"latency_p95_ms": 1.0, "queue_depth": 1, "up": True, "service_state": "active", "other": [1]}
    assert clean_fields(EntityType.SERVICE, fields).fields is fields
    plain = {"latency_p95_ms": 1.0, "queue_depth": 1, "up": True, "service_state": "active", "url": "u"}
    assert clean_fields(EntityType.SERVICE, plain).fields is plain


def test_the_callers_dict_is_never_changed():
    fields = {"queue_depth": 3.0, "replicas": 2}
    assert clean_fields(EntityType.SERVICE, fields).fields == {"queue_depth": 3, "replica_count": 2}
    assert fields == {"queue_depth": 3.0, "replicas": 2}


def test_an_alias_is_renamed_unless_the_canonical_name_is_there_too():
    both = clean_fields(EntityType.SERVICE, {"replicas": 5, "replica_count": 2})
    assert both.fields == {"replicas": 5, "replica_count": 2}
    assert both.problems == ()


def test_a_name_that_is_cleared_may_be_an_alias():
    assert canonical_name(EntityType.SERVICE, "replicas") == "replica_count"
    assert canonical_name(EntityType.SERVICE, "replica_count") == "replica_count"
    assert canonical_name(EntityType.SERVICE, "colour") == "colour"


def test_of_two_aliases_of_one_field_the_first_counts():
    clean = clean_fields(EntityType.SERVICE, {"current_replicas": 3, "replicas": 5})
    assert clean.fields == {"replica_count": 3, "replicas": 5}


def test_a_problem_under_an_alias_is_told_under_the_name_that_was_sent():
    (problem,) = check_fields(EntityType.SERVICE, {"replicas": -1})
    assert problem.field == "replicas"


def test_common_names_come_from_fields_then_labels():
    labels = {"scheduler_domain": "slurm", "workload_type": "hpc_research"}
    assert domain_of({}, labels) is SchedulerDomainType.SLURM
    assert domain_of({"scheduler_domain": "k8s"}, labels) is SchedulerDomainType.KUBERNETES
    assert domain_of({}, {}) is SchedulerDomainType.UNKNOWN
    assert domain_of({"scheduler_domain": ["slurm"]}, {}) is SchedulerDomainType.UNKNOWN
    assert domain_of({"scheduler_domain": SchedulerDomainType.SLURM}, {}) is SchedulerDomainType.SLURM
    assert domain_of({}, {"scheduler_domain": "ray"}) is SchedulerDomainType.UNKNOWN
    assert domain_of({}, {"scheduler_domain": "managed_cloud"}) is SchedulerDomainType.CLOUD_MANAGED
    assert workload_of({}, labels) is WorkloadType.HPC_RESEARCH
    assert workload_of({"workload_type": "cloud_managed"}, labels) is WorkloadType.MANAGED_CLOUD
    assert workload_of({}, {}) is WorkloadType.UNKNOWN


@given(typed_fields())
def test_whatever_fits_its_declaration_is_accepted_and_makes_an_entity(
    case: tuple[EntityType, dict[str, Any]],
):
    """Accepted fields build the entity, and the entity survives its own schema's strict decoder."""
    entity_type, fields = case
    clean = clean_fields(entity_type, fields)
    assert clean.problems == ()
    assert clean.fields == fields
    cls = ENTITY_CLASSES[entity_type]
    entity = cls(
        entity_id="x", entity_type=entity_type, observed_at=datetime(2026, 1, 1, tzinfo=UTC), **clean.fields
    )
    assert msgspec.json.decode(msgspec.json.encode(entity), type=cls) == entity


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(EntityType), st.dictionaries(st.text(max_size=20), _json, max_size=5), st.data())
def test_anything_may_be_sent_and_what_is_accepted_can_be_stored(
    entity_type: EntityType, fields: dict[str, Any], data: st.DataObject
):
    """No value raises; each field is either accepted or named; cleaning is idempotent; the rest encodes."""
    names = sorted({*FIELDS[entity_type], *ALIASES[entity_type], "scheduler_domain", "workload_type"})
    for name in data.draw(st.lists(st.sampled_from(names), max_size=4)):
        fields[name] = data.draw(_json)
    clean = clean_fields(entity_type, fields)
    assert len(clean.fields) + len(clean.problems) == len(fields)
    if not clean.problems:  # an alias may come into its own once the canonical field was refused
        again = clean_fields(entity_type, clean.fields)
        assert again.fields is clean.fields
        assert again.problems == ()
    msgspec.json.encode(clean.fields)
    msgspec.msgpack.encode(clean.fields)


def test_times_of_any_offset_become_utc():
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    read = clean_fields(EntityType.NODE, {"booted_at": east}).fields["booted_at"]
    assert read == datetime(2026, 1, 1, tzinfo=UTC)
    assert read.tzinfo is UTC


def test_every_annotation_of_an_entity_class_is_read():
    for entity_type, cls in ENTITY_CLASSES.items():
        own = set(typing.get_type_hints(cls)) - set(typing.get_type_hints(CanonicalEntity))
        assert own == set(FIELDS[entity_type])


@pytest.mark.parametrize(
    "fields",
    [
        {"note": "\udcff"},
        {"note": ["\udcff"]},
        {"note": {"\udcff": 1}},
        {"\udcff": 1},
        {"command": "\ud800"},
        {"job_state": "run\ud800ning"},
    ],
)
def test_half_of_a_character_stands_in_no_field_and_is_told_in_whole_ones(fields: dict[str, Any]):
    (problem,) = check_fields(EntityType.JOB, fields)
    str(problem).encode()


def test_half_of_a_character_stands_in_no_list_or_mapping_of_a_declared_field():
    assert check_fields(EntityType.GPU, {"throttle_reasons": ["\udcff"]})
    assert check_fields(EntityType.TENANT_SCOPE, {"resource_usage": {"\udcff": 1.0}})
