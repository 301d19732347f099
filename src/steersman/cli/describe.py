"""`steersman describe`: one entity for a person, with the reasons for what is shown."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE
from steersman.cli.get import SCOPE
from steersman.cli.spec import Command, Option

if TYPE_CHECKING:
    from steersman.client import Steersman
    from steersman.kinds.entity import CanonicalEntity
    from steersman.kinds.explanation import Explanation

TARGET = (
    Option(("KIND",), "KIND/NAME, or a kind with the name behind it", "KIND/NAME"),
    Option(("NAME",), "the entity's name, where KIND does not hold it", optional=True),
    SCOPE,
)


def run(arguments: argparse.Namespace) -> int:
    """Print the entity, and in short how it is managed."""
    from steersman.cli.connection import connect, server_now
    from steersman.cli.explain import ask_both
    from steersman.cli.story import write_short_story
    from steersman.cli.target import read_target

    with connect(arguments) as plane:
        if arguments.at:
            return _describe_past(plane, arguments)
        explanation, story = ask_both(plane, arguments)
        now = server_now(plane)
        if explanation is not None:
            target = read_target(arguments.KIND, arguments.NAME, arguments.scope)
            entity = plane.entity(target.kind, target.name, explanation.key.scope)
            _write(entity, explanation, now)
        if story is not None:
            if explanation is not None:
                print()
            write_short_story(story, now)
    return DONE


def _describe_past(plane: Steersman, arguments: argparse.Namespace) -> int:
    from steersman.cli.connection import server_now
    from steersman.cli.past import read_moment, write_moment
    from steersman.cli.target import read_target

    target = read_target(arguments.KIND, arguments.NAME, arguments.scope)
    now = server_now(plane)
    seen = plane.entity_at(target.kind, target.name, read_moment(arguments.at, now), target.scope)
    write_moment(seen, f"{target.kind.value}/{target.name}", now)
    return DONE


def _write(entity: CanonicalEntity, explanation: Explanation, now: datetime) -> None:
    from steersman.cli.entities import health_word
    from steersman.cli.screen import plain_mapping, write_pairs
    from steersman.cli.units import ABSENT, one_line, show_value

    write_pairs(
        [
            ("Name", one_line(entity.entity_id)),
            ("Kind", entity.entity_type.value),
            ("Scope", one_line(entity.scope) or ABSENT),
            ("Health", health_word(entity)),
            ("Confidence", f"{entity.confidence_score:.2f}"),
            ("Freshness", entity.freshness),
            ("Observed", show_value(entity.observed_at, "", now)),
            ("Scheduler", entity.scheduler_domain.value),
            ("Workload", entity.workload_type.value),
            ("Labels", one_line(plain_mapping(entity.labels))),
            ("Sources", ", ".join(entity.sources) or ABSENT),
            ("Revision", str(entity.revision)),
        ]
    )
    write_reasons(explanation)
    _write_fields(explanation, now)


def write_reasons(explanation: Explanation) -> None:
    """Why the health is what it is, and what the confidence is made of."""
    from steersman.cli.screen import write_block
    from steersman.cli.units import one_line

    health = explanation.health
    write_block(
        f"Health by {health.table}",
        ("RULE", "HEALTH", "WHY"),
        [(reason.rule, reason.health.value, one_line(reason.detail)) for reason in health.reasons],
    )
    write_block(
        "Conditions", ("CONDITION", "WHY"), [(one.name, one_line(one.detail)) for one in health.conditions]
    )
    write_block(
        f"Confidence {explanation.confidence.score:.2f} is the product of",
        ("ITEM", "SCORE", "WHY"),
        [(item.name, f"{item.score:.2f}", one_line(item.detail)) for item in explanation.confidence.items],
    )


def _write_fields(explanation: Explanation, now: datetime) -> None:
    from steersman.cli.entities import shown_field
    from steersman.cli.screen import write_block
    from steersman.cli.units import one_line, show_age

    kind = explanation.key.entity_type
    rows = [
        (
            one_line(name),
            "(cleared)" if field.cleared else shown_field(kind, name, field.value, field.unit, now),
            show_age(field.age_s),
            field.freshness,
            field.source,
        )
        for name, field in sorted(explanation.fields.items())
    ]
    write_block("Fields", ("FIELD", "VALUE", "AGE", "STATE", "SOURCE"), rows)


COMMAND = Command(
    name="describe",
    summary="Show an entity's fields with unit, age, source and reasons",
    options=(
        *TARGET,
        Option(("--at",), "as it looked then: an ISO 8601 time, 03:10 (UTC), or 2h ago", "TIME"),
    ),
    run=run,
    examples=(
        "steersman describe node/$(hostname)",
        "steersman describe node/$(hostname) --at 10m",
        "steersman describe service inference-api --scope us-east-1",
    ),
)
