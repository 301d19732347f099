"""`steersman get`: lists, and one entity, as a table or as data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.spec import Command, Option

if TYPE_CHECKING:
    from steersman.client import Steersman
    from steersman.kinds.entity import CanonicalEntity
    from steersman.kinds.managed import Managed

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
DRIFT = "drift"
"""No kind of thing, but what is known of sources' words that nobody here knows."""

OPTIONS = (
    Option(("KIND",), "kind in any form: node, nodes, Node, no; or KIND/NAME; or drift", optional=True),
    Option(("NAME",), "show this entity alone", optional=True),
    OUTPUT,
    LABELS,
    HEALTH,
    SCOPE,
    Option(("--all",), "entities of every kind", switch=True),
    Option(
        ("--managed",),
        "what is managed, where a kind is observed too: its resources, not entities",
        switch=True,
    ),
    Option(("--status",), "only resources in these states, e.g. --status maintenance", "STATE", repeat=True),
)


def run(arguments: argparse.Namespace) -> int:
    """Print what matches. Nothing that matches is no error: a line on stderr says so."""
    word: str | None = arguments.KIND
    if (word is None) != bool(arguments.all):
        raise WrongUsage("name a kind, or give --all for every kind", hint="steersman get nodes")
    if word is not None and word.lower() == DRIFT:
        return _show_drift(arguments)
    if word is not None and _is_managed(word, bool(arguments.managed or arguments.status)):
        return _show_managed(arguments)
    if word is not None and (arguments.NAME is not None or "/" in word):
        if arguments.selector or arguments.health:
            raise WrongUsage("-l and --health choose from a list; an entity that is named needs no choice")
        return _show_one(arguments)
    return _show_list(arguments)


def _show_drift(arguments: argparse.Namespace) -> int:
    from steersman.cli.connection import connect, server_now
    from steersman.cli.screen import note, write_block, write_data
    from steersman.cli.units import ABSENT, one_line, show_age

    if arguments.NAME or arguments.selector or arguments.health or arguments.status:
        raise WrongUsage("drift is one list; nothing is chosen from it", hint="steersman get drift -o json")
    with connect(arguments) as plane:
        drift = plane.drift()
        if arguments.output in DATA:
            write_data(drift, arguments.output)
            return DONE
        now = server_now(plane)
    rows = [
        (
            one.kind,
            one.entity_type.value if one.entity_type is not None else ABSENT,
            one_line(one.field) or ABSENT,
            one_line(one.source) or ABSENT,
            str(one.count),
            show_age((now - one.last_at).total_seconds()),
            one_line(one.detail),
        )
        for one in drift.items
    ]
    if rows:
        write_block("Drift", ("KIND", "TYPE", "FIELD", "SOURCE", "COUNT", "LAST", "DETAIL"), rows)
    else:
        note("no drift: all that sources say is known")
    if drift.dropped:
        note(f"{drift.dropped} more of further kinds were dropped")
    return DONE


def _is_managed(word: str, wanted: bool) -> bool:
    """Whether the word is of a kind of resource: one that is not observed as well, or wanted as one."""
    from steersman.kinds.names import kind_of, resource_kind_of

    heads = [part.partition("/")[0] for part in word.split(",")]
    return all(resource_kind_of(head) is not None and (wanted or kind_of(head) is None) for head in heads)


def _show_managed(arguments: argparse.Namespace) -> int:
    from steersman.cli.connection import connect, server_now
    from steersman.cli.managed import read_resource_kind, write_managed
    from steersman.cli.screen import note, write_data
    from steersman.cli.target import read_health, read_labels

    word: str = arguments.KIND
    head, slash, name = word.partition("/")
    name = name if slash else arguments.NAME
    status = [one for part in arguments.status for one in part.split(",") if one]
    with connect(arguments) as plane:
        if name:
            one = plane.resource(read_resource_kind(head), name)
            if arguments.output in DATA:
                write_data(one.to_dict(), arguments.output)
            else:
                write_managed([one], wide=arguments.output == "wide", now=server_now(plane))
            return DONE
        labels, healths = read_labels(arguments.selector), read_health(arguments.health)
        found = [
            one
            for part in word.split(",")
            for one in plane.resources(
                read_resource_kind(part), status=status, healths=healths, labels=labels
            )
        ]
        if arguments.output in DATA:
            write_data({"items": [one.to_dict() for one in found]}, arguments.output)
        elif found:
            write_managed(found, wide=arguments.output == "wide", now=server_now(plane))
        else:
            note(f"no {'matching ' if labels or healths or status else ''}{word} found")
    return DONE


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
            write_entities(
                [entity],
                wide=arguments.output == "wide",
                now=server_now(plane),
                managed=_managed(plane, [entity]),
            )
    return DONE


def _managed(plane: Steersman, entities: list[CanonicalEntity]) -> dict[tuple[str, str], Managed]:
    """The managed nodes among the entities, by scope and id; none where this server manages nothing."""
    from steersman.kernel.errors import NotFound, Unavailable
    from steersman.kinds.entity import EntityType
    from steersman.kinds.state import NodeState

    nodes = [one for one in entities if one.entity_type is EntityType.NODE]
    if not nodes:
        return {}
    try:
        if len(nodes) == 1:
            found = [plane.resource("node", nodes[0].entity_id)]
        else:
            found = list(plane.resources("node"))
    except (NotFound, Unavailable):
        return {}
    return {(one.state.scope, one.state.id): one for one in found if isinstance(one.state, NodeState)}


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
            write_entities(
                found,
                wide=arguments.output == "wide",
                now=server_now(plane),
                managed=_managed(plane, found),
            )
        else:
            narrowed = labels or healths or arguments.scope is not None
            what = " and ".join(map(plural, kinds)) or "entities"
            note(f"no {'matching ' if narrowed else ''}{what} found")
    return DONE


COMMAND = Command(
    name="get",
    summary="List entities of a kind, or show one",
    about=(
        "Kinds may be joined by commas. Values are shown with units; json and yaml carry them plain.\n"
        "recommendations, policies, sessions, hosts ... are managed, and not observed; nodes are both:\n"
        "STATUS, DESIRED and WORK say how a node is managed, and --managed shows its resource."
    ),
    options=OPTIONS,
    run=run,
    examples=(
        "steersman get nodes",
        "steersman get gpus -o wide --health critical,degraded",
        "steersman get services -l namespace=prod --scope us-east-1",
        "steersman get node/$(hostname) -o json",
        "steersman get recommendations --status proposed",
        "steersman get drift",
        "steersman get --all",
    ),
)
