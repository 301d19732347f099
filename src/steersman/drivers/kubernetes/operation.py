"""One change of one object, made so that it can be repeated, fenced, and looked for afterwards.

Read, judge, write on the version that was read, read back. With the change go the marks: who made it (the key
of the attempt) and under which epoch of which resource. So a repetition finds that it was made, an attempt of
an older epoch finds that it was overtaken, and one whose answer was lost can be looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, cast

from msgspec import Struct

from steersman.drivers.api import SourceError
from steersman.drivers.inputs import Inputs, OperationInputs, check_inputs, read_inputs
from steersman.drivers.kubernetes.client import KubeClient, KubernetesRefused
from steersman.drivers.kubernetes.marks import EPOCH_MARK, OPERATION_MARK, RESOURCE_MARK
from steersman.drivers.kubernetes.resources import Resource
from steersman.kinds.command import Evidence
from steersman.kinds.step import KeptAttempt, StepCall, StepOutcome, StepResult

CONFLICTS_MAX = 5
"""Times that an object is read anew because somebody else wrote it meanwhile: a busy node's status is written
every few seconds, so more than a few in a row is a fight."""
ASK_TIMEOUT_S = 15.0
"""For one request; less where the step has less left."""
NAME_PATTERN = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"

Json = dict[str, Any]


class Target(Struct, frozen=True):
    """The object that is changed."""

    resource: Resource
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.resource.plural}/{place}{self.name}"


class Change(Struct, frozen=True):
    """A merge patch of the object, without the marks; empty where it is already as it should be."""

    patch: Json
    detail: str
    outputs: Json = {}


class Refuse(Exception):
    """The object must not be changed; the text says why."""


class Edit(Protocol):
    """What an operation that changes one object is."""

    Inputs: ClassVar[type[Inputs]]

    def target(self, inputs: Any) -> Target:
        """Which object."""
        ...

    def plan(self, thing: Json, inputs: Any, call: StepCall) -> Change:
        """What is to be changed of it. Raises `Refuse`."""
        ...

    def holds(self, thing: Json, inputs: Any) -> bool:
        """Whether it is as it should be."""
        ...


def part(thing: Json, *names: str) -> Json:
    """A mapping in an object, by the way to it; an empty one where there is none."""
    for name in names:
        found: Any = thing.get(name)
        thing = cast("Json", found) if isinstance(found, dict) else {}
    return thing


def marks_of(thing: Json) -> dict[str, str]:
    """An object's annotations."""
    return part(thing, "metadata", "annotations")


def is_made_by(thing: Json, call: StepCall) -> bool:
    """Whether this attempt was the last that changed it."""
    return marks_of(thing).get(OPERATION_MARK) == call.key


def is_overtaken(thing: Json, call: StepCall) -> bool:
    """Whether a newer epoch of the same resource changed it. Epochs of two resources can't be compared."""
    marks = marks_of(thing)
    epoch = marks.get(EPOCH_MARK, "")
    same = marks.get(RESOURCE_MARK) == str(call.resource)
    return same and epoch.isascii() and epoch.isdigit() and len(epoch) < 20 and int(epoch) > call.epoch


def marked(patch: Json, thing: Json, call: StepCall) -> Json:
    """A patch with the marks of a call, to be applied only to the version that was read."""
    metadata = patch.get("metadata", {})
    own = {OPERATION_MARK: call.key, EPOCH_MARK: str(call.epoch), RESOURCE_MARK: str(call.resource)}
    return {
        **patch,
        "metadata": {
            **metadata,
            "annotations": {**metadata.get("annotations", {}), **own},
            "resourceVersion": thing["metadata"]["resourceVersion"],
            "uid": thing["metadata"]["uid"],
        },
    }


def overtaken(target: Target) -> StepResult:
    """The answer to an attempt that a newer epoch overtook."""
    return StepResult(
        outcome=StepOutcome.SUPERSEDED,
        detail=f"{target} was changed by a newer operation on the same resource",
    )


def failed(error: SourceError, *, wrote: bool) -> StepResult:
    """What a failed request means: with `wrote` it may have taken effect though no answer came."""
    if not isinstance(error, KubernetesRefused):
        outcome = StepOutcome.UNCERTAIN if wrote else StepOutcome.TRANSIENT
    elif error.throttled or error.conflict or error.http_status == 401:
        outcome = StepOutcome.TRANSIENT  # refused before anything was done
    elif error.http_status >= 500:
        outcome = StepOutcome.UNCERTAIN if wrote else StepOutcome.TRANSIENT
    else:
        outcome = StepOutcome.PERMANENT
    return StepResult(outcome=outcome, detail=error.detail)


class EditSteps:
    """The handler of an operation that changes one object. See `kinds.step.StepHandler`."""

    def __init__(self, client: KubeClient, edit: Edit) -> None:
        self._client = client
        self._edit = edit

    async def site(self) -> str:
        """No matter: whoever asks the cluster sees the same."""
        return ""

    def check(self, inputs: Json) -> None:
        """Raises `OperationInputs`."""
        check_inputs(self._edit.Inputs, inputs)

    async def run(self, call: StepCall) -> StepResult:
        """Make the change, or find that it was made."""
        try:
            inputs = read_inputs(self._edit.Inputs, call.inputs)
        except OperationInputs as error:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=error.detail)
        return await make(self._client, self._edit, inputs, call)

    async def observe(self, call: StepCall) -> StepResult | None:
        """Whether the change was made: one write is whole or nothing, and its mark is in it."""
        try:
            inputs = read_inputs(self._edit.Inputs, call.inputs)
        except OperationInputs:
            return None  # it was refused before it began
        target = self._edit.target(inputs)
        try:
            thing = await get(self._client, target, call)
        except KubernetesRefused as error:
            return None if error.not_found else failed(error, wrote=True)
        except SourceError as error:
            return StepResult(outcome=StepOutcome.UNCERTAIN, detail=error.detail)
        if is_overtaken(thing, call):
            return overtaken(target)
        return _found(self._edit, target, thing, inputs) if is_made_by(thing, call) else None

    async def cancel(self, call: StepCall) -> None:
        """Nothing goes on by itself."""

    async def settle(self, call: StepCall) -> None:
        """Nothing is kept here."""

    async def kept(self) -> Sequence[KeptAttempt]:
        """Nothing: what was begun is marked in the cluster."""
        return ()


async def get(client: KubeClient, target: Target, call: StepCall) -> Json:
    """The object as it is now. Raises `SourceError`."""
    return await client.get(
        target.resource, target.name, namespace=target.namespace, timeout_s=min(ASK_TIMEOUT_S, call.timeout_s)
    )


async def make(client: KubeClient, edit: Edit, inputs: Any, call: StepCall) -> StepResult:
    """Read, judge, write, read back."""
    target = edit.target(inputs)
    for _ in range(CONFLICTS_MAX):
        try:
            thing = await get(client, target, call)
        except SourceError as error:
            return failed(error, wrote=False)
        if is_overtaken(thing, call):
            return overtaken(target)
        if is_made_by(thing, call):
            return _found(edit, target, thing, inputs)
        try:
            change = edit.plan(thing, inputs, call)
        except Refuse as refusal:
            return StepResult(outcome=StepOutcome.PERMANENT, detail=f"{target}: {refusal}")
        try:
            await client.patch(
                target.resource,
                target.name,
                marked(change.patch, thing, call),
                namespace=target.namespace,
                dry_run=inputs.dry_run,
                timeout_s=min(ASK_TIMEOUT_S, call.timeout_s),
            )
        except KubernetesRefused as error:
            if error.conflict:
                continue
            return failed(error, wrote=not inputs.dry_run)
        except SourceError as error:
            return failed(error, wrote=not inputs.dry_run)
        if inputs.dry_run:
            return StepResult(
                outcome=StepOutcome.SUCCEEDED,
                detail=f"{target}: would be {change.detail}"
                if change.patch
                else f"{target}: {change.detail}",
                outputs={**change.outputs, "changed": False, "dry_run": True},
            )
        return await _read_back(client, edit, target, inputs, call, change)
    return StepResult(
        outcome=StepOutcome.TRANSIENT,
        detail=f"{target} was changed by others {CONFLICTS_MAX} times meanwhile",
    )


async def _read_back(
    client: KubeClient, edit: Edit, target: Target, inputs: Any, call: StepCall, change: Change
) -> StepResult:
    try:
        thing = await get(client, target, call)
    except SourceError as error:
        return failed(error, wrote=True)
    if is_overtaken(thing, call):
        return overtaken(target)
    if not edit.holds(thing, inputs):
        return StepResult(
            outcome=StepOutcome.TRANSIENT,
            detail=f"{target}: was {change.detail}, and somebody undid it at once",
        )
    return StepResult(
        outcome=StepOutcome.SUCCEEDED,
        detail=f"{target}: {change.detail}",
        outputs={**change.outputs, "changed": bool(change.patch), "dry_run": False},
        evidence=(evidence(target, thing, change.detail),),
    )


def _found(edit: Edit, target: Target, thing: Json, inputs: Any) -> StepResult:
    """What is to be said of a change that this attempt is known to have made."""
    if not edit.holds(thing, inputs):
        detail = f"{target}: this attempt changed it, and somebody has undone that since"
        return StepResult(outcome=StepOutcome.PERMANENT, detail=detail)
    return StepResult(
        outcome=StepOutcome.SUCCEEDED,
        detail=f"{target}: this attempt has changed it already",
        outputs={"changed": True, "dry_run": False},
        evidence=(evidence(target, thing, "found as it should be"),),
    )


def evidence(target: Target, thing: Json, detail: str) -> Evidence:
    """What history keeps of a change."""
    meta = thing["metadata"]
    data = {"uid": meta.get("uid", ""), "resource_version": meta.get("resourceVersion", "")}
    return Evidence(kind="kubernetes", ref=str(target), detail=detail[:1000], data=data)
