"""What is read of MLflow's answers (REST API 2.0): unknown keys are ignored, every key may be missing.

Whole numbers of 64 bits are numbers here and texts in some servers (that is how protobuf writes them in
JSON), and so is a number that is none ("NaN"). Items are kept undecoded until each is read by itself, so that
one of an odd shape costs only itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Raw, Struct, field

Number = int | float | str | None


class ExperimentPage(Struct):
    """An answer of experiments/search."""

    experiments: list[Raw] = field(default_factory=list[Raw])
    next_page_token: str | None = None


class Experiment(Struct):
    """One experiment."""

    experiment_id: str = ""
    name: str = ""


class RunPage(Struct):
    """An answer of runs/search."""

    runs: list[Raw] = field(default_factory=list[Raw])
    next_page_token: str | None = None


class OneRun(Struct):
    """An answer of runs/get."""

    run: Raw = Raw()


class RunInfo(Struct):
    """What a run is. Times are milliseconds since 1970."""

    run_id: str = ""
    run_uuid: str = ""
    experiment_id: str = ""
    run_name: str | None = None
    user_id: str | None = None
    status: str | None = None
    start_time: Number = None
    end_time: Number = None
    lifecycle_stage: str | None = None


class Metric(Struct):
    """The latest value of one metric."""

    key: str = ""
    value: Number = None
    timestamp: Number = None


class Pair(Struct):
    """A parameter or a tag."""

    key: str = ""
    value: str | None = None


class RunData(Struct):
    """What a run has logged."""

    metrics: list[Metric] = field(default_factory=list[Metric])
    params: list[Pair] = field(default_factory=list[Pair])
    tags: list[Pair] = field(default_factory=list[Pair])


class Run(Struct):
    """One run."""

    info: RunInfo = field(default_factory=RunInfo)
    data: RunData = field(default_factory=RunData)

    @property
    def id(self) -> str:
        """Its id; servers before 1.0 know it by another name."""
        return self.info.run_id or self.info.run_uuid

    @property
    def deleted(self) -> bool:
        """Whether it is in the bin."""
        return self.info.lifecycle_stage == "deleted"

    @property
    def ended(self) -> bool:
        """Whether it has come to an end. A word that is not known has, where there is a time of it."""
        if self.info.status in ENDED:
            return True
        return self.info.status not in LIVE and time_of(self.info.end_time) is not None


LIVE = frozenset({"RUNNING", "SCHEDULED"})
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
"""The words for a run's state that MLflow's protocol has."""


class ModelPage(Struct):
    """An answer of registered-models/search."""

    registered_models: list[Raw] = field(default_factory=list[Raw])
    next_page_token: str | None = None


class Alias(Struct):
    """A name that stands for a version."""

    alias: str = ""
    version: Number = None


class Model(Struct):
    """One registered model."""

    name: str = ""
    aliases: list[Alias] = field(default_factory=list[Alias])


class VersionPage(Struct):
    """An answer of model-versions/search."""

    model_versions: list[Raw] = field(default_factory=list[Raw])
    next_page_token: str | None = None


class Version(Struct):
    """One version of a model."""

    name: str = ""
    version: Number = None
    status: str | None = None
    current_stage: str | None = None
    run_id: str | None = None
    aliases: list[str] = field(default_factory=list[str])


class Problem(Struct):
    """What MLflow says of an error."""

    error_code: str = ""


def time_of(stamp: Number) -> datetime | None:
    """The time of milliseconds since 1970; None for none, zero, or one that no calendar holds."""
    try:
        seconds = int(stamp) / 1000.0 if stamp is not None else 0.0
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
