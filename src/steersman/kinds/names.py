"""Entity types as people write them in URLs and on the command line: any case, plural, short forms."""

from __future__ import annotations

from steersman.kinds.entity import EntityType

SHORT_FORMS: dict[EntityType, tuple[str, ...]] = {
    EntityType.SERVICE: ("svc",),
    EntityType.DEPLOYMENT: ("deploy",),
    EntityType.GPU: (),
    EntityType.NODE: ("no",),
    EntityType.JOB: (),
    EntityType.QUEUE: ("q",),
    EntityType.MODEL_REVISION: ("model", "rev"),
    EntityType.SCHEDULER_DOMAIN: ("domain", "sd"),
    EntityType.TENANT_SCOPE: ("tenant", "ts"),
    EntityType.EXPERIMENT_TRACKER: ("experiment", "exp"),
    EntityType.DATA_PIPELINE_STAGE: ("stage", "dps"),
    EntityType.CONFIG_SNAPSHOT: ("config", "cfg"),
}
"""Short forms beside the type's own name; each has a plural too."""


def plural(kind: EntityType) -> str:
    """`node` → `nodes`, `gpu` → `gpus`."""
    word = kind.value
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


def kind_of(word: str) -> EntityType | None:
    """The type that `word` means, None where it means none. Case, dashes and underscores do not matter."""
    return _KINDS.get(word.lower().replace("-", "").replace("_", ""))


def _all_names() -> dict[str, EntityType]:
    names: dict[str, EntityType] = {}
    for kind in EntityType:
        names[kind.value.replace("_", "")] = names[plural(kind).replace("_", "")] = kind
        for short in SHORT_FORMS[kind]:
            names[short] = names[f"{short}s"] = kind
    return names


_KINDS = _all_names()


RESOURCE_FORMS: dict[str, tuple[str, ...]] = {
    "Session": ("ses",),
    "SessionPart": ("part", "sp"),
    "PodInstance": ("pod", "po"),
    "Host": ("worker", "ho"),
    "Job": (),
    "Report": ("rep",),
    "Node": ("no",),
    "Recommendation": ("rec",),
    "Policy": ("pol",),
    "Freeze": (),
}
"""Kinds of resources with their short forms and other names; a test holds it to `plane_resources.KINDS`."""


def resource_plural(kind: str) -> str:
    """`Node` → `nodes`, `Policy` → `policies`."""
    word = kind.lower()
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


def resource_kind_of(word: str) -> str | None:
    """The kind of resource that `word` means, None where it means none; read as `kind_of` reads."""
    return _RESOURCES.get(word.lower().replace("-", "").replace("_", ""))


def _resource_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for kind, shorts in RESOURCE_FORMS.items():
        names[kind.lower()] = names[resource_plural(kind)] = kind
        for short in shorts:
            names[short] = names[f"{short}s"] = kind
    return names


_RESOURCES = _resource_names()
