"""What all canonical entities are made of: their types, identity, health words, and how a field is declared.

`kinds.entity` has the twelve types and offers these names too; import from there.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple

from msgspec import Meta, Struct, field


class EntityType(StrEnum):
    """The twelve kinds of canonical entity."""

    SERVICE = "service"
    DEPLOYMENT = "deployment"
    GPU = "gpu"
    NODE = "node"
    JOB = "job"
    QUEUE = "queue"
    MODEL_REVISION = "model_revision"
    SCHEDULER_DOMAIN = "scheduler_domain"
    TENANT_SCOPE = "tenant_scope"
    EXPERIMENT_TRACKER = "experiment_tracker"
    DATA_PIPELINE_STAGE = "data_pipeline_stage"
    CONFIG_SNAPSHOT = "config_snapshot"

    __hash__ = str.__hash__
    """A text's own, in C: Enum's is a function in Python, and tables by type are read for every fragment."""


class HealthState(StrEnum):
    """How well an entity does, and what that means for policy (beside each member)."""

    HEALTHY = "healthy"  # operating normally: no action
    WARNING = "warning"  # early signs: watch more closely
    DEGRADED = "degraded"  # performance suffers: recommend corrective action
    CRITICAL = "critical"  # needs attention at once: urgent recommendation
    UNKNOWN = "unknown"  # not enough data: confidence is low


class SchedulerDomainType(StrEnum):
    """What schedules work onto an entity. `managed_cloud` is accepted as another spelling."""

    KUBERNETES = "kubernetes"
    SLURM = "slurm"
    CLOUD_MANAGED = "cloud_managed"
    STANDALONE = "standalone"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> SchedulerDomainType | None:
        return cls.CLOUD_MANAGED if value == "managed_cloud" else None


class WorkloadType(StrEnum):
    """What kind of work an entity carries."""

    ONLINE_INFERENCE = "online_inference"
    BATCH_INFERENCE = "batch_inference"
    LLM_SERVING = "llm_serving"
    DISTRIBUTED_TRAINING = "distributed_training"
    HPC_RESEARCH = "hpc_research"
    MANAGED_CLOUD = "managed_cloud"
    UNKNOWN = "unknown"


class EntityKey(NamedTuple):
    """What makes two fragments speak of one entity: type, scope (the `cluster` label) and id."""

    entity_type: EntityType
    scope: str
    entity_id: str

    def __str__(self) -> str:
        place = f"{self.scope}/" if self.scope else ""
        return f"{self.entity_type.value}/{place}{self.entity_id}"


class HealthReason(Struct, frozen=True):
    """One line of why an entity has its health: the rule that spoke, what it read, what it concluded."""

    rule: str
    health: HealthState
    detail: str


VOLATILE = "volatile"
"""True now, perhaps not in a minute: its age is measured against the source's cadence."""
SLOW = "slow"
"""Changes over minutes to hours (a replica count): ages more slowly than a volatile field."""
STATIC = "static"
"""A fact of the thing (a model name): never stale by age, only by the silence of its source."""
EVENT = "event"
"""The last of something that happened: its age is news in itself and never makes the entity stale."""


SHARE_NEAR = 0.05
"""Of a share's whole: two samplers of one machine that hardly works may see 1 % and 4 %, which is no news."""


def meaning(
    doc: str,
    unit: str = "",
    pace: str = VOLATILE,
    *,
    expected: bool = False,
    low: float | None = 0,
    high: float | None = None,
    words: tuple[str, ...] = (),
    refers: EntityType | None = None,
    near: float | None = None,
    own: bool = False,
) -> Meta:
    """A field's meaning, unit, pace, and whether every working source of its type reports it.

    `low` and `high` bound a number (unless said otherwise it is not negative); they are None where there is
    no bound, and say nothing of other types. `words` are the canonical values of a text that has a fixed
    vocabulary; another word becomes `unknown` when fields are cleaned. `refers`: the value names an entity of
    that type in the same scope. `near`: numbers no further apart than this say the same, for the agreement of
    sources; `SHARE_NEAR` for a share unless said otherwise. `own`: each source speaks of its own part of the
    thing (a scheduler of what it gave out), so that two differ is no disagreement.
    """
    if near is None:
        near = SHARE_NEAR * high if high is not None and unit in ("1", "%") else 0.0
    facts: dict[str, Any] = {"x-unit": unit, "x-pace": pace, "x-expected": expected}
    facts |= {"x-low": low, "x-high": high, "x-words": words}
    if refers is not None:
        facts["x-refers"] = refers.value
    if near:
        facts["x-near"] = near
    if own:
        facts["x-own"] = True
    return Meta(description=doc, extra_json_schema=facts)


class CanonicalEntity(Struct, frozen=True, kw_only=True):
    """What all entities share. `extra` holds fields that the type does not declare; they are never dropped.

    `observed_at` is the newest observation of any field. `revision` is the bus revision of the last change:
    larger means later, across all entities. `deleted_at` is set on a tombstone: the entity is gone, and
    what is shown was its last state. Where it was found to be the same thing as another, `merged_into` is the
    id of that one, and all that was said of it counts there.
    """

    TYPE: ClassVar[EntityType]

    entity_id: str
    entity_type: EntityType
    scope: str = ""
    source_type: str = ""
    scheduler_domain: SchedulerDomainType = SchedulerDomainType.UNKNOWN
    workload_type: WorkloadType = WorkloadType.UNKNOWN
    health_state: HealthState = HealthState.UNKNOWN
    health_reasons: tuple[HealthReason, ...] = ()
    confidence_score: Annotated[float, Meta(ge=0, le=1)] = 0.0
    freshness: str = "expired"
    observed_at: datetime
    deleted_at: datetime | None = None
    merged_into: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    sources: tuple[str, ...] = ()
    revision: int = 0
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> EntityKey:
        """This entity's identity."""
        return EntityKey(self.entity_type, self.scope, self.entity_id)
