"""`steersman record`: what the sources say, written into a file as it arrives."""

from __future__ import annotations

import argparse
import os
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
    """Record until the time is over, or until Ctrl-C: what arrived by then is kept."""
    from steersman.cli.screen import note
    from steersman.cli.units import show_size

    target = Path(arguments.FILE)
    wanted = vars(arguments)["for"]
    limit_s = read_duration_s(wanted, "--for") if wanted else None
    if target.exists() and not arguments.force:
        raise WrongUsage(f"{target} exists already", hint="choose another name, or give --force")
    # Written beside its name and moved there at the end: a recording that failed half-way never takes the
    # place of a good one.
    part = target.with_name(f"{target.name}.part")
    try:
        size = _write(arguments, part, limit_s)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    note(f"recorded {show_size(size)} into {target}")
    return DONE


def _write(arguments: argparse.Namespace, part: Path, limit_s: float | None) -> int:
    """Stream the recording into the file; its size in bytes."""
    from steersman.cli.connection import connect
    from steersman.cli.screen import progress
    from steersman.cli.units import show_size

    size = 0
    part.unlink(missing_ok=True)
    with connect(arguments) as plane, os.fdopen(_create(part), "wb") as file:
        try:
            with progress("recording") as tell:
                for chunk in plane.record(limit_s):
                    file.write(chunk)
                    file.flush()  # a machine that crashes leaves what arrived up to then
                    size += len(chunk)
                    tell(f"{show_size(size)} so far; Ctrl-C ends it")
        except KeyboardInterrupt:
            if not size:
                raise
        file.flush()
        os.fsync(file.fileno())
    return size


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)


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
