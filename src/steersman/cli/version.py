"""`steersman version`: which program this is, and which one answers."""

from __future__ import annotations

import argparse
from typing import Any

from steersman.cli.exits import DONE
from steersman.cli.spec import Command, Option

OPTIONS = (
    Option(("--client",), "this program alone; no server is asked", switch=True),
    Option(("-o", "--output"), "lines, or plain values", default="table", choices=("table", "json", "yaml")),
)


def run(arguments: argparse.Namespace) -> int:
    """Print versions. The client's are printed also where no server answers (exit code 3 then)."""
    import platform
    from importlib.metadata import version

    facts: dict[str, Any] = {"client": version("steersman"), "python": platform.python_version()}
    if arguments.client:
        _write(facts, arguments.output)
        return DONE
    from steersman.cli.connection import connect

    try:
        with connect(arguments) as plane:
            status = plane.status()
            facts |= {"server": status.version, "address": plane.address}
    finally:
        _write(facts, arguments.output)
    return DONE


def _write(facts: dict[str, Any], form: str) -> None:
    from steersman.cli.screen import write_data, write_pairs

    if form == "table":
        write_pairs([(name, str(value)) for name, value in facts.items()])
    else:
        write_data(facts, form)


COMMAND = Command(
    name="version",
    summary="Show the versions of this program and of the server",
    options=OPTIONS,
    run=run,
    examples=("steersman version", "steersman version --client"),
)
