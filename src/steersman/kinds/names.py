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
