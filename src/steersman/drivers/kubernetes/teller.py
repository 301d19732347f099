"""From facts to fragments: what changed at once, the rest now and then, so that nothing true grows old.

A source's fragments are judged by their age. A watch tells only changes, so what stays is told again: what
changes quickly with each look, what changes slowly over some looks, a share with each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from zlib import crc32

from msgspec import Struct

from steersman.drivers.api import Observation
from steersman.drivers.kubernetes.bundles import Told
from steersman.drivers.kubernetes.fact import Fact
from steersman.drivers.kubernetes.picture import ClusterPicture, FactKey
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import SCOPE_LABEL, FragmentInvalid, StateFragment

LOOKS_BETWEEN = 5
"""A thing of slow fields is told again after so many looks: they are fresh for twenty."""
SLOW_TYPES = frozenset(
    {EntityType.GPU, EntityType.DEPLOYMENT, EntityType.MODEL_REVISION, EntityType.CONFIG_SNAPSHOT}
)
WARNINGS_MAX = 20
LABEL_CLEAR_PREFIX = "labels."
"""How a label is named among the fields to clear; a field can't begin so."""


class Voice(Struct, frozen=True):
    """In whose name fragments are told."""

    source_type: str
    source: str
    scope: str
    labels: dict[str, str]


class _Record(Struct, frozen=True):
    """What was last told of an entity."""

    fields: frozenset[str]
    labels: frozenset[str]
    at: datetime


class Teller:
    """Remembers what was told of each entity: to take back what is no more, and to tell again in time."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._records: dict[FactKey, _Record] = {}
        self._fresh: dict[FactKey, _Record] = {}
        self._looks = 0

    def tell(
        self, picture: ClusterPicture, seen_at: Mapping[str, datetime], now: datetime, seen: Observation
    ) -> Iterator[None]:
        """Put fragments into `seen`, one with each step. `told` is called once nothing can go wrong any more;
        what was told in steps before counts only then. `seen_at` says when each kind was last true."""
        fresh = self._fresh = {}
        for key, told in picture.facts.items():
            at = seen_at.get(told.kind, now) if told.kind else now
            before = self._records.get(key)
            changed = key in picture.changed
            if before is not None and at < before.at:
                at = before.at  # the server was heard later than the kind's own stream
            if not changed and before is not None and (at <= before.at or not self._is_due(key)):
                continue
            fragment = self._fragment(told, at, now, before, seen)
            if fragment is not None:
                seen.fragments.append(fragment)
                fresh[key] = _record(fragment, before if told.omitted else None)
                yield
        seen.gone += (EntityKey(kind, self._voice.scope, self._id(kind, name)) for kind, name in picture.gone)

    def told(self, picture: ClusterPicture) -> None:
        """The observation is handed on."""
        for key in picture.gone:
            self._records.pop(key, None)
        self._records.update(self._fresh)
        self._looks += 1
        picture.settled()

    def _is_due(self, key: FactKey) -> bool:
        if key[0] not in SLOW_TYPES:
            return True
        return crc32(key[1].encode(errors="replace")) % LOOKS_BETWEEN == self._looks % LOOKS_BETWEEN

    def _id(self, kind: EntityType, name: str) -> str:
        if kind is EntityType.SCHEDULER_DOMAIN:
            return self._voice.scope or self._voice.source
        return name

    def _fragment(
        self, told: Told, at: datetime, now: datetime, before: _Record | None, seen: Observation
    ) -> StateFragment | None:
        fact, voice = told.fact, self._voice
        labels = {**fact.labels, **voice.labels}
        if voice.scope:
            labels[SCOPE_LABEL] = voice.scope
        fields = _with_runtime(fact, now)
        clear: list[str] = []
        if before is not None:
            clear = sorted(before.fields - fields.keys() - told.omitted)
            clear += sorted(f"{LABEL_CLEAR_PREFIX}{name}" for name in before.labels - labels.keys())
        try:
            return StateFragment(
                source_type=voice.source_type,
                source=voice.source,
                entity_type=fact.entity_type,
                entity_id=self._id(fact.entity_type, fact.entity_id),
                observed_at=at,
                fields=fields,
                labels=labels,
                clear=tuple(clear),
            )
        except FragmentInvalid as error:
            if len(seen.warnings) < WARNINGS_MAX:
                seen.warnings.append(f"{fact.entity_type.value}: {error.detail}")
            return None


def _record(fragment: StateFragment, before: _Record | None) -> _Record:
    fields = frozenset(fragment.fields)
    if before is not None:
        fields |= before.fields  # what is silent was not taken back, and may have to be later
    return _Record(fields, frozenset(fragment.labels), fragment.observed_at)


def _with_runtime(fact: Fact, now: datetime) -> dict[str, Any]:
    """The time of a job that runs goes on, without its object changing."""
    fields = fact.fields
    began = fields.get("started_at")
    if fact.entity_type is EntityType.JOB and fields.get("job_state") == "running" and began is not None:
        return {**fields, "runtime_seconds": max(0.0, (now - began).total_seconds())}
    return fields
