"""`steersman explain`: full provenance, so that no value has to be taken on trust."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from steersman.cli.describe import TARGET, write_reasons
from steersman.cli.exits import DONE
from steersman.cli.spec import Command, Option

if TYPE_CHECKING:
    from steersman.client import Steersman
    from steersman.kinds.explanation import Explanation
    from steersman.kinds.story import Story

OPTIONS = (
    *TARGET,
    Option(("-o", "--output"), "tables, or plain values", default="table", choices=("table", "json", "yaml")),
)


def run(arguments: argparse.Namespace) -> int:
    """Print where every value comes from, and the story of what is managed."""
    from steersman.cli.connection import connect, server_now
    from steersman.cli.screen import write_data
    from steersman.cli.story import write_story
    from steersman.kinds.managed import plain_answer

    with connect(arguments) as plane:
        explanation, story = ask_both(plane, arguments)
        if arguments.output != "table":
            if story is None:
                write_data(explanation, arguments.output)
            elif explanation is None:
                write_data(plain_answer(story), arguments.output)
            else:
                whole = {**plain_answer(explanation), "managed": plain_answer(story)}
                write_data(whole, arguments.output)
            return DONE
        now = server_now(plane)
        if story is not None:
            write_story(story, now)
        if explanation is not None:
            if story is not None:
                print()
            _write(explanation, now)
    return DONE


def ask_both(plane: Steersman, arguments: argparse.Namespace) -> tuple[Explanation | None, Story | None]:
    """What is observed of a thing and how it is managed; one of them may be missing. Raises the errors of the
    entity where there is neither, `WrongUsage` for a word that names nothing."""
    from steersman.cli.target import read_target
    from steersman.kernel.errors import NotFound, Unavailable
    from steersman.kinds.names import kind_of, resource_kind_of

    word: str = arguments.KIND
    head, slash, rest = word.partition("/")
    kind, name = resource_kind_of(head), rest if slash else arguments.NAME
    explanation: Explanation | None = None
    absent: NotFound | None = None
    if kind is None or kind_of(head) is not None or not name:
        try:
            explanation = plane.explain(*read_target(word, arguments.NAME, arguments.scope))
        except NotFound as error:
            absent = error
    if kind is None or not name:
        if absent is not None:
            raise absent
        return explanation, None
    refused: NotFound | Unavailable | None = None
    for resource_id in _resource_ids(name, explanation):
        try:
            story = plane.story(kind, resource_id)
        except (NotFound, Unavailable) as error:
            refused = refused or error
        else:
            if explanation is None or _is_of(story, explanation.key.scope):
                return explanation, story
    if explanation is None:
        raise absent or refused or NotFound(f"there is no {word}")
    return explanation, None


def _is_of(story: Story, scope: str) -> bool:
    """Whether it may be the resource of an entity of that scope: nodes have one, other kinds do not."""
    from steersman.kinds.state import NodeState

    state = story.resource.state
    return not isinstance(state, NodeState) or state.scope == scope


def _resource_ids(name: str, explanation: Explanation | None) -> list[str]:
    """The names that its resource may have: the entity's, whatever it was called by, and then the word."""
    if explanation is None:
        return [name]
    key = explanation.key
    own = [key.entity_id, f"{key.entity_id}@{key.scope}"] if key.scope else [key.entity_id]
    return list(dict.fromkeys((*own, name)))


def _write(explanation: Explanation, now: datetime) -> None:
    from steersman.cli.entities import shown_field
    from steersman.cli.screen import write_block, write_pairs
    from steersman.cli.units import ABSENT, one_line, show_age

    key = explanation.key
    write_pairs(
        [
            ("Entity", f"{key.entity_type.value}/{one_line(key.entity_id)}"),
            ("Scope", one_line(key.scope) or ABSENT),
            ("Freshness", f"{explanation.freshness.state} ({show_age(explanation.freshness.age_s)})"),
            ("Revision", str(explanation.revision)),
        ]
    )
    write_reasons(explanation)
    unjudged = [(rule, ", ".join(missing)) for rule, missing in sorted(explanation.health.unjudged.items())]
    write_block("Rules that could not be judged", ("RULE", "MISSING"), unjudged)
    rows = [
        (
            one_line(name),
            "(cleared)"
            if field.cleared
            else shown_field(key.entity_type, name, field.value, field.unit, now),
            field.source,
            _stamp(field.observed_at) + (" (skewed)" if field.skewed else ""),
            _stamp(field.received_at),
            show_age(field.age_s),
            f"{field.freshness} ({field.pace})",
            "; ".join(
                f"{one.source}: {shown_field(key.entity_type, name, one.value, field.unit, now)}"
                + (f" ({one.lost_by})" if one.lost_by else "")
                for one in field.others
            )
            or ABSENT,
            field.agreement or ABSENT,
        )
        for name, field in sorted(explanation.fields.items())
    ]
    headings = ("FIELD", "VALUE", "SOURCE", "OBSERVED", "RECEIVED", "AGE", "STATE", "OTHERS_SAY", "SOURCES")
    write_block("Fields", headings, rows)
    _write_names(explanation)
    labels = [
        (one_line(name), one_line(label.value), label.source, _stamp(label.observed_at))
        for name, label in sorted(explanation.labels.items())
    ]
    write_block("Labels", ("LABEL", "VALUE", "SOURCE", "OBSERVED"), labels)
    sources = [
        (
            one.name,
            one.source_type,
            one.state,
            f"{one.cadence_s:g}s",
            str(one.priority),
            one_line(one.detail) or ABSENT,
        )
        for one in explanation.sources
    ]
    write_block("Sources", ("SOURCE", "TYPE", "STATE", "CADENCE", "PRIORITY", "DETAIL"), sources)


def _write_names(explanation: Explanation) -> None:
    """What the entity is called elsewhere, and what is in doubt."""
    from steersman.cli.screen import write_block
    from steersman.cli.units import ABSENT, one_line

    scope = explanation.key.scope
    names = [
        (
            one_line(one.name if one.scope == scope else f"{one.scope}/{one.name}"),
            ", ".join(map(one_line, one.sources)) or ABSENT,
            one.rule,
            one_line(one.evidence),
            _stamp(one.since),
        )
        for one in explanation.identity.aliases
    ]
    write_block("Also called", ("NAME", "BY", "RULE", "EVIDENCE", "SINCE"), names)
    doubts = [
        (one.rule, one_line(one.evidence), ", ".join(map(one_line, one.candidates)) or ABSENT)
        for one in explanation.identity.ambiguities
    ]
    write_block("Identity in doubt", ("RULE", "EVIDENCE", "COULD_BE"), doubts)


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


COMMAND = Command(
    name="explain",
    summary="Show where every value of an entity comes from",
    about=(
        "For each value: the source that wrote it, when it was seen and received, what other sources say.\n"
        "For what is managed: where it is, whether it may take work, where it goes, who said so and on\n"
        "which facts, what it waits for, and what was done last."
    ),
    options=OPTIONS,
    run=run,
    examples=(
        "steersman explain node/$(hostname)",
        "steersman explain gpu/GPU-7c1f -o json",
        "steersman explain policy/node-pressure",
    ),
)
