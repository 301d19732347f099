"""Drain a node: cordon it, and ask its pods to leave, as their disruption budgets allow.

Nothing is deleted past a budget. What must not or need not leave stays: pods of DaemonSets, mirror pods of
files on the node, pods that have ended. A pod that nobody would make again is a reason to refuse before
anything is evicted, unless the step says otherwise; so is one with data that would be lost with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from steersman.drivers.api import SourceError
from steersman.drivers.inputs import Inputs, OperationInputs, check_inputs, read_inputs
from steersman.drivers.kubernetes.client import KubeClient, KubernetesRefused
from steersman.drivers.kubernetes.objects import Shape, owner_of, path_of
from steersman.drivers.kubernetes.operation import (
    ASK_TIMEOUT_S,
    NAME_PATTERN,
    Edit,
    Json,
    evidence,
    failed,
    get,
    is_made_by,
    is_overtaken,
    make,
    overtaken,
)
from steersman.drivers.kubernetes.ours import why_not_our_cordon
from steersman.drivers.kubernetes.pods import ENDED, MIRROR_ANNOTATION
from steersman.drivers.kubernetes.resources import PODS
from steersman.drivers.kubernetes.shapes import ObjectList, Thing
from steersman.kernel.clock import Clock
from steersman.kinds.step import KeptAttempt, StepCall, StepOutcome, StepResult

PODS_MAX = 1_000
"""Pods of one node: kubelets take 110 by default, 500 at most in practice."""
GRACE_MAX_S = 24 * 3600
LOOK_S = 2.0
"""Between two looks at what is left."""
BLOCKED_S = 5.0
"""Between two attempts at a pod whose budget said no; kubectl waits as long."""
LAST_SHARE = 0.9
"""Share of the step's time after which no more is waited for, so that the answer is in time."""
NAMED_MAX = 10


class DrainInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """- `grace_s`: what pods get to end, instead of what they say themselves.
    - `unmanaged`: evict also pods that no controller would make again.
    - `empty_dir`: evict also pods whose `emptyDir` data would be lost.
    - `pods_max`: refuse where more would have to leave.
    """

    node: Annotated[str, Meta(pattern=NAME_PATTERN, max_length=253)]
    reason: Annotated[str, Meta(max_length=1000)] = ""
    grace_s: Annotated[int, Meta(ge=0, le=GRACE_MAX_S)] | None = None
    unmanaged: bool = False
    empty_dir: bool = False
    pods_max: Annotated[int, Meta(ge=1, le=PODS_MAX)] = PODS_MAX


class Volume(Shape, frozen=True):
    """A volume of a pod, as far as it is lost with it."""

    name: str = ""
    empty_dir: dict[str, Any] | None = None


class LeavingSpec(Shape, frozen=True):
    """`spec` of a pod, as far as it matters for leaving."""

    volumes: list[Volume] | None = None


class LeavingStatus(Shape, frozen=True):
    """`status` of a pod, likewise."""

    phase: str | None = None


class Leaver(Thing, frozen=True, rename="camel"):
    """A pod that may have to leave its node."""

    spec: LeavingSpec | None = None
    status: LeavingStatus | None = None

    @property
    def path(self) -> str:
        """`namespace/name`."""
        return path_of(self.metadata)

    @property
    def stays(self) -> bool:
        """Whether it need not leave: it has ended, or it belongs to the node."""
        owner = owner_of(self.metadata)
        phase = self.status.phase if self.status is not None else None
        of_daemon = owner is not None and owner.kind == "DaemonSet"
        return phase in ENDED or of_daemon or MIRROR_ANNOTATION in (self.metadata.annotations or {})

    @property
    def managed(self) -> bool:
        """Whether a controller makes another one in its place."""
        return any(owner.controller for owner in self.metadata.owner_references or [])

    @property
    def loses(self) -> bool:
        """Whether data goes with it."""
        return any(one.empty_dir is not None for one in (self.spec.volumes if self.spec else None) or [])


class _Left(Struct):
    """What a drain has to do yet, and what came in its way."""

    evicted: set[str]
    blocked: dict[str, str]
    again_at_s: dict[str, float]


class DrainSteps:
    """The handler `drain`. See `kinds.step.StepHandler`."""

    def __init__(self, client: KubeClient, clock: Clock, cordon: Edit) -> None:
        self._client = client
        self._clock = clock
        self._cordon = cordon

    async def site(self) -> str:
        """No matter: whoever asks the cluster sees the same."""
        return ""

    def check(self, inputs: Json) -> None:
        """Raises `OperationInputs`."""
        check_inputs(DrainInputs, inputs)

    async def run(self, call: StepCall) -> StepResult:
        """Drain, within the step's time. Begun anew it goes on where it was."""
        try:
            inputs: DrainInputs = read_inputs(DrainInputs, call.inputs)
        except OperationInputs as error:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
        until_s = self._clock.monotonic() + LAST_SHARE * call.timeout_s
        try:
            leavers = await self._leavers(inputs, call)
        except SourceError as error:
            return failed(error, wrote=False)
        refusal = _refusal(inputs, leavers)
        if refusal:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=refusal)
        if inputs.dry_run:
            return await self._rehearse(inputs, leavers, call)
        cordoned = await make(self._client, self._cordon, inputs, call)
        if cordoned.outcome is not StepOutcome.SUCCEEDED:
            return cordoned
        return await self._empty(inputs, call, until_s)

    async def observe(self, call: StepCall) -> StepResult | None:
        """Whether the node bears this attempt's mark, and is empty. What was begun and has pods left may be
        begun again: nothing goes on by itself, and no pod leaves twice."""
        try:
            inputs: DrainInputs = read_inputs(DrainInputs, call.inputs)
        except OperationInputs:
            return None
        target = self._cordon.target(inputs)
        try:
            node = await get(self._client, target, call)
            leavers = await self._leavers(inputs, call)
        except KubernetesRefused as error:
            return None if error.not_found else failed(error, wrote=True)
        except SourceError as error:
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail=error.detail)
        if is_overtaken(node, call):
            return overtaken(target)
        if not is_made_by(node, call):
            return None
        if not self._cordon.holds(node, inputs):
            return StepResult(outcome=StepOutcome.PERMANENT, detail=f"{target}: somebody uncordoned it since")
        paths = [one.path for one in leavers]
        if paths:
            return StepResult(
                outcome=StepOutcome.TRANSIENT,
                detail=f"{target}: the drain was broken off; {_named(paths)} are left",
                outputs={"left": paths[:NAMED_MAX]},
            )
        return self._done(node, inputs, set())

    async def cancel(self, call: StepCall) -> None:
        """Nothing goes on by itself; the node stays cordoned."""

    async def settle(self, call: StepCall) -> None:
        """Nothing is kept here."""

    async def kept(self) -> Sequence[KeptAttempt]:
        """Nothing: what was begun is marked on the node."""
        return ()

    # ---- inside

    async def _leavers(self, inputs: DrainInputs, call: StepCall) -> list[Leaver]:
        """The pods that have to leave. Raises `SourceError`."""
        decoder = msgspec.json.Decoder(Leaver)
        found: list[Leaver] = []
        token = ""

        def fold(page: ObjectList) -> tuple[list[Leaver], str]:
            return [decoder.decode(raw) for raw in page.items or []], page.metadata.continue_

        while True:
            try:
                pods, token = await self._client.list_page(
                    PODS,
                    fold,
                    token=token,
                    fields=f"spec.nodeName={inputs.node}",
                    timeout_s=min(ASK_TIMEOUT_S, call.timeout_s),
                )
            except msgspec.ValidationError as error:
                raise SourceError(f"a pod on {inputs.node} has another shape: {error}") from None
            found += (pod for pod in pods if not pod.stays)
            if not token or len(found) > PODS_MAX:
                return found

    async def _rehearse(self, inputs: DrainInputs, leavers: list[Leaver], call: StepCall) -> StepResult:
        """Ask the server which evictions it would allow now."""
        made = await make(self._client, self._cordon, inputs, call)
        if made.outcome is not StepOutcome.SUCCEEDED:
            return made
        blocked: list[str] = []
        for pod in leavers:
            try:
                await self._evict(pod, inputs, call)
            except KubernetesRefused as error:
                if error.throttled:
                    blocked.append(pod.path)
                elif not (error.not_found or error.conflict):
                    return failed(error, wrote=False)
            except SourceError as error:
                return failed(error, wrote=False)
        return StepResult(
            outcome=StepOutcome.SUCCEEDED,
            detail=f"node {inputs.node}: would be drained of {len(leavers)} pods"
            + (f"; {_named(blocked)} would have to wait for their budget" if blocked else ""),
            outputs={
                "pods": [pod.path for pod in leavers][:NAMED_MAX],
                "count": len(leavers),
                "blocked": blocked[:NAMED_MAX],
                "changed": False,
                "dry_run": True,
            },
        )

    async def _empty(self, inputs: DrainInputs, call: StepCall, until_s: float) -> StepResult:
        """Evict and wait, until no pod is left or the time is over."""
        target = self._cordon.target(inputs)
        left = _Left(set(), {}, {})
        while True:
            try:
                node = await get(self._client, target, call)
                leavers = await self._leavers(inputs, call)
                if is_overtaken(node, call):
                    return overtaken(target)
                if not self._cordon.holds(node, inputs):
                    detail = f"{target}: somebody uncordoned it while it was drained"
                    return StepResult(outcome=StepOutcome.PERMANENT, detail=detail)
                refusal = _refusal(inputs, leavers)
                if refusal:
                    return StepResult(outcome=StepOutcome.PERMANENT, detail=refusal)
                if not leavers:
                    return self._done(node, inputs, left.evicted)
                stopped = await self._round(inputs, call, leavers, left, until_s)
                if stopped is not None:
                    return stopped
            except SourceError as error:
                return failed(error, wrote=False)  # what was evicted is seen by the next attempt
            if self._clock.monotonic() + LOOK_S >= until_s:
                return _late(inputs, leavers, left)
            await self._clock.sleep(LOOK_S)

    async def _round(
        self, inputs: DrainInputs, call: StepCall, leavers: list[Leaver], left: _Left, until_s: float
    ) -> StepResult | None:
        """One attempt at each pod that is due; what ends the drain, None where it goes on."""
        for pod in leavers:
            now_s = self._clock.monotonic()
            if now_s >= until_s:
                return None
            if pod.metadata.deletion_timestamp or left.again_at_s.get(pod.path, now_s) > now_s:
                continue
            try:
                await self._evict(pod, inputs, call)
            except KubernetesRefused as error:
                if error.throttled:
                    left.blocked[pod.path] = error.detail
                    wait_s = max(BLOCKED_S, error.retry_after_s or 0.0)
                    left.again_at_s[pod.path] = now_s + wait_s
                    continue
                if error.not_found or error.conflict:
                    continue  # it has left, or another one has its name: the next look tells
                return failed(error, wrote=True)
            left.evicted.add(pod.path)
            left.blocked.pop(pod.path, None)
        return None

    async def _evict(self, pod: Leaver, inputs: DrainInputs, call: StepCall) -> None:
        await self._client.evict(
            pod.metadata.name,
            namespace=pod.metadata.namespace,
            uid=pod.metadata.uid,
            grace_s=inputs.grace_s,
            dry_run=inputs.dry_run,
            timeout_s=min(ASK_TIMEOUT_S, call.timeout_s),
        )

    def _done(self, node: Json, inputs: DrainInputs, evicted: set[str]) -> StepResult:
        target = self._cordon.target(inputs)
        detail = f"drained; {len(evicted)} pods were evicted"
        return StepResult(
            outcome=StepOutcome.SUCCEEDED,
            detail=f"{target}: {detail}",
            outputs={
                "evicted": len(evicted),
                "changed": True,
                "dry_run": False,
                "ours": not why_not_our_cordon(node),
            },
            evidence=(evidence(target, node, detail),),
        )


def _refusal(inputs: DrainInputs, leavers: list[Leaver]) -> str:
    """Why nothing may be evicted; empty where it may."""
    node = f"node {inputs.node}"
    if len(leavers) > inputs.pods_max:
        return f"{node}: {len(leavers)} pods would have to leave; at most {inputs.pods_max} may (pods_max)"
    alone = [pod.path for pod in leavers if not pod.managed]
    if alone and not inputs.unmanaged:
        return f"{node}: nobody would make {_named(alone)} again; unmanaged: true evicts them all the same"
    losing = [pod.path for pod in leavers if pod.loses]
    if losing and not inputs.empty_dir:
        return f"{node}: {_named(losing)} would lose their emptyDir; empty_dir: true evicts them all the same"
    return ""


def _late(inputs: DrainInputs, leavers: list[Leaver], left: _Left) -> StepResult:
    paths = [pod.path for pod in leavers]
    why = next((left.blocked[path] for path in paths if path in left.blocked), "")
    return StepResult(
        outcome=StepOutcome.TRANSIENT,
        detail=f"node {inputs.node}: {_named(paths)} are left when the time is over"
        + (f": {why}" if why else ""),
        outputs={
            "evicted": len(left.evicted),
            "left": paths[:NAMED_MAX],
            "blocked": sorted(left.blocked)[:NAMED_MAX],
        },
    )


def _named(paths: list[str]) -> str:
    shown = ", ".join(sorted(paths)[:NAMED_MAX])
    return shown if len(paths) <= NAMED_MAX else f"{shown} and {len(paths) - NAMED_MAX} more"
