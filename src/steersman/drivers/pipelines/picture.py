"""What one look at a system gathers, and the fragments of it: the same for both systems."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct, field

from steersman.drivers.api import DriverContext, Observation
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import ID_MAX_CHARS

T = TypeVar("T")

NOTES_MAX = 20
"""Warnings and drift lines of one look."""
STAGES_MAX = 20_000
"""Stages of one source; more is a mistake of whoever made them, and told."""
CLOCK_TOLERANCE = timedelta(seconds=5)
"""Two machines that keep their time by NTP differ by less."""


class Stage(Struct):
    """One stage as its system tells of it; what it does not tell stays None."""

    name: str
    pipeline: str
    state: str | None = None
    lag_seconds: float | None = None
    last_success_at: datetime | None = None
    more: dict[str, Any] = field(default_factory=dict[str, Any])
    labels: dict[str, str] = field(default_factory=dict[str, str])


class Daemon(Struct):
    """A part of the system itself: its scheduler, its triggerer. `up` is what the system says of it."""

    name: str
    up: bool | None = None
    heartbeat_at: datetime | None = None


def as_list(value: Any) -> list[Any] | None:
    """A JSON value as a list; None where it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def as_dict(value: Any) -> dict[str, Any]:
    """A JSON value as an object; empty where it is none, so that its parts are absent."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


class Picture:
    """Collects stages and daemons of one look. `complete` turns False with the first warning."""

    def __init__(self, at: datetime, place: str) -> None:
        self.at = at
        self.place = place
        self.stages: dict[str, Stage] = {}
        self.daemons: list[Daemon] = []
        self.all_pipelines: set[str] | None = None
        self.warnings: list[str] = []
        self.drift: list[str] = []

    def warn(self, line: str) -> None:
        """Something is missing."""
        _note(self.warnings, f"{self.place}: {line}")

    def odd(self, line: str) -> None:
        """Something is new to us."""
        _note(self.drift, line)

    def add(self, stage: Stage) -> None:
        """A stage; the first of a name counts."""
        if len(stage.name) > ID_MAX_CHARS or "\0" in stage.name:
            self.warn("a stage's name is too long")
        elif len(self.stages) >= STAGES_MAX:
            self.warn(f"more than {STAGES_MAX} stages; the rest is not told")
        else:
            self.stages.setdefault(stage.name, stage)

    def items(self, found: Any, kind: type[T], what: str) -> list[T]:
        """The items of a list that can be read; the others are counted and told. No list is told, too."""
        items = as_list(found)
        if items is None:
            self.warn(f"{what}: expected a list, got {type(found).__name__}")
            return []
        read: list[T] = []
        bad = 0
        for item in items:
            try:
                read.append(msgspec.convert(item, kind))
            except msgspec.ValidationError:
                bad += 1
        if bad:
            self.warn(f"{what}: {bad} of {len(read) + bad} can't be read")
        return read

    def time(self, value: datetime | None) -> datetime | None:
        """A time of the system's. One that lies ahead is worth no more than now."""
        if value is None or value.tzinfo is None:
            return None
        if value - self.at > CLOCK_TOLERANCE:
            self.odd("its clock is ahead of ours")
        return min(value, self.at)


class Teller:
    """Makes observations of pictures, and knows what was there before."""

    def __init__(self, context: DriverContext, labels: dict[str, str], source_type: str, host: str) -> None:
        self._context = context
        self._source_type = source_type
        self._host = host
        self._labels = dict(labels)
        self._stages: dict[str, str] = {}

    def tell(self, picture: Picture) -> Observation:
        """The observation. Stages of a pipeline that is in the whole list no more are gone."""
        seen = Observation(warnings=picture.warnings, drift=picture.drift, complete=not picture.warnings)
        for daemon in picture.daemons:
            fields: dict[str, Any] = {"up": daemon.up, "heartbeat_at": daemon.heartbeat_at}
            if daemon.heartbeat_at is not None:
                age_s = (picture.at - daemon.heartbeat_at).total_seconds()
                fields["heartbeat_age_seconds"] = max(0.0, age_s)
            labels = {**self._labels, "instance": self._host}
            name = f"{self._host}/{daemon.name}"
            seen.tell(
                self._context, self._source_type, (EntityType.SERVICE, name), picture.at, fields, labels
            )
        for stage in picture.stages.values():
            fields = {
                "stage_state": stage.state,
                "lag_seconds": stage.lag_seconds,
                "last_success_at": stage.last_success_at,
                **stage.more,
            }
            labels = {**stage.labels, **self._labels, "pipeline": stage.pipeline}
            key = (EntityType.DATA_PIPELINE_STAGE, stage.name)
            seen.tell(self._context, self._source_type, key, picture.at, fields, labels)
        self._tell_gone(seen, picture)
        return seen

    def _tell_gone(self, seen: Observation, picture: Picture) -> None:
        told = {stage.name: stage.pipeline for stage in picture.stages.values()}
        if picture.all_pipelines is not None:
            there = picture.all_pipelines
            gone = sorted(n for n, p in self._stages.items() if p not in there and n not in told)
            seen.gone = [
                EntityKey(EntityType.DATA_PIPELINE_STAGE, self._context.scope, name) for name in gone
            ]
            self._stages = {name: p for name, p in self._stages.items() if p in there}
        self._stages |= told


def _note(notes: list[str], line: str) -> None:
    if len(notes) < NOTES_MAX and line not in notes:
        notes.append(line)
