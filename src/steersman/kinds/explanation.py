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

UNHEARD = "unheard"
"""A source's state until it is heard, or an attempt to read it fails."""


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


AGREE, CONFLICT = "agree", "conflict"
"""What living sources that speak of one field do."""
LOST_BY_AGE = "older"
LOST_BY_PRIORITY = "lower priority"
LOST_BY_ARRIVAL = "earlier arrival"
"""Why a word does not stand: by observation time; at one time by the source's priority, then by arrival."""
AMBIGUOUS = "identity_ambiguous"
"""The condition of an entity of which is not known whether it is another one too."""


class OtherWord(Struct, frozen=True):
    """What another source says of the same field. `agrees` with what stands; `lost_by`: why it does not."""

    source: str
    value: Any
    observed_at: datetime
    agrees: bool = True
    lost_by: str = ""


class FieldExplanation(Struct, frozen=True):
    """A field with its provenance. `skewed`: its source's clock was ahead of ours and the stamp was moved.
    `cleared`: its source said that it is no more, and `value` is None. `agreement`: whether the
    living sources that speak of it agree or are in conflict; empty where one alone does."""

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
    agreement: str = ""


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
    """A planned state or another condition that holds and is not ill health: its name and why."""

    name: str
    detail: str


class HealthVerdict(Struct, frozen=True):
    """An entity's health.

    - `reasons`: the rules that spoke, worst first; where none did, what it rests on or what is missing.
    - `conditions`: planned states that hold, and doubts about which thing this is.
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


class Alias(Struct, frozen=True):
    """Another name under which sources speak of the entity: by which rule and on what evidence it was found
    to be the same, since when, and who calls it so."""

    name: str
    scope: str
    rule: str
    evidence: str
    since: datetime
    sources: tuple[str, ...] = ()


class Ambiguity(Struct, frozen=True):
    """It could be each of several others, or contradicts one, so it is kept by itself: by which rule, on what
    evidence, and which they are."""

    rule: str
    evidence: str
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        who = f"; could be {', '.join(self.candidates)}" if self.candidates else ""
        return f"{self.rule}: {self.evidence}{who}"


class IdentityReport(Struct, frozen=True):
    """What the entity is called elsewhere, and what is in doubt."""

    aliases: tuple[Alias, ...] = ()
    ambiguities: tuple[Ambiguity, ...] = ()


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
    identity: IdentityReport = field(default_factory=IdentityReport)


class HealthChange(Struct, frozen=True):
    """The health an entity took on, and when that was noticed."""

    at: datetime
    health: HealthState


class LifeChange(Struct, frozen=True):
    """A name became another thing: when that was noticed, and the field that told it, before and after."""

    at: datetime
    name: str
    field: str
    before: str
    after: str


class Sample(Struct, frozen=True):
    """The numeric fields at one moment; a field without a value then is left out."""

    at: datetime
    values: dict[str, float]


class StateChange(Struct, frozen=True):
    """What of an entity's state was otherwise from then on: fields with their new values, None for one that
    it has no more. State is what is no measurement: words, flags, lists, facts, and numbers that change
    seldom. `at` is when it was noticed."""

    at: datetime
    fields: dict[str, Any]


class EntityAt(Struct, frozen=True):
    """An entity as it looked at a moment, as far as that is remembered.

    - `known_since`: the moment before which nothing is remembered; None where nothing is.
    - `fields`: its state then, `health_state` among it; none where it was not there. `since`: when each of
      them was first noticed to be so.
    - `sample`: its last measurements at or before the moment, with their own time; none of before it was last
      gone.
    """

    at: datetime
    known_since: datetime | None = None
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    since: dict[str, datetime] = field(default_factory=dict[str, datetime])
    sample: Sample | None = None


class EntityHistory(Struct, frozen=True):
    """Recent samples, changes of health and of state, and when its name became another thing: all oldest
    first. The first change of state has everything that was known then."""

    samples: tuple[Sample, ...] = ()
    health: tuple[HealthChange, ...] = ()
    lives: tuple[LifeChange, ...] = ()
    states: tuple[StateChange, ...] = ()

    def at(self, moment: datetime) -> EntityAt:
        """What the entity looked like at a moment."""
        fields: dict[str, Any] = {}
        since: dict[str, datetime] = {}
        gone_at: datetime | None = None
        for change in self.states:
            if change.at > moment:
                break
            fields |= change.fields
            since |= dict.fromkeys(change.fields, change.at)
            if all(value is None for value in fields.values()):
                gone_at = change.at
        fields = {name: value for name, value in fields.items() if value is not None}
        return EntityAt(
            at=moment,
            known_since=self.states[0].at if self.states else None,
            fields=fields,
            since={name: since[name] for name in fields},
            sample=self._sample_at(moment, gone_at) if fields else None,
        )

    def _sample_at(self, moment: datetime, gone_at: datetime | None) -> Sample | None:
        found = next((sample for sample in reversed(self.samples) if sample.at <= moment), None)
        return found if found is None or gone_at is None or found.at >= gone_at else None
