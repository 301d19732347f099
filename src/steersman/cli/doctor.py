"""`steersman doctor`: what is wrong here, and what to do about it; with and without a running server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.cli.exits import DONE, FAILED
from steersman.cli.spec import Command, Option

if TYPE_CHECKING:
    from steersman.cli.checks import Check

OPTIONS = (
    Option(("-c", "--config"), "configuration file to check", "FILE", env="STEERSMAN_CONFIG"),
    Option(("-o", "--output"), "lines, or plain values", default="table", choices=("table", "json", "yaml")),
)


def run(arguments: argparse.Namespace) -> int:
    """Run every check; exit code 1 where one failed."""
    from steersman.cli.checks import FAIL
    from steersman.cli.screen import write_data

    config = Path(arguments.config) if arguments.config else None
    checks: list[Check] = []
    for check in _all(arguments, config):
        checks.append(check)
        if arguments.output == "table":
            _write(check)
    failed = any(check.verdict == FAIL for check in checks)
    if arguments.output != "table":
        write_data({"ok": not failed, "checks": [check._asdict() for check in checks]}, arguments.output)
    return FAILED if failed else DONE


def _all(arguments: argparse.Namespace, config: Path | None) -> Iterable[Check]:
    from steersman.app import look_at_installation
    from steersman.cli.machine import check_machine
    from steersman.kernel.clock import SystemClock

    yield from check_machine(look_at_installation(config, os.environ), config, SystemClock().now())
    yield from _remote(arguments)


def _remote(arguments: argparse.Namespace) -> Iterable[Check]:
    from importlib.metadata import version

    from steersman.cli.checks import (
        FAIL,
        WARN,
        Check,
        check_access,
        check_acting,
        check_clock,
        check_server,
        check_sources,
        check_words,
    )
    from steersman.cli.connection import connect
    from steersman.client import NotReachable
    from steersman.kernel.clock import SystemClock
    from steersman.kernel.errors import SteersmanError

    clock = SystemClock()
    try:
        with connect(arguments) as plane:
            before = clock.now()
            status = plane.status()
            after = clock.now()
            yield from check_server(status, plane.address, version("steersman"))
            yield check_clock(status.now, before, after)
            yield check_access(status, plane.whoami())
            yield from check_acting(status.acting)
            yield from check_sources(status.sources)
            yield from check_words(status)
    except NotReachable as error:
        yield Check(WARN, "server", error.detail, "start it with `steersman up`, or name it with --server")
    except SteersmanError as error:
        yield Check(FAIL, "server", error.detail, str(error.facts.get("hint", "")))


def _write(check: Check) -> None:
    from steersman.cli.screen import paint

    print(f"{paint(check.verdict)}{' ' * (6 - len(check.verdict))}{check.name}: {check.detail}")
    if check.advice:
        print(f"      {check.advice}")


COMMAND = Command(
    name="doctor",
    summary="Check this machine's set-up and a running Steersman",
    about="Each line is ok, warn or fail, with what to do. Exit code 1 if any check fails.",
    options=OPTIONS,
    run=run,
    examples=("steersman doctor", "steersman doctor -c steersman.yaml -o json"),
)
