"""`steersman watch`: changes as they happen, a line each; a cut connection is resumed without a gap."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.get import HEALTH, LABELS, SCOPE
from steersman.cli.spec import Command, Option, read_duration_s

if TYPE_CHECKING:
    from steersman.client import Steersman
    from steersman.client.watching import Change
    from steersman.kinds.command import ResourceEvent
    from steersman.kinds.entity import EntityType, HealthState

OPTIONS = (
    Option(("KIND",), "only this kind, or several joined by commas", optional=True),
    Option(
        ("--managed",),
        "what is done to managed things: moves, intents, holds, steps; instead of what is observed",
        switch=True,
    ),
    Option(
        ("-o", "--output"),
        "lines for people, or one JSON object a line",
        default="table",
        choices=("table", "json"),
    ),
    LABELS,
    HEALTH,
    SCOPE,
    Option(("--after",), "begin behind this revision, as an earlier watch showed it", "REVISION", read=int),
    Option(("--for",), "stop after this time, e.g. 60s; otherwise Ctrl-C stops it", "TIME"),
)


def run(arguments: argparse.Namespace) -> int:
    """Print changes until told to stop."""
    if arguments.managed:
        return _watch_managed(arguments)
    from steersman.cli.connection import connect, time_limit
    from steersman.cli.target import read_health, read_kind, read_labels

    labels, healths = read_labels(arguments.selector), read_health(arguments.health)
    kinds = [read_kind(part) for part in (arguments.KIND or "").split(",") if part]
    wanted = vars(arguments)["for"]
    limit_s = read_duration_s(wanted, "--for") if wanted else None
    if arguments.after is not None and arguments.after < 0:
        raise WrongUsage(f"--after is {arguments.after}; expected a revision, which is never negative")
    write = _write_json if arguments.output == "json" else _write_line
    with connect(arguments) as plane, time_limit(limit_s):
        reached = arguments.after or 0
        for change in plane.watch(kinds, after=arguments.after):
            for told in _filled(plane, kinds, change, reached):
                if _wanted(told, labels, healths, arguments.scope):
                    write(told)
            reached = change.revision
            sys.stdout.flush()  # each line is read as it comes, also by a pipe
    return DONE


def _watch_managed(arguments: argparse.Namespace) -> int:
    from steersman.cli.connection import connect, time_limit
    from steersman.cli.managed import read_resource_kind
    from steersman.cli.screen import note
    from steersman.cli.target import read_labels
    from steersman.client import Resync

    if arguments.health or arguments.scope is not None:
        raise WrongUsage("--health and --scope choose from what is observed; with --managed there is only -l")
    labels = read_labels(arguments.selector)
    kinds = [read_resource_kind(part) for part in (arguments.KIND or "").split(",") if part]
    if arguments.after:
        raise WrongUsage("with --managed, --after is 0: begin with all events that are still kept")
    after = None if arguments.after is None else "0-0"
    wanted = vars(arguments)["for"]
    write = _write_event_json if arguments.output == "json" else _write_event
    with (
        connect(arguments) as plane,
        time_limit(read_duration_s(wanted, "--for") if wanted else None),
    ):
        for told in plane.watch_resources(kinds, after=after):
            if isinstance(told, Resync):
                note(f"events were left out ({told.reason}); `steersman history` has them all")
            elif labels.items() <= (told.data.get("labels") or {}).items():
                write(told)
            sys.stdout.flush()
    return DONE


def _write_event(told: ResourceEvent) -> None:
    from steersman.cli.managed import change_text
    from steersman.cli.units import one_line

    data = told.data
    what = change_text(str(data.get("action")), data.get("event"), data.get("from"), data.get("to"), data)
    why = f"  {one_line(str(data['reason']))}" if data.get("reason") else ""
    by = one_line(str(data.get("actor")))
    print(f"{told.time:%H:%M:%S}  {told.sequence}  {one_line(told.subject)}  {what}  {by}{why}")


def _write_event_json(told: ResourceEvent) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")


def _filled(plane: Steersman, kinds: list[EntityType], change: Change, reached: int) -> Iterator[Change]:
    """The change; where the server left some out, also what the list has that is newer than `reached`."""
    from steersman.cli.screen import note
    from steersman.client import Resync

    yield change
    if isinstance(change, Resync):
        note(f"changes were left out ({change.reason}); reading the list")
        missed = [entity for entity in plane.entities(kinds) if reached < entity.revision <= change.revision]
        yield from sorted(missed, key=lambda entity: entity.revision)


def _wanted(change: Change, labels: dict[str, str], healths: list[HealthState], scope: str | None) -> bool:
    """Whether a change passes the selectors. What is gone has no labels and no health any more: it passes all
    but the scope, since it may be one that was shown before."""
    from steersman.client import Gone, Resync

    if isinstance(change, Resync):
        return True
    if scope is not None and change.scope != scope:
        return False
    if isinstance(change, Gone):
        return True
    return labels.items() <= change.labels.items() and (not healths or change.health_state in healths)


def _write_line(change: Change) -> None:
    from steersman.cli.entities import GONE, health_word, key_figures
    from steersman.cli.screen import paint
    from steersman.cli.units import one_line
    from steersman.client import Resync
    from steersman.kernel.clock import SystemClock
    from steersman.kinds.entity import CanonicalEntity

    if isinstance(change, Resync):
        return
    now = SystemClock().now()
    scope = f"{one_line(change.scope)}/" if change.scope else ""
    name = f"{change.entity_type.value}/{scope}{one_line(change.entity_id)}"
    start = f"{now:%H:%M:%S}  {change.revision}  {name}"
    if not isinstance(change, CanonicalEntity):
        print(f"{start}  {GONE}")
        return
    health = health_word(change)
    figures = key_figures(change, now)
    print(f"{start}  {paint(health)}  {change.confidence_score:.2f}  {figures}".rstrip())


def _write_json(change: Change) -> None:
    import msgspec

    from steersman.client import Gone, Resync

    name = "resync" if isinstance(change, Resync) else "gone" if isinstance(change, Gone) else "entity"
    sys.stdout.write(msgspec.json.encode({"event": name, "data": change}).decode() + "\n")


COMMAND = Command(
    name="watch",
    summary="Follow changes as they happen",
    about=(
        "A line shows time, bus revision, entity, health, confidence and the key figures of its kind.\n"
        "With --managed: time, version, resource, what was done, by whom and why."
    ),
    options=OPTIONS,
    run=run,
    examples=(
        "steersman watch",
        "steersman watch nodes,gpus",
        "steersman watch services -o json --for 60s",
        "steersman watch nodes --managed",
    ),
)
