"""From a run to the fields of an `experiment_tracker`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct, field

from steersman.drivers.wandb.options import WandbOptions
from steersman.drivers.wandb.shapes import ENDED, LIVE, Run, time_of
from steersman.kinds.fields import NUMBER_MAX

METRICS_MAX = 64
"""Metrics of a run that are copied, first in the order of names: a summary may have thousands."""
TEXT_MAX_CHARS = 250
JOB_ID_MAX_CHARS = 128

NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
"""How W&B writes them: JSON has no such numbers."""


class RunFacts(Struct):
    """What is to be told of one run."""

    entity_id: str
    fields: dict[str, Any]
    labels: dict[str, str]
    drift: list[str] = field(default_factory=list[str])


def run_facts(run: Run, entity: str, project: str, options: WandbOptions) -> RunFacts:
    """The fields of one run of a project."""
    drift: list[str] = []
    values, not_finite = _metrics(run.summary_metrics, options.metrics, drift)
    user = run.user.username if run.user is not None else None
    fields: dict[str, Any] = {
        "run_state": run.state,
        "experiment": project,
        "run_name": run.display_name,
        "started_at": time_of(run.created_at),
        "heartbeat_at": time_of(run.heartbeat_at),
        "heartbeat_timeout_s": float(options.silent_after),
        "metrics": dict(sorted(values.items())[:METRICS_MAX]),
        "metrics_not_finite": sorted(not_finite)[:METRICS_MAX],
        "group": run.group or None,
        "job_type": run.job_type or None,
        "sweep": run.sweep_name or None,
        "job_id": _job_id(run.config, options.job_config),
    }
    if run.state not in LIVE | ENDED:
        drift.append(f"run_state: unknown word {run.state!r:.60}")
    for name in ("created_at", "heartbeat_at"):
        text = getattr(run, name)
        if text and time_of(text) is None:
            drift.append(f"{name}: no time in {text!r:.40}")
    labels = {"experiment": project, "entity": entity, "user": user}
    return RunFacts(
        f"{entity}/{project}/{run.name}",
        {name: value for name, value in fields.items() if value is not None},
        {name: text[:TEXT_MAX_CHARS] for name, text in labels.items() if text},
        drift,
    )


def _metrics(
    summary: str | None, patterns: Sequence[str], drift: list[str]
) -> tuple[dict[str, float], list[str]]:
    """Numbers by name, and the names of those that are not finite. What else a summary holds (pictures,
    tables, what W&B keeps for itself under a leading _) is no metric."""
    if not summary:
        return {}, []
    try:
        items = msgspec.json.decode(summary, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        drift.append("summaryMetrics: it is no JSON object")
        return {}, []
    values: dict[str, float] = {}
    not_finite: list[str] = []
    for name, value in items.items():
        if not name or name.startswith("_") or len(name) > TEXT_MAX_CHARS:
            continue
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        if isinstance(value, str):
            not_finite += [name] if value in NOT_FINITE else []
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if -NUMBER_MAX <= value <= NUMBER_MAX:
                values[name] = float(value)
            else:
                not_finite.append(name)
    return values, not_finite


class _Setting(Struct):
    """One value of a configuration."""

    value: Any = None


def _job_id(config: str | None, key: str | None) -> str | None:
    """The value of that one key, if it looks like an id."""
    if not config or key is None:
        return None
    try:
        settings = msgspec.json.decode(config, type=dict[str, msgspec.Raw])
        value = msgspec.json.decode(settings[key], type=_Setting).value if key in settings else None
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip()
    return text if text and text.isprintable() and len(text) <= JOB_ID_MAX_CHARS else None
