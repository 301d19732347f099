"""Evictions: a pod is deleted as far as its disruption budget allows.

Constants: kubernetes/pkg/registry/core/pod/storage/eviction.go.
"""

from __future__ import annotations

from steersman.drivers.kubernetes.fake.catalogue import Kind
from steersman.drivers.kubernetes.fake.objects import Objects
from steersman.drivers.kubernetes.fake.refusal import Refusal, success
from steersman.drivers.kubernetes.fake.selectors import labels_of
from steersman.drivers.kubernetes.fake.tree import Object, items, part
from steersman.drivers.kubernetes.shapes import ObjectKey

UNPROCESSED_RETRY_S = 10
"""What the server says to wait for while the budget's controller has not seen its newest spec."""


def evict(
    objects: Objects, pods: Kind, budgets: Kind | None, key: ObjectKey, body: Object, *, dry: bool
) -> Object:
    """Evict a pod. Raises `Refusal`: 404, 409 for another uid, 429 where the budget does not allow it."""
    options: Object = part(body, "deleteOptions")
    dry = dry or "All" in items(options, "dryRun")
    name = part(body, "metadata").get("name", key[1])
    if name != key[1]:
        raise Refusal("BadRequest", "name in URL does not match name in Eviction object")
    pod = objects.delete(pods, key, options, dry=True)  # a precondition that fails costs the budget nothing
    if not _leaves_anyway(pod) and budgets is not None:
        found = [
            budget
            for budget in objects.storage.all("poddisruptionbudgets")
            if budget["metadata"].get("namespace") == key[0]
            and labels_of(part(budget, "spec").get("selector"))(pod)
        ]
        if len(found) > 1:
            raise Refusal(
                "InternalError",
                "This pod has more than one PodDisruptionBudget, "
                "which the eviction subresource does not support.",
            )
        if found:
            _take(objects, budgets, found[0], pod, dry=dry)
    objects.delete(pods, key, options, dry=dry)
    return success()


def _leaves_anyway(pod: Object) -> bool:
    phase = part(pod, "status").get("phase")
    return phase in ("Pending", "Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def _take(objects: Objects, budgets: Kind, budget: Object, pod: Object, *, dry: bool) -> None:
    """One disruption of the budget's. Raises `Refusal` (429)."""
    spec: Object = part(budget, "spec")
    status: Object = part(budget, "status")
    meta: Object = budget["metadata"]
    if status.get("observedGeneration", 0) < meta.get("generation", 1):
        raise _too_many(meta["name"], "is still being processed by the server.", UNPROCESSED_RETRY_S)
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if not _ready(pod):
        policy = spec.get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
        if policy == "AlwaysAllow" or (healthy >= desired and desired > 0):
            return
    if status.get("disruptionsAllowed", 0) <= 0:
        raise _too_many(meta["name"], f"needs {desired} healthy pods and has {healthy} currently", None)
    if dry:
        return
    gone = {**part(status, "disruptedPods"), pod["metadata"]["name"]: objects.now()}
    changed = {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1, "disruptedPods": gone}
    objects.update(
        budgets,
        (meta["namespace"], meta["name"]),
        lambda old: {**old, "status": changed},
        subresource="status",
    )


def _too_many(budget: str, why: str, retry_after_s: int | None) -> Refusal:
    return Refusal(
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
        details={
            "causes": [{"reason": "DisruptionBudget", "message": f"The disruption budget {budget} {why}"}]
        },
        retry_after_s=retry_after_s,
    )


def _ready(pod: Object) -> bool:
    conditions = items(part(pod, "status"), "conditions")
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
