"""Managed things as text: rows, results of changes, history; and what a command is about, as it was typed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from steersman.cli.exits import WrongUsage
from steersman.cli.screen import note, plain_mapping, write_data, write_table
from steersman.cli.spec import Option, did_you_mean
from steersman.cli.units import ABSENT, one_line, show_age
from steersman.kinds.names import RESOURCE_FORMS, resource_kind_of
from steersman.kinds.state import ResourceRef

if TYPE_CHECKING:
    from steersman.kinds.command import HistoryEntry
    from steersman.kinds.managed import Changed, Managed

REASON = Option(("--reason",), "why; it is kept in history", "TEXT", default="")
RESOURCE = (Option(("RESOURCE",), "KIND/NAME, or the name of a node", "KIND/NAME"),)
FORM = Option(("-o", "--output"), "text, or plain values", default="table", choices=("table", "json", "yaml"))


def read_resource(word: str) -> ResourceRef:
    """`KIND/NAME`; a word without a kind is a node's name. Raises `WrongUsage`."""
    head, slash, rest = word.partition("/")
    kind = resource_kind_of(head) if slash else None
    if kind is not None and rest:
        return ResourceRef(kind, rest)
    if not word or (slash and not rest):
        raise WrongUsage(f"{word!r} names no resource", hint="type KIND/NAME, e.g. node/gpu-07")
    return ResourceRef("Node", word)


def read_resource_kind(word: str) -> str:
    """The kind of resource that `word` means. Raises `WrongUsage`."""
    kind = resource_kind_of(word)
    if kind is None:
        known = [one.lower() for one in RESOURCE_FORMS]
        raise WrongUsage(
            f"unknown kind of resource {word!r}",
            hint=did_you_mean(word.lower(), known) or f"kinds are {', '.join(known)}",
        )
    return kind


def work_word(one: Managed) -> str:
    """yes, no or unknown: whether it may take work."""
    words = {"true": "yes", "false": "no", "unknown": "unknown"}
    return ABSENT if one.work is None else words[one.work.allowed.value]


def write_managed(found: Sequence[Managed], *, wide: bool, now: datetime) -> None:
    """One table for each kind among the resources."""
    kinds = list(dict.fromkeys(one.state.resource_type for one in found))
    for kind in kinds:
        rows = [one for one in found if one.state.resource_type == kind]
        if len(kinds) > 1:
            print(f"{'' if kind == kinds[0] else chr(10)}{kind}:")
        headings, cells = _TABLES.get(kind, (_HEADINGS, _row))
        more = ("LABELS", "VERSION") if wide else ()
        write_table(
            [*headings, *more],
            [
                [
                    *cells(one, now),
                    *((one_line(plain_mapping(one.state.labels)), str(one.state.version)) if wide else ()),
                ]
                for one in rows
            ],
        )


_HEADINGS = ("NAME", "STATUS", "DESIRED", "WORK", "SINCE", "OPERATION", "HELD_BY", "LIFECYCLE")


def _row(one: Managed, now: datetime) -> list[str]:
    state = one.state
    operation = state.operation
    return [
        one_line(state.id),
        state.status,
        state.desired_status or ABSENT,
        work_word(one),
        show_age((now - state.status_since).total_seconds()),
        f"{operation.kind}:{operation.phase.value}" if operation is not None else ABSENT,
        one_line(",".join(f"{hold.owner}:{hold.name}" for hold in state.holds if hold.is_alive(now)))
        or ABSENT,
        state.lifecycle_table,
    ]


_RECOMMENDATION = ("NAME", "STATUS", "POLICY", "ENTITY", "ACTION", "RISK", "AGE", "WHY")


def _recommendation_row(one: Managed, now: datetime) -> list[str]:
    state: Any = one.state
    value = state.recommendation
    if value is None:
        return [one_line(state.id), state.status, *[ABSENT] * 6]
    return [
        one_line(state.id),
        state.status,
        one_line(value.policy),
        one_line(value.entity),
        action_text(value.action),
        value.risk.value,
        show_age((now - value.created_at).total_seconds()),
        one_line(value.reason) or ABSENT,
    ]


def action_text(action: Any) -> str:
    """An action in one word with its parameters."""
    inside = ",".join(f"{name}={value}" for name, value in action.parameters.items())
    return one_line(f"{action.name}({inside})" if inside else action.name)


_POLICY = ("NAME", "MODE", "VERSION", "SINCE", "PLACE")


def _policy_row(one: Managed, now: datetime) -> list[str]:
    state: Any = one.state
    since = show_age((now - state.status_since).total_seconds())
    return [one_line(state.id), state.status, str(state.policy_version), since, one_line(state.place)]


_TABLES: dict[str, Any] = {
    "Recommendation": (_RECOMMENDATION, _recommendation_row),
    "Policy": (_POLICY, _policy_row),
}


def write_change(arguments: argparse.Namespace, changed: Changed, done: str) -> None:
    """What came of a change: a line, or the whole answer as data."""
    from steersman.kinds.managed import plain_answer

    if arguments.output != "table":
        write_data(plain_answer(changed), arguments.output)
        return
    state = changed.resource.state
    what = f"{state.resource_type.lower()}/{one_line(state.id)}"
    if changed.unchanged:
        print(f"{what}: nothing to do, it is so already (version {state.version})")
        return
    dry = "; not done: --dry-run" if changed.dry_run else ""
    print(f"{what}: {done} (version {state.version}){dry}")


def write_history(entries: Iterable[HistoryEntry], *, wide: bool = False) -> None:
    """History rows as a table."""
    rows = [
        [
            str(entry.seq),
            entry.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            entry_text(entry),
            one_line(entry.actor),
            one_line(entry.reason) or ABSENT,
            *((one_line(entry.cause) or ABSENT, entry.operation or ABSENT, entry.hash[:12]) if wide else ()),
        ]
        for entry in entries
    ]
    if not rows:
        note("no history")
        return
    write_table(("SEQ", "AT", "WHAT", "BY", "WHY", *(("CAUSE", "OPERATION", "HASH") if wide else ())), rows)


def entry_text(entry: HistoryEntry) -> str:
    """What a history row says was done, in a few words."""
    return change_text(entry.action.value, entry.event, entry.from_state, entry.to_state, entry.data)


def change_text(
    action: str, event: str | None, before: str | None, after: str | None, data: Mapping[str, Any]
) -> str:
    """What was done, in a few words: a row of history and an event of the stream say the same."""
    if before != after and after is not None:
        return one_line(f"{before or 'new'} -> {after}{f' ({event})' if event else ''}")
    if action == "intent_set":
        return one_line(f"desired: {data.get('desired_status') or 'nothing'}")
    names = ("hold", "name", "phase", "step", "step_status", "outcome")
    told = [str(data[name]) for name in names if isinstance(data.get(name), str)]
    return one_line(" ".join([action.replace("_", " "), *told]))
