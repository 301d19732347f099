"""`steersman get`: lists, and one entity, as a table or as data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.spec import Command, Option

if TYPE_CHECKING:
    from steersman.cli.connection import Query

OUTPUT = Option(
    ("-o", "--output"),
    "table, more columns, or plain values",
    default="table",
    choices=("table", "wide", "json", "yaml"),
)
SCOPE = Option(("--scope",), "the cluster label; needed only where several clusters have the name", "SCOPE")
LABELS = Option(
    ("-l", "--selector"),
    "only entities with these labels, e.g. -l team=ml,rack=r7",
    "NAME=VALUE",
    repeat=True,
)
HEALTH = Option(
    ("--health",), "only entities in these states, e.g. --health critical,degraded", "STATE", repeat=True
)

OPTIONS = (
    Option(("KIND",), "kind in any form: node, nodes, Node, no; or KIND/NAME", optional=True),
    Option(("NAME",), "show this entity alone", optional=True),
    OUTPUT,
    LABELS,
    HEALTH,
    SCOPE,
    Option(("--all",), "entities of every kind", switch=True),
)


def run(arguments: argparse.Namespace) -> int:
    """Print what matches. Nothing that matches is no error: a line on stderr says so."""
    from steersman.cli.connection import connect
    from steersman.cli.entities import write_entities
    from steersman.cli.screen import note, write_data
    from steersman.cli.target import read_target

    word: str | None = arguments.KIND
    if (word is None) != bool(arguments.all):
        raise WrongUsage("name a kind, or give --all for every kind", hint="steersman get nodes")
    wide = arguments.output == "wide"
    as_data = arguments.output in ("json", "yaml")
    if word is not None and (arguments.NAME is not None or "/" in word):
        if arguments.selector or arguments.health:
            raise WrongUsage("-l and --health choose from a list; an entity that is named needs no choice")
        target = read_target(word, arguments.NAME, arguments.scope)
        with connect(arguments) as plane:
            entity = plane.entity(target)
            if as_data:
                write_data(entity, arguments.output)
            else:
                write_entities([entity], wide=wide, now=plane.now())
        return DONE
    query = _query(word, arguments)
    with connect(arguments) as plane:
        entities = list(plane.entities(query))
        if as_data:
            write_data({"items": entities}, arguments.output)
            return DONE
        write_entities(entities, wide=wide, now=plane.now())
    if not entities:
        note(f"no {_what(query)} found")
    return DONE


def _query(word: str | None, arguments: argparse.Namespace) -> Query:
    from steersman.cli.connection import Query
    from steersman.cli.target import read_health, read_kind, read_labels

    kinds = tuple(read_kind(part) for part in word.split(",") if part) if word else ()
    return Query(
        kinds, read_labels(arguments.selector), tuple(read_health(arguments.health)), arguments.scope
    )


def _what(query: Query) -> str:
    from steersman.kinds.names import plural

    what = " and ".join(plural(kind) for kind in query.kinds) or "entities"
    return f"matching {what}" if query.labels or query.healths or query.scope is not None else what


COMMAND = Command(
    name="get",
    summary="List entities of a kind, or show one",
    about="Kinds may be joined by commas. Values are shown with units; json and yaml carry them plain.",
    options=OPTIONS,
    run=run,
    examples=(
        "steersman get nodes",
        "steersman get gpus -o wide --health critical,degraded",
        "steersman get services -l namespace=prod --scope us-east-1",
        "steersman get node/$(hostname) -o json",
        "steersman get --all",
    ),
)
