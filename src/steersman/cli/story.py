"""The story of a managed thing for a person: where it is, where it goes and why, what it waits for."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from steersman.cli.managed import action_text, work_word, write_history
from steersman.cli.screen import write_block, write_pairs
from steersman.cli.units import ABSENT, one_line, show_age

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steersman.kinds.policy import FactRead
    from steersman.kinds.story import Story

_VALUE_MAX_CHARS = 60


def write_story(story: Story, now: datetime) -> None:
    """All of it: the short form, then who decided on which facts, and what was done."""
    write_short_story(story, now)
    set_by = story.going.set_by
    if set_by is not None:
        write_facts(f"Facts behind the intent of {one_line(set_by.actor)}", set_by.facts)
    if story.observed is not None:
        health = story.observed.health
        write_block(
            f"Observed as {one_line(story.observed.entity)}: {health.health.value}",
            ("RULE", "HEALTH", "WHY"),
            [(reason.rule, reason.health.value, one_line(reason.detail)) for reason in health.reasons],
        )
    _write_recommendations(story, now)
    if story.history:
        print("\nLast changes, newest first:")
        write_history(story.history)


def write_short_story(story: Story, now: datetime) -> None:
    """Where it is, whether it may take work, where it goes, and what it waits for."""
    state, place = story.resource.state, story.place
    pairs = [
        ("Managed as", f"{state.resource_type}/{one_line(state.id)}, version {state.version}"),
        ("Status", f"{place.status} for {_since(place.since, now)} ({place.lifecycle})"),
        ("Desired", _desired(story)),
        ("Set by", _set_by(story)),
        ("Path", _path(story)),
        ("May take work", _work(story)),
        ("Waits for", _waits(story, now)),
    ]
    if place.deadline is not None:
        then = f", then {place.on_timeout}" if place.on_timeout else ""
        pairs.append(("Deadline", f"{_until(place.deadline, now)}{then}"))
    if story.frozen is not None:
        frozen = story.frozen
        why = f": {one_line(frozen.reason)}" if frozen.reason else ""
        pairs.append(("Frozen", f"by {one_line(frozen.by)}, {_since(frozen.since, now)} ago{why}"))
    if story.retry is not None:
        retry = story.retry
        pairs.append(("Failures", f"{retry.failures} of {retry.budget}: {one_line(retry.error) or ABSENT}"))
    write_pairs(pairs)
    write_block(
        "Conditions",
        ("CONDITION", "IS", "SINCE", "SOURCE", "WHY"),
        [
            (
                one.type,
                one.status.value,
                _since(one.changed_at or one.observed_at, now),
                one_line(one.source),
                one_line(": ".join(part for part in (one.reason, one.message) if part)) or ABSENT,
            )
            for one in story.conditions
        ],
    )
    write_block(
        "Holds",
        ("HOLD", "OWNER", "AGE", "UNTIL", "WHY"),
        [
            (
                one_line(one.name),
                one_line(one.owner),
                _since(one.placed_at, now),
                _until(one.expires_at, now) if one.expires_at else "it is lifted",
                one_line(one.reason) or ABSENT,
            )
            for one in story.holds
        ],
    )


def write_facts(title: str, facts: Sequence[FactRead]) -> None:
    """Facts that a decision read."""
    write_block(
        title,
        ("ENTITY", "FIELD", "VALUE", "SOURCE", "AGE"),
        [
            (
                one_line(one.entity),
                one_line(one.field),
                one_line(f"{one.value}")[:_VALUE_MAX_CHARS] + (f" {one.unit}" if one.unit else ""),
                one_line(one.source),
                show_age(one.age_s),
            )
            for one in facts
        ],
    )


def _write_recommendations(story: Story, now: datetime) -> None:
    rows: list[tuple[str, ...]] = []
    for one in story.recommendations:
        state: Any = one.state
        value = state.recommendation
        if value is None:
            continue
        stopped = [
            f"{given.guardrail.value}: {given.detail}"
            for given in state.guardrails or ()
            if given.verdict.value != "passed"
        ]
        rows.append(
            (
                one_line(state.id),
                state.status,
                one_line(value.policy),
                action_text(value.action),
                _since(value.created_at, now),
                one_line("; ".join([value.reason, *stopped])) or ABSENT,
            )
        )
    write_block("Recommendations about it", ("NAME", "STATUS", "POLICY", "ACTION", "AGE", "WHY"), rows)


def _desired(story: Story) -> str:
    going = story.going
    if going.desired_status is None:
        return "nothing: nobody has said"
    return f"{going.desired_status} ({'reached' if going.converged else 'not reached'})"


def _set_by(story: Story) -> str:
    going = story.going
    if going.desired_status is None:
        return ABSENT
    cause = going.set_by.cause if going.set_by is not None else ""
    why = f": {one_line(going.reason)}" if going.reason else ""
    return f"{one_line(going.by) or 'nobody on record'}{why}" + (
        f" (cause {one_line(cause)})" if cause else ""
    )


def _path(story: Story) -> str:
    going = story.going
    if going.no_path:
        return f"none: {one_line(going.no_path)}"
    if not going.path:
        return ABSENT
    return " ".join([going.path[0].source, *(f"-{step.event}-> {step.to}" for step in going.path)])


def _work(story: Story) -> str:
    reasons = story.work.reasons if story.work is not None else ()
    return ": ".join([work_word(story.resource), *([one_line("; ".join(reasons))] if reasons else [])])


def _waits(story: Story, now: datetime) -> str:
    operation, loop = story.operation, story.loop
    parts: list[str] = []
    if operation is not None:
        step = f", step {operation.step}" if operation.step else ""
        parts.append(f"{operation.kind} is {operation.phase.value}{step}")
        parts += [one_line(one) for one in (operation.detail, operation.waiting_for) if one]
    if loop is not None and loop.outcome not in ("", "done"):
        parts += [one_line(one) for one in (loop.reason, loop.needs) if one]
        if loop.next_at is not None:
            parts.append(f"looked at again {_until(loop.next_at, now)}")
    return "; ".join(parts) or "nothing"


def _since(when: datetime, now: datetime) -> str:
    return show_age((now - when).total_seconds())


def _until(when: datetime, now: datetime) -> str:
    left_s = (when - now).total_seconds()
    return f"in {show_age(left_s)}" if left_s >= 0 else f"{show_age(-left_s)} ago"
