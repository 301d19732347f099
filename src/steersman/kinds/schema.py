"""JSON Schema (2020-12) of everything that is stored or sent, made from the types themselves.

Each schema stands alone: what it refers to is under its own `$defs`. Beside the standard keywords, the fields
of entities carry `x-unit` (UCUM), `x-pace` (how fast a true value may change), `x-expected` (whether every
working source reports it) and, where a text has a vocabulary, `x-words`.

A resource is sent as its state, so `Session` is the schema of `SessionState`, and so on. `Timeslot` and
`ManagedLifecycle` are their stored forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from enum import Enum
from functools import cache
from inspect import cleandoc
from typing import Any, cast

import msgspec
from msgspec import Struct

from steersman.kernel.errors import NotFound
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.advice import (
    DryRun,
    FreezeInfo,
    ModeSet,
    PolicyBook,
    PolicyCount,
    PolicyCoverage,
    PolicyInfo,
    PolicySignals,
    PolicyVerdict,
    RecommendationInfo,
)
from steersman.kinds.axes import Condition, Hold, Operation, OperationPhase, Truth
from steersman.kinds.command import ChangeAction, Evidence, HistoryEntry, ResourceEvent
from steersman.kinds.deciding import PolicyProblem
from steersman.kinds.definition import (
    DEFINITION_KINDS,
    ChildRequirement,
    DefinitionStatus,
    OnChildFailure,
    PartExecution,
    ProvisioningSource,
    ResourceDefinition,
    SyncState,
)
from steersman.kinds.entity import (
    ENTITY_CLASSES,
    CanonicalEntity,
    EntityType,
    HealthReason,
    HealthState,
    SchedulerDomainType,
    WorkloadType,
)
from steersman.kinds.explanation import (
    Confidence,
    ConfidenceItem,
    FieldFreshness,
    Freshness,
    HealthVerdict,
    PlannedState,
)
from steersman.kinds.fragment import StateFragment
from steersman.kinds.lifecycle import (
    Lifecycle,
    LifecycleBudget,
    LifecycleState,
    LifecycleTransition,
    StateClass,
    TransitionRequirements,
)
from steersman.kinds.machine import Option, PathStep
from steersman.kinds.managed import (
    Allowed,
    Applied,
    Changed,
    HistoryPage,
    KindCount,
    KindCounts,
    Managed,
    ManagedPage,
    StepTaken,
    Way,
)
from steersman.kinds.phase import LifecyclePhase, StoredLifecycle
from steersman.kinds.plane_resources import KINDS, FreezeState, PolicyState, RecommendationState
from steersman.kinds.policy import (
    FactMissing,
    FactRead,
    Guardrail,
    GuardrailVerdict,
    Policy,
    PolicyAction,
    PolicyLimits,
    PolicyMatch,
    PolicyMode,
    Recommendation,
    RecommendationStatus,
    Risk,
    Verdict,
)
from steersman.kinds.resource import RESOURCE_KINDS, InventoryNode
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
    NodeState,
    PodInstanceState,
    ResourceState,
    Retry,
    SessionPartState,
    SessionState,
    TimedResourceState,
)
from steersman.kinds.story import (
    Look,
    Story,
    StoryFrozen,
    StoryGoing,
    StoryObserved,
    StoryPlace,
)
from steersman.kinds.tables import Linted, TableFinding, TableInfo, TableInfos
from steersman.kinds.timeslot import StoredTimeslot
from steersman.kinds.transition import StateTransition
from steersman.kinds.work import WorkVerdict

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID_BASE = "urn:steersman:schema:"  # a URN, so that no schema names a host

PUBLISHED: Mapping[str, type] = {
    **{cls.__name__: cls for cls in (CanonicalEntity, *ENTITY_CLASSES.values())},
    **{cls.__name__: cls for cls in (StateFragment, HealthReason)},
    **{cls.__name__: cls for cls in (EntityType, HealthState, SchedulerDomainType, WorkloadType)},
    **{cls.__name__: cls for cls in (ModelState, ProviderState, PoolState, SystemState)},
    **{cls.__name__: cls for cls in (SyncPolicy, LockHandle, SyncStatus)},
    **{cls.__name__: cls for cls in (StateTransition, LifecyclePhase)},
    "Timeslot": StoredTimeslot,
    "ManagedLifecycle": StoredLifecycle,
    **{cls.__name__: cls for cls in (Lifecycle, LifecycleState, LifecycleTransition, LifecycleBudget)},
    **{cls.__name__: cls for cls in (TransitionRequirements, StateClass)},
    **{cls.__name__: cls for cls in (ResourceDefinition, *DEFINITION_KINDS.values(), ChildRequirement)},
    **{cls.__name__: cls for cls in (ResourceState, TimedResourceState)},
    **{cls.__name__: cls for cls in (SessionState, SessionPartState, PodInstanceState, HostState, NodeState)},
    **{name: cls.STATE for name, cls in RESOURCE_KINDS.items()},
    "InventoryNode": InventoryNode,
    **{cls.__name__: cls for cls in (Condition, Hold, Operation, OperationPhase, Truth, Retry)},
    **{cls.__name__: cls for cls in (RecommendationState, PolicyState, FreezeState)},
    **{cls.__name__: cls for cls in (HistoryEntry, ChangeAction, Evidence, ResourceEvent)},
    **{cls.__name__: cls for cls in (Policy, PolicyMatch, PolicyAction, PolicyLimits, PolicyMode, Risk)},
    **{cls.__name__: cls for cls in (Recommendation, RecommendationStatus, GuardrailVerdict)},
    **{cls.__name__: cls for cls in (FactRead, FactMissing, Guardrail, Verdict)},
    **{cls.__name__: cls for cls in (ProvisioningSource, DefinitionStatus, SyncState)},
    **{cls.__name__: cls for cls in (PartExecution, OnChildFailure)},
    **{cls.__name__: cls for cls in (Managed, Changed, Applied, KindCount, KindCounts)},
    **{cls.__name__: cls for cls in (ManagedPage, HistoryPage)},
    **{cls.__name__: cls for cls in (Allowed, Option, Way, PathStep, StepTaken, WorkVerdict)},
    **{cls.__name__: cls for cls in (Story, StoryPlace, StoryGoing, StoryFrozen, StoryObserved, Look)},
    **{cls.__name__: cls for cls in (TableFinding, TableInfo, TableInfos, Linted)},
    **{cls.__name__: cls for cls in (PolicyInfo, PolicyBook, PolicyProblem, ModeSet, PolicyVerdict)},
    **{cls.__name__: cls for cls in (PolicyCount, PolicySignals, PolicyCoverage, DryRun)},
    **{cls.__name__: cls for cls in (RecommendationInfo, FreezeInfo)},
    **{cls.__name__: cls for cls in (HealthVerdict, PlannedState, Freshness, FieldFreshness)},
    **{cls.__name__: cls for cls in (Confidence, ConfidenceItem)},
}
"""What has a schema, by the name it is published under."""

_REF = "#/$defs/{name}"
_STORED_AS = {"StoredTimeslot": "Timeslot", "StoredLifecycle": "ManagedLifecycle"}


class UnknownSchema(NotFound):
    """There is no schema of that name; `detail` proposes the nearest."""

    code = "unknown_schema"
    title = "Unknown schema"


def schema_of(name: str) -> dict[str, Any]:
    """The schema published under `name`. The caller may change what it gets. Raises `UnknownSchema`."""
    if name not in PUBLISHED:
        raise UnknownSchema(
            f"there is no schema {name[:80]!r}{did_you_mean(name, PUBLISHED)}", name=name[:80]
        )
    return deepcopy(_schema(name))


def all_schemas() -> dict[str, dict[str, Any]]:
    """Every schema by its name, in the order of names."""
    return {name: schema_of(name) for name in sorted(PUBLISHED)}


@cache
def _schema(name: str) -> dict[str, Any]:
    types = [PUBLISHED[name], *(StoredTimeslot, StoredLifecycle, LifecyclePhase)]
    types += [WorkVerdict, *(cls.STATE for cls in KINDS.values())]
    _, found = msgspec.json.schema_components(types, ref_template=_REF, schema_hook=_managed)
    components = {_STORED_AS.get(key, key): body for key, body in found.items()}
    components["Managed"] = _any_resource()
    for info in msgspec.inspect.multi_type_info(types):
        _add_formats(info, components, set())
    for cls in ENTITY_CLASSES.values():
        if cls.__name__ in components:
            components[cls.__name__]["properties"]["entity_type"] = {"const": cls.TYPE.value}
    for body in components.values():
        if "description" in body:
            body["description"] = cleandoc(body["description"])
        for shape in cast("dict[str, dict[str, Any]]", body.get("properties", {})).values():
            _tidy(shape)
    _describe_phases(components["ManagedLifecycle"])
    key = _STORED_AS.get(PUBLISHED[name].__name__, PUBLISHED[name].__name__)
    body = {"$schema": DIALECT, "$id": ID_BASE + name, **components.pop(key), "title": name}
    if _refers_to(body, key):
        components[key] = {name: part for name, part in body.items() if not name.startswith("$")}
    defs = _needed(body, components)
    return {**body, "$defs": defs} if defs else body


def _managed(kind: type) -> dict[str, Any]:
    """The schema of what is no Struct: a resource as it is shown."""
    if kind is not Managed:
        raise TypeError(kind.__name__)
    return {"$ref": _REF.format(name="Managed")}


def _any_resource() -> dict[str, Any]:
    states = dict.fromkeys(cls.STATE.__name__ for cls in KINDS.values())
    return {
        "anyOf": [{"$ref": _REF.format(name=name)} for name in states],
        "properties": {"work": {"anyOf": [{"$ref": _REF.format(name="WorkVerdict")}, {"type": "null"}]}},
        "description": cleandoc(Managed.__doc__ or ""),
    }


def _add_formats(info: msgspec.inspect.Type, components: dict[str, dict[str, Any]], seen: set[type]) -> None:
    """msgspec leaves `format` out where a naive time is accepted too; we accept one, and always send UTC."""
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls in seen:
            return
        seen.add(info.cls)
        body = components[_STORED_AS.get(info.cls.__name__, info.cls.__name__)]
        for field in info.fields:
            arms = _arms(field.type)
            shape = body["properties"][field.encode_name]
            if any(isinstance(arm, msgspec.inspect.DateTimeType) for arm in arms):
                for arm in shape.get("anyOf", [shape]):
                    if arm.get("type") == "string":
                        arm["format"] = "date-time"
            for arm in arms:
                _add_formats(arm, components, seen)
        return
    for inner in ("item_type", "value_type", "type"):
        child = getattr(info, inner, None)
        if isinstance(child, msgspec.inspect.Type):
            _add_formats(child, components, seen)


def _arms(info: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)


def _tidy(shape: dict[str, Any]) -> None:
    """Turn our own notes on a property into keywords, and drop the empty ones."""
    low, high = shape.pop("x-low", None), shape.pop("x-high", None)
    words = shape.pop("x-words", ())
    arms = [arm.get("type") for arm in shape.get("anyOf", [shape])]
    if "number" in arms or "integer" in arms:
        shape |= {} if low is None else {"minimum": low}
        shape |= {} if high is None else {"maximum": high}
    if words:
        shape["x-words"] = list(words)
    if shape.get("x-unit") == "":
        del shape["x-unit"]
    stored = shape.pop("x-stored", None)
    if stored is not None:
        shape["anyOf"] = [{"$ref": _REF.format(name=stored)}, {"type": "null"}]


def _describe_phases(body: dict[str, Any]) -> None:
    phase = {"$ref": _REF.format(name="LifecyclePhase")}
    body["properties"]["phases"]["anyOf"] = [
        {
            "type": "object",
            "description": "by name; a phase then needs no name of its own",
            "additionalProperties": {"type": ["object", "null"]},
        },
        {"type": "array", "items": phase},
    ]


def _refers_to(part: object, key: str) -> bool:
    return _REF.format(name=key) in _refs(part)


def _needed(body: dict[str, Any], components: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The definitions that a schema refers to, directly or through others."""
    needed: dict[str, dict[str, Any]] = {}
    open_refs = _refs(body)
    while open_refs:
        name = open_refs.pop().removeprefix(_REF.format(name=""))
        if name not in needed:
            needed[name] = components[name]
            open_refs |= _refs(components[name])
    return dict(sorted(needed.items()))


def _refs(part: object) -> set[str]:
    if isinstance(part, dict):
        items = cast("dict[str, object]", part)
        own = {str(items["$ref"])} if isinstance(items.get("$ref"), str) else set[str]()
        return own.union(*(_refs(value) for value in items.values()))
    if isinstance(part, list):
        return set[str]().union(*(_refs(item) for item in cast("list[object]", part)))
    return set()


def is_struct(name: str) -> bool:
    """Whether the schema of that name is of a struct, not of a vocabulary."""
    cls = PUBLISHED[name]
    return issubclass(cls, Struct) and not issubclass(cls, Enum)
