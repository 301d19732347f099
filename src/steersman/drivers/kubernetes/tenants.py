"""From a Namespace and its ResourceQuotas to the `tenant_scope` entity. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from steersman.drivers.kubernetes.fact import Fact, Keep, common, present
from steersman.drivers.kubernetes.objects import Namespace, QuotaSpec, QuotaStatus, ResourceQuota
from steersman.drivers.kubernetes.quantity import amounts
from steersman.kinds.entity import EntityType


def tenant_fact(
    name: str, namespace: Namespace | None, quotas: Iterable[ResourceQuota], active: int | None, keep: Keep
) -> Fact:
    """A namespace: what it may use, what it uses, and how many jobs and services it runs. Resources have
    their names of the quota (`requests.nvidia.com/gpu`)."""
    may: dict[str, float] = {}
    does: dict[str, float] = {}
    for quota in sorted(quotas, key=lambda one: one.metadata.name):
        _merge(quota, may, does)
    meta = namespace.metadata if namespace is not None else None
    status = namespace.status if namespace is not None else None
    fields: dict[str, Any] = {
        **(common(meta) if meta is not None else {"scheduler_domain": "kubernetes"}),
        "scope_type": "namespace",
        "resource_quota": may,
        "resource_usage": does,
        "active_workloads": active,
        "phase": status.phase if status is not None else None,
    }
    return Fact(EntityType.TENANT_SCOPE, name, present(fields), keep.of(meta) if meta is not None else {})


def _merge(quota: ResourceQuota, may: dict[str, float], does: dict[str, float]) -> None:
    """Of several quotas the tightest holds, with its own use. One that counts only some pods is no bound on
    all of them: its resources stand under its name."""
    spec, status = quota.spec or QuotaSpec(), quota.status or QuotaStatus()
    hard, used = amounts(status.hard), amounts(status.used)
    scoped = bool(spec.scopes or spec.scope_selector)
    for resource, limit in hard.items():
        name = f"{quota.metadata.name}/{resource}" if scoped else resource
        if name in may and may[name] <= limit:
            continue
        may[name] = limit
        does.pop(name, None)
        if resource in used:
            does[name] = used[resource]
