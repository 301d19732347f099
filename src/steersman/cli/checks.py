"""What `doctor` asks of a running server, and how it judges the answers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from steersman.cli.units import one_line, show_age

if TYPE_CHECKING:
    from steersman.client.shapes import Status, WhoAmI
    from steersman.kinds.explanation import SourceStatus
    from steersman.kinds.running import ActingStatus, AdviceStatus, EventsStatus, LoopStatus

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
        yield Check(OK, "ready", "store, intake, tasks and loop work")
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


def check_acting(acting: ActingStatus | None) -> Iterable[Check]:
    """How what is decided, acted on and told fares, and each file that was given and is not in force."""
    if acting is None:
        return
    yield from _check_loop(acting.loop)
    yield from _check_advice(acting.advice)
    yield from _check_events(acting.events)
    for one in acting.left_out:
        check = "policy dry-run" if one.what == "policy" else "lifecycle lint"
        advice = f"it is not in force: put it right (steersman {check} FILE checks it), then restart"
        yield Check(FAIL, one.what, one_line(str(one)), advice)


def _check_loop(loop: LoopStatus | None) -> Iterable[Check]:
    if loop is None:
        return
    detail = f"{loop.in_flight} resources are worked on, {loop.queued} wait, {loop.delayed} are due later"
    if loop.queued:
        detail += f"; the longest has waited {show_age(loop.oldest_wait_s)}"
    if loop.stuck or loop.failing:
        detail += f"; {loop.stuck} are stuck, {loop.failing} keep failing"
        yield Check(WARN, "loop", detail, "`steersman explain KIND/NAME` says what one waits for")
    else:
        yield Check(OK, "loop", detail)


def _check_advice(advice: AdviceStatus | None) -> Iterable[Check]:
    if advice is None:
        return
    detail = f"{advice.policies} are evaluated, {advice.open} recommendations are open"
    if advice.waiting:
        yield Check(
            WARN, "policies", f"{detail}, {advice.waiting} more found no place", "decide on what is open"
        )
    else:
        yield Check(OK, "policies", detail)
    if advice.frozen:
        yield Check(
            WARN, "freeze", "nothing acts by itself: acting is frozen", "steersman freeze --off --reason WHY"
        )


def _check_events(events: EventsStatus | None) -> Iterable[Check]:
    if events is None or not events.subscriptions:
        return
    detail = f"{events.subscriptions}, {events.pending} events on their way"
    if events.failing or events.dead_letters:
        detail += f"; {events.failing} of them fail, {events.dead_letters} dead letters"
        yield Check(WARN, "subscriptions", detail, "look at the receivers, then replay what they missed")
    else:
        yield Check(OK, "subscriptions", detail)


def check_words(status: Status) -> Iterable[Check]:
    """Whether all that sources say is known, and all names are clear. Servers of before do not tell."""
    drift, ambiguous = status.bus.get("drift", 0), status.bus.get("ambiguous", 0)
    if drift:
        detail = f"{drift} kinds of words, shapes or names that this server does not know"
        yield Check(WARN, "drift", detail, "`steersman get drift` lists them")
    if ambiguous:
        detail = f"{ambiguous} entities could each be one of several others"
        advice = "`steersman explain` shows which; set identity.aliases in steersman.yaml"
        yield Check(WARN, "identity", detail, advice)


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
        elif source.state == "unheard":
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
