"""`steersman get`: lists, and one entity, as a table or as data."""

from __future__ import annotations

import argparse

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.spec import Command, Option

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

DATA = ("json", "yaml")

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
    word: str | None = arguments.KIND
    if (word is None) != bool(arguments.all):
        raise WrongUsage("name a kind, or give --all for every kind", hint="steersman get nodes")
    if word is not None and (arguments.NAME is not None or "/" in word):
        if arguments.selector or arguments.health:
            raise WrongUsage("-l and --health choose from a list; an entity that is named needs no choice")
        return _show_one(arguments)
    return _show_list(arguments)


def _show_one(arguments: argparse.Namespace) -> int:
    from steersman.cli.connection import connect, server_now
    from steersman.cli.entities import write_entities
    from steersman.cli.screen import write_data
    from steersman.cli.target import read_target

    target = read_target(arguments.KIND, arguments.NAME, arguments.scope)
    with connect(arguments) as plane:
        entity = plane.entity(*target)
        if arguments.output in DATA:
            write_data(entity, arguments.output)
        else:
            write_entities([entity], wide=arguments.output == "wide", now=server_now(plane))
    return DONE


def _show_list(arguments: argparse.Namespace) -> int:
    from steersman.cli.connection import connect, server_now
    from steersman.cli.entities import write_entities
    from steersman.cli.screen import note, write_data
    from steersman.cli.target import read_health, read_kind, read_labels
    from steersman.kinds.names import plural

    kinds = [read_kind(part) for part in (arguments.KIND or "").split(",") if part]
    labels, healths = read_labels(arguments.selector), read_health(arguments.health)
    with connect(arguments) as plane:
        found = list(plane.entities(kinds, healths=healths, scope=arguments.scope, labels=labels))
        if arguments.output in DATA:
            write_data({"items": found}, arguments.output)
        elif found:
            write_entities(found, wide=arguments.output == "wide", now=server_now(plane))
        else:
            narrowed = labels or healths or arguments.scope is not None
            what = " and ".join(map(plural, kinds)) or "entities"
            note(f"no {'matching ' if narrowed else ''}{what} found")
    return DONE


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
