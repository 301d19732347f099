"""`steersman apply`: files of declared resources, document by document."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from steersman.cli.exits import DONE, FAILED, WrongUsage
from steersman.cli.spec import Command, Option

REASON = Option(("--reason",), "why; it is kept in history", "TEXT", default="")
FORM = Option(
    ("-o", "--output"), "lines, or plain values", default="table", choices=("table", "json", "yaml")
)


def run(arguments: argparse.Namespace) -> int:
    """Apply each document. A bad one is told with its place, the others are applied all the same."""
    from steersman.cli.connection import connect
    from steersman.cli.documents import Bad, documents, read_text
    from steersman.cli.screen import note, write_data

    if not arguments.file:
        raise WrongUsage("name a file", hint="steersman apply -f nodes.yaml, or -f - for standard input")
    results: list[dict[str, Any]] = []
    shows = arguments.output == "table"
    with connect(arguments) as plane:
        for path in arguments.file:
            name = "<stdin>" if path == "-" else path
            for one in documents(read_text(path), name):
                result = (
                    _failed(one.place, "", one.error)
                    if isinstance(one, Bad)
                    else _apply(plane, one, arguments)
                )
                results.append(result)
                if shows:
                    _tell(result)
    if not shows:
        write_data({"items": results}, arguments.output)
    elif not results:
        note("no documents found")
    return FAILED if any(one["outcome"] == "failed" for one in results) else DONE


def _apply(plane: Any, one: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    from steersman.client import NotReachable
    from steersman.kernel.errors import SteersmanError

    what = f"{one.kind.lower()}/{one.name}"
    try:
        applied = plane.apply(
            one.kind, one.name, one.spec, reason=arguments.reason, dry_run=arguments.dry_run
        )
    except NotReachable:
        raise  # nothing of the rest can be done either
    except SteersmanError as error:
        return _failed(one.place, what, error)
    return {
        "resource": what,
        "place": one.place,
        "outcome": applied.outcome,
        "changed": list(applied.changed),
        "version": applied.resource.state.version,
        "dry_run": applied.dry_run,
    }


def _failed(place: str, what: str, error: Any) -> dict[str, Any]:
    return {
        "resource": what,
        "place": place,
        "outcome": "failed",
        "code": error.code,
        "error": error.detail,
        "facts": error.facts,
    }


def _tell(result: dict[str, Any]) -> None:
    if result["outcome"] == "failed":
        place, text = result["place"], result["error"]
        text = text if text.startswith(place) else f"{place}: {text}"
        what = f"{result['resource']}: " if result["resource"] else ""
        print(f"error: {what}{text}", file=sys.stderr)
        return
    changed = f" ({', '.join(result['changed'])})" if result["changed"] else ""
    dry = ", not done: --dry-run" if result["dry_run"] else ""
    print(f"{result['resource']} {result['outcome']}{changed}{dry}")


COMMAND = Command(
    name="apply",
    summary="Create resources from a file, or change what differs",
    about=(
        "A file holds YAML documents with kind, id, and what the resource is meant to be: labels,\n"
        "metadata, owner_id, scope, lifecycle, desired_status, spec. What is left out stays as it is.\n"
        "Each document has its own result: a bad one is told with file and line, and the others are\n"
        "applied. Exit code 1 where one failed."
    ),
    options=(
        Option(("-f", "--file"), "a file, or - for standard input", "FILE", repeat=True),
        REASON,
        Option(("--dry-run",), "say what would change, and change nothing", switch=True),
        FORM,
    ),
    run=run,
    examples=("steersman apply -f nodes.yaml", "steersman apply -f - --dry-run < nodes.yaml"),
)
