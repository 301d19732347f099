"""`steersman watch`: changes as they happen, a line each; a cut connection is resumed without a gap."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.spec import Command, Option, read_duration_s

if TYPE_CHECKING:
    from steersman.kinds.entity import CanonicalEntity

OPTIONS = (
    Option(("KIND",), "only this kind, or several joined by commas", optional=True),
    Option(
        ("-o", "--output"),
        "lines for people, or one JSON object a line",
        default="table",
        choices=("table", "json"),
    ),
    Option(
        ("--after",), "begin behind this bus revision, as an earlier watch showed it", "REVISION", read=int
    ),
    Option(("--for",), "stop after this time, e.g. 60s; otherwise Ctrl-C stops it", "TIME"),
)


def run(arguments: argparse.Namespace) -> int:
    """Print changes until told to stop."""
    from steersman.cli.connection import connect
    from steersman.cli.target import read_kind

    kinds = tuple(read_kind(part) for part in (arguments.KIND or "").split(",") if part)
    wanted = vars(arguments)["for"]
    limit_s = read_duration_s(wanted, "--for") if wanted else None
    if arguments.after is not None and arguments.after < 0:
        raise WrongUsage(f"--after is {arguments.after}; expected a revision, which is never negative")
    with connect(arguments) as plane:
        for change in plane.watch(kinds, after=arguments.after, limit_s=limit_s):
            if arguments.output == "json":
                _write_json(change)
            else:
                _write_line(change, plane.now())
            sys.stdout.flush()  # each line is read as it comes, also by a pipe
    return DONE


def _write_line(entity: CanonicalEntity, now: datetime) -> None:
    from steersman.cli.entities import health_word, key_figures
    from steersman.cli.screen import paint
    from steersman.cli.units import one_line

    scope = f"{one_line(entity.scope)}/" if entity.scope else ""
    name = f"{entity.entity_type.value}/{scope}{one_line(entity.entity_id)}"
    health = health_word(entity)
    padding = " " * (8 - len(health))
    figures = key_figures(entity, now)
    print(
        f"{now:%H:%M:%S}  {name}  {paint(health)}{padding}  {entity.confidence_score:.2f}  {figures}".rstrip()
    )


def _write_json(entity: CanonicalEntity) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(entity).decode() + "\n")


COMMAND = Command(
    name="watch",
    summary="Follow changes as they happen",
    about="Lines show the time, the entity, its health, its confidence and its key figures.",
    options=OPTIONS,
    run=run,
    examples=("steersman watch", "steersman watch nodes,gpus", "steersman watch services -o json --for 60s"),
)
