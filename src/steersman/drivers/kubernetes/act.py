"""What can be done to a cluster: the operations by name. See docs/reference/drivers/kubernetes.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from steersman.drivers.inputs import Inputs
from steersman.drivers.kubernetes.client import KubeClient
from steersman.drivers.kubernetes.drain import DrainSteps
from steersman.drivers.kubernetes.marks import CORDON_MARK, REASON_MARK, RESTARTED_MARK, TAINTS_MARK
from steersman.drivers.kubernetes.nodes import HYPERPOD, HYPERPOD_BAD, NVSENTINEL
from steersman.drivers.kubernetes.operation import (
    NAME_PATTERN,
    Change,
    EditSteps,
    Json,
    Refuse,
    Target,
    marks_of,
    part,
)
from steersman.drivers.kubernetes.ours import our_taints, taint_mark, why_not_our_cordon
from steersman.drivers.kubernetes.resources import DEPLOYMENTS, NODES, STATEFUL_SETS
from steersman.kernel.clock import Clock, iso_utc
from steersman.kinds.step import StepCall, StepHandler

REPLICAS_MAX = 10_000
"""More is a slip of the finger: a cluster has at most 150,000 pods."""
REASON_MAX_CHARS = 1000

NodeName = Annotated[str, Meta(pattern=NAME_PATTERN, max_length=253)]
Reason = Annotated[str, Meta(max_length=REASON_MAX_CHARS)]
TaintKey = Annotated[
    str, Meta(pattern="^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]
TaintValue = Annotated[str, Meta(pattern="^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class KubernetesOperations:
    """The operations on one cluster."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        edits = {
            "cordon": Cordon(),
            "uncordon": Uncordon(),
            "taint": AddTaint(clock),
            "untaint": RemoveTaint(),
            "scale": Scale(),
            "rollout_restart": RolloutRestart(clock),
        }
        self._handlers: dict[str, StepHandler] = {
            name: EditSteps(client, edit) for name, edit in edits.items()
        }
        self._handlers["drain"] = DrainSteps(client, clock, Cordon())

    def handlers(self) -> Mapping[str, StepHandler]:
        """By name."""
        return self._handlers


# ---- nodes


class CordonInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reason` is left on the node."""

    node: NodeName
    reason: Reason = ""


class Cordon:
    """No new pods for a node. A node that somebody else cordoned stays theirs."""

    Inputs: ClassVar[type[Inputs]] = CordonInputs

    def target(self, inputs: Any) -> Target:
        """The node."""
        return Target(NODES, inputs.node)

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """Nothing to refuse."""
        if is_cordoned(thing):
            ours = not why_not_our_cordon(thing)
            by = "us" if ours else "somebody else, whose it stays"
            return Change({}, f"cordoned already, by {by}", {"ours": ours})
        marks: Json = {CORDON_MARK: call.key, REASON_MARK: getattr(inputs, "reason", "") or None}
        patch: Json = {"metadata": {"annotations": marks}, "spec": {"unschedulable": True}}
        return Change(patch, "cordoned", {"ours": True})

    def holds(self, thing: Json, inputs: Any) -> bool:
        """Cordoned."""
        return is_cordoned(thing)


class UncordonInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`force`: also where it is somebody else who cordoned the node."""

    node: NodeName
    force: bool = False


class Uncordon:
    """New pods for a node again, where it was us who stopped them."""

    Inputs: ClassVar[type[Inputs]] = UncordonInputs

    def target(self, inputs: Any) -> Target:
        """The node."""
        return Target(NODES, inputs.node)

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """Raises `Refuse` where the cordon is not ours, or another program holds the node out too."""
        marks = marks_of(thing)
        gone: Json = {CORDON_MARK: None, REASON_MARK: None}
        left = {name: None for name in gone if name in marks}
        if not is_cordoned(thing):
            return Change({"metadata": {"annotations": left}} if left else {}, "not cordoned")
        theirs = why_not_our_cordon(thing)
        if not inputs.force:
            if theirs:
                raise Refuse(f"{theirs}; force: true takes that back all the same")
            other = _held_by(thing)
            if other:
                raise Refuse(f"{other} holds it out of work too; force: true takes that back all the same")
        patch: Json = {"metadata": {"annotations": left}, "spec": {"unschedulable": None}}
        return Change(patch, "uncordoned", {"ours": not theirs})

    def holds(self, thing: Json, inputs: Any) -> bool:
        """Not cordoned."""
        return not is_cordoned(thing)


def is_cordoned(thing: Json) -> bool:
    """Whether a node is cordoned."""
    return bool(part(thing, "spec").get("unschedulable"))


def _held_by(thing: Json) -> str:
    """A program that found the node faulty and says so in its labels."""
    labels: dict[str, str] = part(thing, "metadata", "labels")
    if f"{NVSENTINEL}by" in labels or f"{NVSENTINEL}reason" in labels:
        return labels.get(f"{NVSENTINEL}by", "NVSentinel")
    return "HyperPod" if labels.get(f"{HYPERPOD}node-health-status", "").startswith(HYPERPOD_BAD) else ""


class TaintInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`force`: also where somebody else put a taint of that key and effect."""

    node: NodeName
    key: TaintKey
    effect: Effect
    value: TaintValue = ""
    force: bool = False


class AddTaint:
    """A taint on a node. One of the same key and effect with another value is somebody else's."""

    Inputs: ClassVar[type[Inputs]] = TaintInputs

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def target(self, inputs: Any) -> Target:
        """The node."""
        return Target(NODES, inputs.node)

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """Raises `Refuse` where another one is in its place."""
        name = f"{inputs.key}:{inputs.effect}"
        there = _taint(thing, inputs)
        ours = our_taints(thing)
        if there is not None and (there.get("value") or "") == inputs.value:
            return Change({}, f"tainted {name} already", {"ours": there in ours})
        if there is not None and there not in ours and not inputs.force:
            raise Refuse(f"it has the taint {name} with another value, and not from us")
        own: Json = {"key": inputs.key, "effect": inputs.effect} | (
            {"value": inputs.value} if inputs.value else {}
        )
        # Whole seconds, as the server keeps them; it is what tells ours from the same one put by others.
        own["timeAdded"] = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        taints = [*(taint for taint in _taints(thing) if taint is not there), own]
        return Change(
            _taint_patch(taints, [*(taint for taint in ours if taint is not there), own]),
            f"tainted {name}",
            {"ours": True},
        )

    def holds(self, thing: Json, inputs: Any) -> bool:
        """It has the taint with that value."""
        there = _taint(thing, inputs)
        return there is not None and (there.get("value") or "") == inputs.value


class RemoveTaint:
    """A taint off a node, where it was us who put it."""

    Inputs: ClassVar[type[Inputs]] = TaintInputs

    def target(self, inputs: Any) -> Target:
        """The node."""
        return Target(NODES, inputs.node)

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """Raises `Refuse` where the taint is not ours."""
        name = f"{inputs.key}:{inputs.effect}"
        there = _taint(thing, inputs)
        ours = our_taints(thing)
        if there is None:
            return Change({}, f"without the taint {name}")
        if there not in ours and not inputs.force:
            raise Refuse(f"somebody else put the taint {name}; force: true takes it off all the same")
        taints = [taint for taint in _taints(thing) if taint is not there]
        left = [taint for taint in ours if taint is not there]
        return Change(_taint_patch(taints, left), f"freed of the taint {name}")

    def holds(self, thing: Json, inputs: Any) -> bool:
        """It has no such taint."""
        return _taint(thing, inputs) is None


def _taints(thing: Json) -> list[Json]:
    return part(thing, "spec").get("taints") or []


def _taint(thing: Json, inputs: Any) -> Json | None:
    wanted = (inputs.key, inputs.effect)
    return next((one for one in _taints(thing) if (one.get("key"), one.get("effect")) == wanted), None)


def _taint_patch(taints: list[Json], ours: list[Json]) -> Json:
    """A list is replaced as a whole, which the version that was read makes safe."""
    return {
        "metadata": {"annotations": {TAINTS_MARK: ",".join(sorted(map(taint_mark, ours))) or None}},
        "spec": {"taints": taints or None},
    }


# ---- workloads


class WorkloadInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which workload."""

    namespace: Annotated[str, Meta(pattern=NAME_PATTERN, max_length=63)]
    name: Annotated[str, Meta(pattern=NAME_PATTERN, max_length=253)]
    kind: Literal["deployment", "statefulset"] = "deployment"

    @property
    def target(self) -> Target:
        """The object."""
        return Target(DEPLOYMENTS if self.kind == "deployment" else STATEFUL_SETS, self.name, self.namespace)


class ScaleInputs(WorkloadInputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`current`: scale only where so many are asked for now."""

    replicas: Annotated[int, Meta(ge=0, le=REPLICAS_MAX)]
    current: Annotated[int, Meta(ge=0, le=REPLICAS_MAX)] | None = None


class Scale:
    """How many replicas are asked for."""

    Inputs: ClassVar[type[Inputs]] = ScaleInputs

    def target(self, inputs: Any) -> Target:
        """The workload."""
        return inputs.target

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """Raises `Refuse` where another number is asked for than the step expects."""
        before = _replicas(thing)
        outputs: Json = {"replicas_before": before, "replicas": inputs.replicas}
        if before == inputs.replicas:
            return Change({}, f"asked for {before} replicas already", outputs)
        if inputs.current is not None and before != inputs.current:
            raise Refuse(f"{before} replicas are asked for now, and not {inputs.current}")
        return Change(
            {"spec": {"replicas": inputs.replicas}}, f"scaled from {before} to {inputs.replicas}", outputs
        )

    def holds(self, thing: Json, inputs: Any) -> bool:
        """So many are asked for."""
        return _replicas(thing) == inputs.replicas


def _replicas(thing: Json) -> int:
    replicas = part(thing, "spec").get("replicas")
    return 1 if replicas is None else replicas


class RestartInputs(WorkloadInputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which workload."""


class RolloutRestart:
    """Every pod replaced by a new one, as `kubectl rollout restart` does it."""

    Inputs: ClassVar[type[Inputs]] = RestartInputs

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def target(self, inputs: Any) -> Target:
        """The workload."""
        return inputs.target

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """Raises `Refuse` for a paused rollout, which would restart nothing."""
        if part(thing, "spec").get("paused"):
            raise Refuse("its rollout is paused, so nothing would be restarted")
        at = iso_utc(self._clock.now())
        annotations: Json = {RESTARTED_MARK: at}
        patch: Json = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        return Change(patch, f"restarted ({RESTARTED_MARK}: {at})", {"restarted_at": at})

    def holds(self, thing: Json, inputs: Any) -> bool:
        """Its template bears the mark of a restart."""
        return RESTARTED_MARK in part(thing, "spec", "template", "metadata", "annotations")
