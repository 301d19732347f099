"""The bus's bounds, and the typed errors that say one was reached."""

from __future__ import annotations

from msgspec import Struct

from steersman.kernel.errors import InvalidInput, TooLarge, Unavailable
from steersman.kinds.fragment import FIELDS_MAX, LABELS_MAX

ENTITIES_MAX = 500_000
"""Entities and tombstones together: above the 112,500 of the largest fleet we size for, within 2 GiB."""
FIELDS_PER_ENTITY_MAX = FIELDS_MAX
LABELS_PER_ENTITY_MAX = LABELS_MAX
"""No more than one fragment may hold, so that what a source said can always be folded into one."""
SOURCES_MAX = 50_000
"""An agent on each node of the largest fleet may be a source of its own."""
SOURCES_PER_ENTITY_MAX = 32
TOMBSTONES_MAX = 50_000
TOMBSTONE_TTL_S = 86_400.0
"""A day: longer than any queue, proxy or disconnected agent we know of holds back an old observation."""
SKEW_MAX_S = 60.0
"""How far a stamp may lie ahead of our clock. NTP keeps hosts within a second; a minute is a broken clock."""
CADENCE_DEFAULT_S = 60.0
"""Assumed of a source that was never declared: the slowest common scrape interval."""
CHANGES_MAX = 262_144
"""Changes that the feed remembers: 23 s of a fleet of 112,500 entities at a cadence of 10 s."""
HISTORY_VALUES_MAX = 16_000_000
"""Numbers kept for sparklines, over all entities: 128 MiB."""
HISTORY_SAMPLES_MAX = 240
"""Samples of one entity, however few entities there are."""
HISTORY_SAMPLES_PER_S = 500.0
"""Samples taken each second over all entities: bounds the work, and so the resolution in big fleets."""
HEALTH_CHANGES_MAX = 32
STATE_CHANGES_MAX = 64
"""Changes of state that are remembered of one entity: a node that flaps every ten minutes for ten hours."""
DRIFT_MAX = 256
SUBSCRIPTIONS_MAX = 10_000


class BusLimits(Struct, frozen=True, kw_only=True):
    """How much one bus holds. Each reached bound is a typed error or a counted drop; see `counters`."""

    entities_max: int = ENTITIES_MAX
    fields_per_entity_max: int = FIELDS_PER_ENTITY_MAX
    labels_per_entity_max: int = LABELS_PER_ENTITY_MAX
    sources_max: int = SOURCES_MAX
    sources_per_entity_max: int = SOURCES_PER_ENTITY_MAX
    tombstones_max: int = TOMBSTONES_MAX
    tombstone_ttl_s: float = TOMBSTONE_TTL_S
    skew_max_s: float = SKEW_MAX_S
    cadence_default_s: float = CADENCE_DEFAULT_S
    changes_max: int = CHANGES_MAX
    history_values_max: int = HISTORY_VALUES_MAX
    history_samples_max: int = HISTORY_SAMPLES_MAX
    history_samples_per_s: float = HISTORY_SAMPLES_PER_S
    health_changes_max: int = HEALTH_CHANGES_MAX
    state_changes_max: int = STATE_CHANGES_MAX
    drift_max: int = DRIFT_MAX
    subscriptions_max: int = SUBSCRIPTIONS_MAX


class FutureTimestamp(InvalidInput):
    """A fragment's stamp lies further ahead of our clock than skew explains. `facts`: both times."""

    code = "future_timestamp"
    title = "Time stamp from the future"


class AmbiguousScope(InvalidInput):
    """An id without a scope names entities in several scopes. `facts`: `scopes`."""

    code = "ambiguous_scope"
    title = "Scope needed"


class BusFull(Unavailable):
    """No room for another entity or source. `facts`: `limit`."""

    code = "bus_full"
    title = "State bus full"


class EntityTooWide(TooLarge):
    """An entity would have more fields, labels or sources than are kept. `facts`: `limit`."""

    code = "entity_too_wide"
    title = "Entity too wide"


class RevisionsExhausted(Unavailable):
    """The reserved revisions are used up, because the store could not grant more for a long time."""

    code = "revisions_exhausted"
    title = "No revision left"
