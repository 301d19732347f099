"""`steersman record`: what the sources say, written into a file as it arrives."""

from __future__ import annotations

import argparse
from pathlib import Path

from steersman.cli.exits import DONE, WrongUsage
from steersman.cli.spec import Command, Option, read_duration_s

FILE_MODE = 0o600
"""A recording holds whatever the fleet's labels and fields hold: for its owner alone."""

OPTIONS = (
    Option(("FILE",), "file to write; it must not exist yet"),
    Option(("--for",), "stop after this time, e.g. 60s; otherwise Ctrl-C stops it", "TIME"),
    Option(("--force",), "write over a file that exists", switch=True),
)


def run(arguments: argparse.Namespace) -> int:
    """Record until the time is over or Ctrl-C. The file is whole in both cases."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import note
    from steersman.cli.units import show_size

    target = Path(arguments.FILE)
    wanted = vars(arguments)["for"]
    limit_s = read_duration_s(wanted, "--for") if wanted else None
    if target.exists() and not arguments.force:
        raise WrongUsage(f"{target} exists already", hint="choose another name, or give --force")
    with connect(arguments) as plane:
        size = plane.record(target, limit_s)
    note(f"recorded {show_size(size)} into {target}")
    return DONE


COMMAND = Command(
    name="record",
    summary="Write what the sources say into a file",
    about=(
        "Every fragment that the server takes in is written as it came, compressed and with checksums;\n"
        "`steersman replay` makes the same picture of it again."
    ),
    options=OPTIONS,
    run=run,
    examples=("steersman record morning.rec --for 60s", "steersman record incident.rec"),
)
