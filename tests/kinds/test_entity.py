"""The canonical model's vocabularies and classes, as published."""

from __future__ import annotations

import pytest

from steersman.kinds.entity import (
    ENTITY_CLASSES,
    CanonicalEntity,
    EntityKey,
    EntityType,
    HealthState,
    SchedulerDomainType,
    WorkloadType,
)


def test_the_twelve_types():
    assert [entity_type.value for entity_type in EntityType] == [
        "service",
        "deployment",
        "gpu",
        "node",
        "job",
        "queue",
        "model_revision",
        "scheduler_domain",
        "tenant_scope",
        "experiment_tracker",
        "data_pipeline_stage",
        "config_snapshot",
    ]
    assert set(ENTITY_CLASSES) == set(EntityType)
    assert len(set(ENTITY_CLASSES.values())) == 12


def test_health_states_and_domains_and_work():
    assert {state.value for state in HealthState} == {"healthy", "warning", "degraded", "critical", "unknown"}
    assert {domain.value for domain in SchedulerDomainType} == {
        "kubernetes",
        "slurm",
        "cloud_managed",
        "standalone",
        "unknown",
    }
    assert {work.value for work in WorkloadType} == {
        "online_inference",
        "batch_inference",
        "llm_serving",
        "distributed_training",
        "hpc_research",
        "managed_cloud",
        "unknown",
    }


def test_managed_cloud_is_another_spelling():
    assert SchedulerDomainType("managed_cloud") is SchedulerDomainType.CLOUD_MANAGED
    with pytest.raises(ValueError, match="ray"):
        SchedulerDomainType("ray")


def test_what_all_entities_are_drawn_with():
    assert {
        "entity_id",
        "entity_type",
        "source_type",
        "scheduler_domain",
        "workload_type",
        "health_state",
        "confidence_score",
        "observed_at",
    } <= set(CanonicalEntity.__struct_fields__)


@pytest.mark.parametrize("entity_type", list(EntityType))
def test_each_class_knows_its_type_and_is_named_for_it(entity_type: EntityType):
    cls = ENTITY_CLASSES[entity_type]
    assert cls.TYPE is entity_type
    assert issubclass(cls, CanonicalEntity)
    assert cls.__name__.lower() == entity_type.value.replace("_", "") + "entity"


def test_a_key_reads_as_a_path():
    assert str(EntityKey(EntityType.GPU, "hpc", "GPU-1")) == "gpu/hpc/GPU-1"
    assert str(EntityKey(EntityType.GPU, "", "GPU-1")) == "gpu/GPU-1"
