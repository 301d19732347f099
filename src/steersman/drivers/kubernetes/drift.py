"""Words of the API that this driver does not know: one line each, with the word. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from steersman.drivers.kubernetes.addons import InferenceService, JobSet, Queue
from steersman.drivers.kubernetes.objects import Condition, Node
from steersman.drivers.kubernetes.pods import PodFacts

SHOWN_MAX_CHARS = 60

STATUSES = frozenset({"True", "False", "Unknown"})
EFFECTS = frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"})
PHASES = frozenset({"Pending", "Running", "Succeeded", "Failed", "Unknown"})
STOP_POLICIES = frozenset({"", "None", "Hold", "HoldAndDrain"})
TERMINAL_STATES = frozenset({"", "Completed", "Failed"})
TRANSITIONS = frozenset({"", "UpToDate", "InProgress", "BlockedByFailedLoad", "InvalidSpec"})
MODEL_STATES = frozenset({"", "Pending", "Standby", "Loading", "Loaded", "FailedToLoad"})
DEVICE_HEALTHS = frozenset({"Healthy", "Unhealthy", "Unknown"})


def drift_lines(kind: str, value: Any) -> list[str]:
    """What is odd about an object of that kind."""
    look = _LOOKS.get(kind)
    return list(dict.fromkeys(look(value))) if look is not None else []


def _odd(what: str, word: str | None, known: frozenset[str]) -> Iterable[str]:
    if word is not None and word not in known:
        yield f"{what}: unknown word {word[:SHOWN_MAX_CHARS]!r}"


def _conditions(what: str, conditions: list[Condition] | None) -> Iterable[str]:
    for one in conditions or []:
        yield from _odd(f"status of {what} condition {one.type[:SHOWN_MAX_CHARS]}", one.status, STATUSES)


def _node(node: Node) -> Iterable[str]:
    yield from _conditions("node", node.status.conditions if node.status else None)
    for taint in (node.spec.taints if node.spec else None) or []:
        yield from _odd("effect of a node's taint", taint.effect, EFFECTS)


def _pod(pod: PodFacts) -> Iterable[str]:
    yield from _odd("phase of a pod", pod.phase, PHASES)
    for device in pod.devices:
        yield from _odd("health of a pod's device", device.health, DEVICE_HEALTHS)


def _queue(queue: Queue) -> Iterable[str]:
    yield from _odd("stopPolicy of a queue", queue.spec.stop_policy if queue.spec else None, STOP_POLICIES)


def _jobset(item: JobSet) -> Iterable[str]:
    yield from _odd(
        "terminalState of a JobSet", item.status.terminal_state if item.status else None, TERMINAL_STATES
    )


def _inference(item: InferenceService) -> Iterable[str]:
    model = item.status.model_status if item.status else None
    if model is None:
        return
    yield from _odd("transitionStatus of an InferenceService", model.transition_status, TRANSITIONS)
    if model.states is not None:
        for word in (model.states.active_model_state, model.states.target_model_state):
            yield from _odd("state of an InferenceService's model", word, MODEL_STATES)


_LOOKS: dict[str, Callable[[Any], Iterable[str]]] = {
    "nodes": _node,
    "pods": _pod,
    "clusterqueues": _queue,
    "localqueues": _queue,
    "jobsets": _jobset,
    "inferenceservices": _inference,
}
