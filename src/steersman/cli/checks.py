"""What `doctor` asks of a running server, and how it judges the answers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from steersman.cli.units import one_line, show_age

if TYPE_CHECKING:
    from steersman.client.shapes import Status, WhoAmI
    from steersman.kinds.explanation import SourceStatus

OK, WARN, FAIL = "ok", "warn", "fail"

SKEW_WARN_S = 2.0
"""More than a request takes, and more than NTP ever leaves."""
SKEW_FAIL_S = 60.0
"""From here on the server refuses time stamps of this machine (`future_timestamp`)."""


class Check(NamedTuple):
    """One line of `doctor`. `advice` is what to do about it; empty where nothing is to be done."""

    verdict: str
    name: str
    detail: str
    advice: str = ""


def check_server(status: Status, address: str, own_version: str) -> Iterable[Check]:
    """Whether it is ready and of the same version."""
    up = show_age(status.uptime_s)
    yield Check(OK, "server", f"{address} answers, version {status.version}, up for {up}")
    if status.version != own_version:
        yield Check(
            WARN,
            "version",
            f"this program is {own_version}, the server {status.version}",
            "install the same version on both sides",
        )
    if status.ready:
        yield Check(OK, "ready", "store, intake and tasks work")
    for line in status.failed:
        yield Check(FAIL, "ready", one_line(line), "see the server's log for the time before")
    yield from _check_tasks(status)
    if not status.dashboard_built:
        yield Check(
            WARN, "dashboard", "it was not built into the server", "run `make dashboard`, then restart"
        )
    else:
        yield Check(OK, "dashboard", f"at {address}/")


def check_clock(server: datetime, before: datetime, after: datetime) -> Check:
    """The server's clock against ours, which was read before and after it was asked."""
    if before <= server <= after:
        skew_s = 0.0
    else:
        skew_s = min((server - before).total_seconds(), (server - after).total_seconds(), key=abs)
    detail = f"the server's clock differs by {abs(skew_s):.1f} s from this machine's"
    if abs(skew_s) <= SKEW_WARN_S:
        return Check(OK, "clock", detail)
    verdict = WARN if abs(skew_s) < SKEW_FAIL_S else FAIL
    return Check(
        verdict, "clock", f"{detail} ({'ahead' if skew_s > 0 else 'behind'})", "set both clocks by NTP"
    )


def check_access(status: Status, caller: WhoAmI) -> Check:
    """Who we are to the server."""
    who = "without a token" if caller.anonymous else f"as {one_line(caller.name)}"
    needs = "every caller needs a token" if status.tokens_required else "callers on loopback need no token"
    return Check(OK, "access", f"{who}, role {caller.role}; {needs}")


def check_sources(sources: Iterable[SourceStatus]) -> Iterable[Check]:
    """Each source by its own status."""
    found = False
    for source in sources:
        found = True
        name = f"source {one_line(source.name)}"
        heard = f"heard {show_age(source.silent_s)} ago" if source.silent_s is not None else "never heard"
        detail = f"{source.state}, {heard}" + (f": {one_line(source.detail)}" if source.detail else "")
        if source.state == "alive":
            yield Check(OK, name, detail)
        elif source.state == "unheard" and not source.failures:
            yield Check(WARN, name, detail, "wait for its first interval; then look at the server's log")
        else:
            verdict = WARN if source.state == "failing" else FAIL
            yield Check(verdict, name, detail, _source_advice(source))
    if not found:
        yield Check(
            WARN, "sources", "nothing is observed", "name sources in steersman.yaml, or push fragments"
        )


def _source_advice(source: SourceStatus) -> str:
    if source.declared:
        return "look at its address and credentials in steersman.yaml, and whether the system behind it runs"
    return "whoever pushed under this name has stopped"


def _check_tasks(status: Status) -> Iterable[Check]:
    for task in status.tasks:
        if task.state in ("failed", "stuck"):
            why = f": {one_line(task.last_error)}" if task.last_error else ""
            yield Check(
                FAIL, f"task {task.name}", f"{task.state}{why}", "restart Steersman and report the error"
            )
        elif task.restarts:
            yield Check(
                WARN,
                f"task {task.name}",
                f"restarted {task.restarts} times; last: {one_line(task.last_error)}",
                "see the server's log",
            )
