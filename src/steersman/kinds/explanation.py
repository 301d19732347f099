"""Why an entity looks as it does: provenance of each field, freshness, health, confidence, history.

The State Bus makes these from what it holds; the API sends them as they are; the client reads them back into
the same types. All of them describe one moment, and none is ever stored. A later version may say more: what
may be missing from an older one's answer has a default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from steersman.kinds.entity import EntityKey, HealthReason, HealthState


class SourceStatus(Struct, frozen=True):
    """A source as it stands: `state` is alive, failing (its last attempt failed), silent (dead: not heard for
    five cadences) or unheard (declared, nothing yet)."""

    name: str
    source_type: str
    cadence_s: float
    priority: int
    declared: bool
    state: str
    heard_at: datetime | None = None
    silent_s: float | None = None
    failures: int = 0
    detail: str = ""


class OtherWord(Struct, frozen=True):
    """What another source says of the same field, which lost to a newer word."""

    source: str
    value: Any
    observed_at: datetime


class FieldExplanation(Struct, frozen=True):
    """A field with its provenance. `skewed`: its source's clock was ahead of ours and the stamp was moved.
    `cleared`: its source said that it is no more, and `value` is None."""

    value: Any
    source: str
    source_type: str
    observed_at: datetime
    received_at: datetime
    age_s: float
    freshness: str
    pace: str
    unit: str
    skewed: bool = False
    cleared: bool = False
    others: tuple[OtherWord, ...] = ()


class LabelExplanation(Struct, frozen=True):
    """A label with its provenance."""

    value: str
    source: str
    observed_at: datetime


class FieldFreshness(Struct, frozen=True):
    """One field: its age, its class, and what it was judged by."""

    age_s: float
    state: str
    pace: str
    source: str


class Freshness(Struct, frozen=True):
    """An entity: `age_s` is that of its newest observation.

    `state`: expired where nothing is still current; fresh where every expected field that is known is fresh;
    stale between the two. Fields of pace `event` do not count.
    """

    state: str
    age_s: float
    fields: dict[str, FieldFreshness] = field(default_factory=dict[str, FieldFreshness])


class PlannedState(Struct, frozen=True):
    """A planned state that holds, which is not ill health: its name and why."""

    name: str
    detail: str


class HealthVerdict(Struct, frozen=True):
    """An entity's health.

    - `reasons`: the rules that spoke, worst first; where none did, what it rests on or what is missing.
    - `conditions`: planned states that hold.
    - `unjudged`: rules that could not be judged, each with the signals that are missing or out of date.
    - `table`: the table and its version.
    """

    health: HealthState
    reasons: tuple[HealthReason, ...] = ()
    conditions: tuple[PlannedState, ...] = ()
    unjudged: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    table: str = ""


class ConfidenceItem(Struct, frozen=True):
    """One factor and what it was worked out from."""

    name: str
    score: float
    detail: str


class Confidence(Struct, frozen=True):
    """A score from 0 to 1: the product of the items' scores."""

    score: float
    items: tuple[ConfidenceItem, ...] = ()


class Explanation(Struct, frozen=True):
    """Why an entity looks as it does."""

    key: EntityKey
    revision: int
    deleted_at: datetime | None
    fields: dict[str, FieldExplanation]
    labels: dict[str, LabelExplanation]
    freshness: Freshness
    health: HealthVerdict
    confidence: Confidence
    sources: tuple[SourceStatus, ...] = ()


class HealthChange(Struct, frozen=True):
    """The health an entity took on, and when that was noticed."""

    at: datetime
    health: HealthState


class Sample(Struct, frozen=True):
    """The numeric fields at one moment; a field without a value then is left out."""

    at: datetime
    values: dict[str, float]


class EntityHistory(Struct, frozen=True):
    """Recent samples and changes of health: both oldest first."""

    samples: tuple[Sample, ...] = ()
    health: tuple[HealthChange, ...] = ()
