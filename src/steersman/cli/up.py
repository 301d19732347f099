"""`steersman up`: the one command that is the program itself, not a caller of it."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from steersman.cli.spec import Command, Option

PORT_MAX = 65_535


def _read_port(text: str) -> int:
    if not text.isdigit() or not text.isascii() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; expected a number from 0 to {PORT_MAX}")
    return int(text)


OPTIONS = (
    Option(
        ("-c", "--config"),
        "configuration file; without one, this machine is observed",
        "FILE",
        env="STEERSMAN_CONFIG",
    ),
    Option(("--host",), "address to listen on, instead of the configured one", "ADDRESS"),
    Option(
        ("--port",),
        "port to listen on, instead of the configured one; 0 takes a free one",
        "PORT",
        read=_read_port,
    ),
)


def run(arguments: argparse.Namespace) -> int:
    """Run until a signal ends it."""
    from steersman.app import run_up  # the whole program: imported here and nowhere earlier

    config = Path(arguments.config) if arguments.config else None
    return run_up(config, _say, host=arguments.host, port=arguments.port)


def _say(text: str) -> None:
    """Print at once. A stdout that nobody reads any more is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


COMMAND = Command(
    name="up",
    summary="Start Steersman: observe, and serve the API and the dashboard",
    about=(
        "Without a configuration file it observes this machine and keeps what it must remember in the state\n"
        "folder: $STEERSMAN_HOME, else $XDG_STATE_HOME/steersman, else ~/.local/state/steersman.\n"
        "Ctrl-C, SIGTERM or SIGHUP stop it cleanly; a second signal ends it at once."
    ),
    options=OPTIONS,
    run=run,
    examples=("steersman up", "steersman up -c steersman.yaml", "steersman up --port 8440"),
    talks=False,
)
