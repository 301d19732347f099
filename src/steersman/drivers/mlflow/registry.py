"""From the model registry to the fields of `model_revision`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from steersman.drivers.mlflow.shapes import Model, Version

STATUSES = frozenset({"READY", "PENDING_REGISTRATION", "FAILED_REGISTRATION"})
STAGES = frozenset({"None", "Staging", "Production", "Archived"})
"""The words that MLflow's protocol has. Stages are deprecated there, and still given."""


class VersionFacts(Struct):
    """What is to be told of one version of a model."""

    entity_id: str
    fields: dict[str, Any]
    labels: dict[str, str]
    clear: tuple[str, ...] = ()
    drift: list[str] = field(default_factory=list[str])


def version_facts(models: Sequence[Model], versions: Sequence[Version]) -> list[VersionFacts]:
    """Every version once; `models` has the aliases, which older servers do not give with a version."""
    aliases: dict[str, list[str]] = {}
    for model in models:
        for alias in model.aliases:
            aliases.setdefault(f"{model.name}/{alias.version}", []).append(alias.alias)
    facts = {
        (found := _facts(version, aliases.get(f"{version.name}/{version.version}", []))).entity_id: found
        for version in versions
        if version.name and version.version is not None
    }
    return list(facts.values())


def _facts(version: Version, aliases: Sequence[str]) -> VersionFacts:
    stage = version.current_stage if version.current_stage not in (None, "", "None") else None
    fields: dict[str, Any] = {
        "model_name": version.name,
        "model_version": str(version.version),
        "revision_state": version.status,
        "rollout_phase": stage,
        "aliases": sorted({*aliases, *version.aliases}),
        "run_id": version.run_id or None,
    }
    drift = [
        f"{name}: unknown word {word!r:.60}"
        for name, word, known in (
            ("revision_state", version.status, STATUSES),
            ("rollout_phase", version.current_stage or None, STAGES),
        )
        if word is not None and word not in known
    ]
    return VersionFacts(
        f"{version.name}/{version.version}",
        {name: value for name, value in fields.items() if value is not None},
        {"model": version.name},
        () if stage is not None else ("rollout_phase",),
        drift,
    )
