"""Steersman: a state plane for AI infrastructure.

The names below are the public ones; everything else is importable and may change. They are loaded when they
are first used, so that `import steersman` costs next to nothing (a test holds that it loads no other module).
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing's own costs more to import than all of this module; checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from steersman.kinds.definition import (
        ResourceDefinition,
    )
    from steersman.kinds.entity import (
        CanonicalEntity,
        ConfigSnapshotEntity,
        DataPipelineStageEntity,
        DeploymentEntity,
        EntityType,
        ExperimentTrackerEntity,
        GPUEntity,
        HealthState,
        JobEntity,
        ModelRevisionEntity,
        NodeEntity,
        QueueEntity,
        SchedulerDomainEntity,
        SchedulerDomainType,
        ServiceEntity,
        TenantScopeEntity,
        WorkloadType,
    )
    from steersman.kinds.fragment import (
        StateFragment,
    )
    from steersman.kinds.lifecycle import (
        Lifecycle,
    )
    from steersman.kinds.phase import (
        LifecyclePhase,
        ManagedLifecycle,
    )
    from steersman.kinds.policy import (
        Policy,
        Recommendation,
    )
    from steersman.kinds.resource import (
        Host,
        Job,
        Node,
        PodInstance,
        Report,
        ResourceInstance,
        Session,
        SessionPart,
        TimedResource,
    )
    from steersman.kinds.routing import (
        LockHandle,
        ModelState,
        PoolState,
        ProviderState,
        SyncPolicy,
        SyncStatus,
        SystemState,
    )
    from steersman.kinds.state import (
        HostState,
        PodInstanceState,
        ResourceState,
        SessionPartState,
        SessionState,
        TimedResourceState,
    )
    from steersman.kinds.timeslot import (
        Timeslot,
    )
    from steersman.kinds.transition import (
        StateTransition,
    )
    from steersman.state.bus import (
        StateBus,
    )
    from steersman.state.outcome import (
        MergeOutcome,
    )

    __version__: str

_PUBLIC: dict[str, tuple[str, ...]] = {
    "steersman.kinds.entity": (
        "EntityType",
        "HealthState",
        "SchedulerDomainType",
        "WorkloadType",
        "CanonicalEntity",
        "ServiceEntity",
        "DeploymentEntity",
        "GPUEntity",
        "NodeEntity",
        "JobEntity",
        "QueueEntity",
        "ModelRevisionEntity",
        "SchedulerDomainEntity",
        "TenantScopeEntity",
        "ExperimentTrackerEntity",
        "DataPipelineStageEntity",
        "ConfigSnapshotEntity",
    ),
    "steersman.kinds.fragment": ("StateFragment",),
    "steersman.state.bus": ("StateBus",),
    "steersman.state.outcome": ("MergeOutcome",),
    "steersman.kinds.routing": (
        "SyncPolicy",
        "ModelState",
        "ProviderState",
        "PoolState",
        "SystemState",
        "LockHandle",
        "SyncStatus",
    ),
    "steersman.kinds.transition": ("StateTransition",),
    "steersman.kinds.lifecycle": ("Lifecycle",),
    "steersman.kinds.phase": (
        "LifecyclePhase",
        "ManagedLifecycle",
    ),
    "steersman.kinds.timeslot": ("Timeslot",),
    "steersman.kinds.definition": ("ResourceDefinition",),
    "steersman.kinds.resource": (
        "ResourceInstance",
        "TimedResource",
        "Session",
        "SessionPart",
        "PodInstance",
        "Host",
        "Job",
        "Report",
        "Node",
    ),
    "steersman.kinds.state": (
        "ResourceState",
        "TimedResourceState",
        "SessionState",
        "SessionPartState",
        "PodInstanceState",
        "HostState",
    ),
    "steersman.kinds.policy": (
        "Policy",
        "Recommendation",
    ),
}
"""The public names of each module."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [
    "CanonicalEntity",
    "ConfigSnapshotEntity",
    "DataPipelineStageEntity",
    "DeploymentEntity",
    "EntityType",
    "ExperimentTrackerEntity",
    "GPUEntity",
    "HealthState",
    "Host",
    "HostState",
    "Job",
    "JobEntity",
    "Lifecycle",
    "LifecyclePhase",
    "LockHandle",
    "ManagedLifecycle",
    "MergeOutcome",
    "ModelRevisionEntity",
    "ModelState",
    "Node",
    "NodeEntity",
    "PodInstance",
    "PodInstanceState",
    "Policy",
    "PoolState",
    "ProviderState",
    "QueueEntity",
    "Recommendation",
    "Report",
    "ResourceDefinition",
    "ResourceInstance",
    "ResourceState",
    "SchedulerDomainEntity",
    "SchedulerDomainType",
    "ServiceEntity",
    "Session",
    "SessionPart",
    "SessionPartState",
    "SessionState",
    "StateBus",
    "StateFragment",
    "StateTransition",
    "SyncPolicy",
    "SyncStatus",
    "SystemState",
    "TenantScopeEntity",
    "TimedResource",
    "TimedResourceState",
    "Timeslot",
    "WorkloadType",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'steersman' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # costs more than all of the rest

    try:
        return version("steersman")
    except PackageNotFoundError:
        return "0+unknown"  # run from a tree that was never installed
