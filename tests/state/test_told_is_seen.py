"""What subscribers were told is what a reader sees, whatever happens: silence, clocks, promises, deletions.

A picture that is kept from deltas alone is compared with the bus after a random life of sources and entities.
Anything that changes by time alone and is not told would leave the two apart.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from bus_facts import GPU, JOB, NODE, said, world

from steersman.kernel.clock import ManualClock
from steersman.kernel.errors import InvalidInput
from steersman.kernel.ids import Rng, seeded_rng
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType
from steersman.state.bus import SWEEP_MAX, StateBus
from steersman.state.feed import Subscription
from steersman.state.limits import EntityTooWide
from steersman.state.sources import SourceInfo

SCOPE = EntityType.TENANT_SCOPE
VALUES: dict[EntityType, dict[str, Any]] = {
    GPU: {
        "gpu_utilization": 0.5,
        "temperature_celsius": 95.0,
        "ecc_errors": 1,
        "model_name": "H100",
        "recovery_action": "none",
        "xid": 79,
        "other": 1,
    },
    NODE: {
        "cpu_utilization": 0.5,
        "memory_utilization": 0.99,
        "gpu_count": 8,
        "scheduler_state": "DOWN",
        "hostname": "n",
    },
    SCOPE: {"scope_type": "namespace", "resource_usage": {"cpu": 1.0}},
    JOB: {"job_state": "failed", "exit_code": 1, "runtime_seconds": 5.0, "health_state": "critical"},
}
LATENESS_S = (0, 0, 0, 1, 7, 30, 300, -20)
CADENCES_S = (5.0, 10.0, 60.0)


def declare(bus: StateBus, name: str, rng: Rng) -> None:
    terms = {"priority": rng.randint(0, 2), "repeats": rng.random() < 0.7, "lag_s": rng.choice((0.0, 3.0))}
    bus.declare_source(SourceInfo(name, name, rng.choice(CADENCES_S), **terms))


def speak(bus: StateBus, clock: ManualClock, rng: Rng) -> None:
    kind = rng.choice(list(VALUES))
    known = VALUES[kind]
    names = rng.sample(list(known), rng.randint(0, len(known)))
    clear = tuple(rng.sample([*known, "labels.x"], rng.randint(0, 2))) if rng.random() < 0.2 else ()
    labels = rng.choice(({}, {}, {"x": "1"}, {"cluster": "k"}))
    when = clock.now() - timedelta(seconds=rng.choice(LATENESS_S))
    fields: Any = {name: known[name] for name in names}
    bus.put(said(when, rng.choice("abc"), rng.choice("pq"), kind, labels, clear, **fields))


def happen(bus: StateBus, clock: ManualClock, rng: Rng) -> None:
    """One thing that may happen to a bus."""
    what = rng.random()
    if what < 0.7:
        speak(bus, clock, rng)
    elif what < 0.8:
        ago = timedelta(seconds=rng.choice((0, 0, 5, 100)))
        bus.forget(rng.choice(list(VALUES)), rng.choice("pq"), rng.choice(("", "k")), clock.now() - ago)
    elif what < 0.87:
        bus.report_source(rng.choice("abc"), rng.random() < 0.7)
    elif what < 0.93:
        declare(bus, rng.choice("abc"), rng)
    else:
        clock.set_wall(clock.now() + timedelta(seconds=rng.choice((-86_400, -30, 30, 86_400))))


def sweep(bus: StateBus) -> None:
    while bus.sweep() >= SWEEP_MAX:
        pass


def follow(bus: StateBus, place: Subscription, kept: dict[EntityKey, CanonicalEntity]) -> None:
    """Take in all deltas so far."""
    bus.flush()
    while (delta := place.poll()) is not None:
        assert not delta.resync
        kept.update({entity.key: entity for entity in delta.entities})


def shown(entity: CanonicalEntity) -> tuple[Any, ...]:
    """What must not go unsaid. Confidence is left out: it falls with each failed attempt of a source."""
    rules = tuple(reason.rule for reason in entity.health_reasons)
    return entity.health_state, rules, entity.freshness, entity.labels, entity.extra


@pytest.mark.parametrize("seed", range(150))
def test_what_was_told_is_what_is_seen(seed: int) -> None:
    rng = seeded_rng(seed)
    bus, clock = world(tombstone_ttl_s=200.0, tombstones_max=5)
    for name in "abc":
        if rng.random() < 0.7:
            declare(bus, name, rng)
    kept: dict[EntityKey, CanonicalEntity] = {}
    with bus.subscribe() as place:
        for _ in range(rng.randint(5, 60)):
            try:
                happen(bus, clock, rng)
            except (InvalidInput, EntityTooWide):
                pass
            for _ in range(rng.choice((0, 1, 1, 3, 40))):
                clock.advance(rng.choice((1, 1, 2, 5)))
                sweep(bus)
            follow(bus, place, kept)
        for _ in range(3):
            clock.advance(1)
            sweep(bus)
        follow(bus, place, kept)
    seen = {entity.key: shown(entity) for entity in bus.entities()}
    assert {key: shown(entity) for key, entity in kept.items() if entity.deleted_at is None} == seen
