"""What the problems of many pods, and the warnings about an object, come to. Pure.

A deployment with a thousand pods that crash has one problem, with a number.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from steersman.drivers.kubernetes.fact import newest, shown, when
from steersman.drivers.kubernetes.objects import Event, ObjectReference
from steersman.drivers.kubernetes.pods import PodFacts

PROBLEMS_MAX = 16
LATELY = timedelta(hours=1)
"""How long a container that was killed for want of memory, and runs again, counts as in trouble: as long as
Kubernetes keeps events by default."""
WARNINGS_PER_OBJECT_MAX = 5
OBJECTS_WITH_WARNINGS_MAX = 10_000


def problem_fields(pods: Iterable[PodFacts], now: datetime) -> dict[str, Any]:
    """`problems` by name, most frequent first, and `problem_details` with a number and one pod's words."""
    counts: dict[str, int] = {}
    details: dict[str, str] = {}
    for pod in pods:
        for reason, detail in {
            problem.reason: problem.detail
            for problem in pod.problems
            if problem.at is None or now - problem.at <= LATELY
        }.items():
            counts[reason] = counts.get(reason, 0) + 1
            details.setdefault(reason, detail)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:PROBLEMS_MAX]
    return {
        "problems": names,
        "problem_details": {
            name: f"{counts[name]} pods" + (f": {details[name]}" if details[name] else "") for name in names
        },
    }


def is_timed(pods: Iterable[PodFacts], now: datetime) -> bool:
    """Whether a problem of theirs will end by time alone."""
    return any(p.at is not None and now - p.at <= LATELY for pod in pods for p in pod.problems)


class Warnings:
    """Events of type Warning, by what they are about; of each object the newest few."""

    def __init__(self, objects_max: int = OBJECTS_WITH_WARNINGS_MAX) -> None:
        self._objects_max = objects_max
        self._of: dict[tuple[str, str], dict[str, Event]] = {}
        self._about: dict[str, tuple[str, str]] = {}

    def put(self, path: str, event: Event) -> tuple[str, str] | None:
        """Keep it; (kind, path) of what it is about, None where it is not kept."""
        about = event.involved_object
        if event.type != "Warning" or about is None or not about.name:
            return None
        key = _told_on(about)
        kept = self._of.get(key)
        if kept is None:
            if len(self._of) >= self._objects_max:
                return None
            kept = self._of[key] = {}
        kept[path] = event
        self._about[path] = key
        if len(kept) > WARNINGS_PER_OBJECT_MAX:
            oldest = min(kept, key=lambda name: (_seen_at(kept[name]) or _NEVER, name))
            del kept[oldest], self._about[oldest]
        return key

    def drop(self, path: str) -> tuple[str, str] | None:
        """The server forgot it, as it does after an hour; what it was about."""
        key = self._about.pop(path, None)
        if key is None:
            return None
        kept = self._of.get(key, {})
        kept.pop(path, None)
        if not kept:
            self._of.pop(key, None)
        return key

    def of(self, kind: str, path: str) -> dict[str, Any]:
        """The fields of an object that there are warnings about."""
        return warning_fields(self._of.get((kind, path), {}).values())

    def events(self, kind: str, path: str) -> list[Event]:
        """The warnings themselves."""
        return list(self._of.get((kind, path), {}).values())


def warning_fields(events: Iterable[Event]) -> dict[str, Any]:
    """`warnings`, newest first, and when the last one came."""
    kept = sorted(events, key=lambda event: _seen_at(event) or _NEVER, reverse=True)[:WARNINGS_PER_OBJECT_MAX]
    return {
        "warnings": [_line(event) for event in kept],
        "last_warning_at": newest(*(_seen_at(event) for event in kept)),
    }


def _told_on(about: ObjectReference) -> tuple[str, str]:
    """The kind and path that a warning is told on: a ReplicaSet's on its Deployment, which has its name
    without the hash."""
    in_namespace = bool(about.namespace) and about.kind not in ("Node", "Namespace", "ClusterQueue")
    path = f"{about.namespace}/{about.name}" if in_namespace else about.name
    return ("Deployment", path.rpartition("-")[0]) if about.kind == "ReplicaSet" else (about.kind, path)


_NEVER = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _seen_at(event: Event) -> datetime | None:
    series = event.series.last_observed_time if event.series is not None else None
    return newest(
        when(series), when(event.last_timestamp), when(event.event_time), when(event.first_timestamp)
    )


def _line(event: Event) -> str:
    count = (event.series.count if event.series is not None else None) or event.count or 1
    times = f" ×{count}" if count > 1 else ""  # noqa: RUF001 - the sign that people read as "times"
    said = shown(event.message)
    return f"{event.reason or 'Warning'}{times}" + (f": {said}" if said else "")
