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
    from steersman.kinds.entity import EntityType, HealthState

OPTIONS = (
    Option(("KIND",), "only this kind, or several joined by commas", optional=True),
    Option(
        ("-o", "--output"),
        "lines for people, or one JSON object a line",
        default="table",
        choices=("table", "json"),
    ),
    LABELS,
    HEALTH,
    SCOPE,
    Option(
        ("--after",), "begin behind this bus revision, as an earlier watch showed it", "REVISION", read=int
    ),
    Option(("--for",), "stop after this time, e.g. 60s; otherwise Ctrl-C stops it", "TIME"),
)


def run(arguments: argparse.Namespace) -> int:
    """Print changes until told to stop."""
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
    about="A line shows time, bus revision, entity, health, confidence and the key figures of its kind.",
    options=OPTIONS,
    run=run,
    examples=("steersman watch", "steersman watch nodes,gpus", "steersman watch services -o json --for 60s"),
)
