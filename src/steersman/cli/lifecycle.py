"""`steersman lifecycle`: the tables by which things move."""

from __future__ import annotations

import argparse

from steersman.cli.exits import DONE, FAILED
from steersman.cli.managed import FORM
from steersman.cli.spec import Command, Option

NAME = Option(("NAME",), "its name, or NAME@VERSION")


def show_all(arguments: argparse.Namespace) -> int:
    """List loaded lifecycles; files that are not in force are told on stderr."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import note, write_data, write_table
    from steersman.cli.units import ABSENT, one_line

    with connect(arguments) as plane:
        found = plane.lifecycles()
        acting = plane.status().acting
    refused = [] if acting is None else [one for one in acting.left_out if one.what == "lifecycle"]
    if arguments.output != "table":
        write_data({"items": found, "refused": refused}, arguments.output)
        return DONE
    rows = [
        (
            one.name,
            one.version,
            "yes" if one.in_force else "no",
            str(len(one.findings)) if one.findings else ABSENT,
            one_line(one.place),
        )
        for one in found
    ]
    write_table(("NAME", "VERSION", "IN_FORCE", "WARNINGS", "PLACE"), rows)
    for one in refused:
        note(f"error: {one_line(str(one))}")
    return DONE


def show(arguments: argparse.Namespace) -> int:
    """Print one as YAML, or as data."""
    import sys

    from steersman.cli.connection import connect
    from steersman.cli.screen import write_data

    with connect(arguments) as plane:
        if arguments.output == "json":
            write_data(plane.lifecycle(arguments.NAME), "json")
        else:
            sys.stdout.write(plane.lifecycle_text(arguments.NAME))
    return DONE


def draw(arguments: argparse.Namespace) -> int:
    """Print a drawing."""
    import sys

    from steersman.cli.connection import connect

    with connect(arguments) as plane:
        text = plane.lifecycle_text(arguments.NAME, arguments.format, arguments.current)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return DONE


def lint(arguments: argparse.Namespace) -> int:
    """Judge a file; exit code 1 where it may not be used."""
    from steersman.cli.connection import connect
    from steersman.cli.documents import read_text
    from steersman.cli.screen import write_data

    text = read_text(arguments.FILE)
    with connect(arguments) as plane:
        told = plane.lint_lifecycle(text, "<stdin>" if arguments.FILE == "-" else arguments.FILE)
    if arguments.output != "table":
        write_data(told, arguments.output)
        return DONE if told.ok else FAILED
    for one in told.findings:
        place = f"{one.file}:{one.line}:{one.column}: "
        message = one.message.removeprefix(place)
        print(f"{place}{one.severity} {one.code}: {message}" + (f" ({one.fix})" if one.fix else ""))
    if told.ok:
        count = f"{len(told.findings)} warnings" if told.findings else "nothing to say against it"
        print(f"{told.name}: {count}")
    return DONE if told.ok else FAILED


COMMAND = Command(
    name="lifecycle",
    summary="Show, draw and check the tables by which things move",
    actions=(
        Command(
            name="list",
            summary="List the lifecycles that are loaded",
            options=(FORM,),
            run=show_all,
            examples=("steersman lifecycle list",),
        ),
        Command(
            name="show",
            summary="Show a lifecycle",
            options=(
                NAME,
                Option(("-o", "--output"), "its form", default="yaml", choices=("yaml", "json")),
            ),
            run=show,
            examples=("steersman lifecycle show hpc-default > my-lifecycle.yaml",),
        ),
        Command(
            name="lint",
            summary="Check a lifecycle file before it is used",
            options=(Option(("FILE",), "a file, or - for standard input"), FORM),
            run=lint,
            examples=("steersman lifecycle lint my-lifecycle.yaml",),
        ),
        Command(
            name="draw",
            summary="Draw a lifecycle",
            options=(
                NAME,
                Option(
                    ("--format",), "the drawing's language", default="mermaid", choices=("mermaid", "dot")
                ),
                Option(("--current",), "a state to mark", "STATE"),
            ),
            run=draw,
            examples=("steersman lifecycle draw hpc-default --format dot | dot -Tsvg > hpc.svg",),
        ),
    ),
)
