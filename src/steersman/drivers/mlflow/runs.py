"""From a run to the fields of an `experiment_tracker`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct, field

from steersman.drivers.mlflow.options import MlflowOptions
from steersman.drivers.mlflow.shapes import ENDED, LIVE, Metric, Pair, Run, time_of
from steersman.kinds.fields import NUMBER_MAX

METRICS_MAX = 64
"""Metrics of a run that are copied, first in the order of names: a run may have thousands."""
PARAM_MAX_CHARS = 256
LABEL_MAX_CHARS = 250
JOB_ID_MAX_CHARS = 128

PARENT_TAG = "mlflow.parentRunId"
USER_TAG = "mlflow.user"
NAME_TAG = "mlflow.runName"


class RunFacts(Struct):
    """What is to be told of one run."""

    run_id: str
    fields: dict[str, Any]
    labels: dict[str, str]
    clear: tuple[str, ...] = ()
    drift: list[str] = field(default_factory=list[str])


def run_facts(
    run: Run, heartbeat_at: datetime | None, experiments: Mapping[str, str], options: MlflowOptions
) -> RunFacts:
    """The fields of one run whose last sign of life was at `heartbeat_at`; `experiments` has names by id."""
    info, data = run.info, run.data
    tags = {tag.key: tag.value for tag in data.tags if tag.value}
    experiment = experiments.get(info.experiment_id)
    ended_at = time_of(info.end_time) if run.ended else None
    values, not_finite = _metrics(data.metrics, options.metrics)
    fields: dict[str, Any] = {
        "run_state": info.status,
        "experiment": experiment,
        "run_name": info.run_name or tags.get(NAME_TAG),
        "started_at": time_of(info.start_time),
        "ended_at": ended_at,
        "metrics": dict(sorted(values.items())[:METRICS_MAX]),
        "metrics_not_finite": not_finite[:METRICS_MAX],
        "heartbeat_at": heartbeat_at,
        "heartbeat_timeout_s": float(options.silent_after),
        "job_id": _job_id(tags, options.job_tags),
        "parent_run_id": tags.get(PARENT_TAG),
        "params": _params(data.params, options.params),
    }
    labels = {"experiment": experiment, "user": tags.get(USER_TAG) or info.user_id}
    drift: list[str] = []
    if info.status not in LIVE | ENDED:
        drift.append(f"run_state: unknown word {info.status!r:.60}")
    return RunFacts(
        run.id,
        {name: value for name, value in fields.items() if value is not None},
        {name: text[:LABEL_MAX_CHARS] for name, text in labels.items() if text and text != "unknown"},
        () if ended_at is not None else ("ended_at",),
        drift,
    )


def _metrics(metrics: Sequence[Metric], patterns: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """Latest values by name, and the names of those that are no finite number.

    A database that has no infinity keeps the largest number there is instead, which is beyond what a field
    holds; so that is one too.
    """
    values: dict[str, float] = {}
    not_finite: list[str] = []
    for metric in metrics:
        if "*" not in patterns and not any(fnmatchcase(metric.key, pattern) for pattern in patterns):
            continue
        try:
            value = float(metric.value) if metric.value is not None else None
        except ValueError:
            continue
        if value is None or not metric.key:
            continue
        if -NUMBER_MAX <= value <= NUMBER_MAX:
            values[metric.key] = value
        else:
            not_finite.append(metric.key)
    return values, sorted(not_finite)


def _job_id(tags: Mapping[str, str | None], names: Sequence[str]) -> str | None:
    for name in names:
        text = (tags.get(name) or "").strip()
        if text and text.isprintable() and len(text) <= JOB_ID_MAX_CHARS:
            return text
    return None


def _params(params: Sequence[Pair], names: Sequence[str]) -> dict[str, str] | None:
    """Those that were asked for by name, and no other."""
    chosen = {
        param.key: param.value[:PARAM_MAX_CHARS]
        for param in params
        if param.key in names and param.value is not None
    }
    return chosen or None
