"""From the words on the command line to an exit code: dispatch, the first help page, and errors as one line.

This module and what it imports are the whole cost of `steersman --help`; keep it so (bench/startup.py).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from steersman.cli.exits import (
    DONE,
    FAILED,
    INTERRUPTED,
    NOT_REACHABLE,
    OUTPUT_CLOSED,
    WRONG_USAGE,
    WrongUsage,
)
from steersman.kernel.errors import SteersmanError

if TYPE_CHECKING:
    from steersman.cli.spec import Command


class Entry(NamedTuple):
    """A line of the first help page: a command's name, the module with its `COMMAND` (or `module:NAME`), a
    sentence."""

    name: str
    module: str
    summary: str


GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Run",
        (
            Entry("up", "steersman.cli.up", "Start Steersman: observe, and serve the API and the dashboard"),
            Entry("doctor", "steersman.cli.doctor", "Check this machine's set-up and a running Steersman"),
        ),
    ),
    (
        "Read",
        (
            Entry("get", "steersman.cli.get", "List entities of a kind, or show one"),
            Entry(
                "describe",
                "steersman.cli.describe",
                "Show an entity's fields with unit, age, source and reasons",
            ),
            Entry("explain", "steersman.cli.explain", "Show where every value of an entity comes from"),
            Entry("watch", "steersman.cli.watch", "Follow changes as they happen"),
            Entry(
                "history",
                "steersman.cli.moving:HISTORY",
                "Show what was done to a resource, by whom and why; or how an entity's state changed",
            ),
            Entry("path", "steersman.cli.moving:PATH", "Show the way from where a node is to a state"),
            Entry(
                "allowed",
                "steersman.cli.moving:ALLOWED",
                "Show what could be asked of a resource now, and why not",
            ),
        ),
    ),
    (
        "Act",
        (
            Entry(
                "set",
                "steersman.cli.moving:SET",
                "Say where a node is meant to be; the loop takes it there",
            ),
            Entry(
                "apply",
                "steersman.cli.apply",
                "Create resources from a file, or change what differs",
            ),
            Entry("delete", "steersman.cli.moving:DELETE", "Take a resource out; its history stays"),
            Entry(
                "hold",
                "steersman.cli.moving:HOLD",
                "Hold a resource so that nothing more is done to it, or let it go",
            ),
            Entry(
                "approve",
                "steersman.cli.deciding:APPROVE",
                "Agree to a recommendation; it is carried out if its guardrails still pass",
            ),
            Entry("reject", "steersman.cli.deciding:REJECT", "Say no to a recommendation"),
            Entry("snooze", "steersman.cli.deciding:SNOOZE", "Ask nobody about a recommendation for a while"),
            Entry(
                "freeze",
                "steersman.cli.deciding:FREEZE",
                "Freeze all that the plane does by itself, or let it go on",
            ),
            Entry(
                "policy",
                "steersman.cli.policy",
                "Show policies, say how far each may go, and try new ones",
            ),
            Entry(
                "lifecycle",
                "steersman.cli.lifecycle",
                "Show, draw and check the tables by which things move",
            ),
        ),
    ),
    (
        "Keep",
        (
            Entry("record", "steersman.cli.record", "Write what the sources say into a file"),
            Entry("replay", "steersman.cli.replay", "Play a recording again, to the byte"),
            Entry("token", "steersman.cli.token", "Create, list and revoke access tokens"),
            Entry(
                "subscription",
                "steersman.cli.subscription",
                "Say who is sent which events of managed things",
            ),
            Entry("store", "steersman.cli.store", "Check what is on disk"),
            Entry("completion", "steersman.cli.completion", "Print a shell's completion script"),
            Entry("version", "steersman.cli.version", "Show the versions of this program and of the server"),
        ),
    ),
)
COMMANDS: dict[str, Entry] = {entry.name: entry for _, entries in GROUPS for entry in entries}

GLOBAL_VALUES = ("--server", "--token")
"""Options with a value that are also accepted before the command."""
GLOBAL_SWITCHES = ("--debug",)
EXITS_LINE = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reachable."


def run_program(words: Sequence[str]) -> int:
    """Run one command line; the exit code comes back, and nothing is raised but SystemExit by `--help`."""
    debug = "--debug" in words
    try:
        code = _run(words)
        sys.stdout.flush()  # here, where a closed pipe can still be answered
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return OUTPUT_CLOSED
    except SteersmanError as error:
        if debug:
            raise
        return _say(error)
    except OSError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except Exception as error:
        if debug:
            raise
        print(f"error: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("hint: the same command with --debug shows where; please report it", file=sys.stderr)
        return FAILED
    return code


def _run(words: Sequence[str]) -> int:
    name, rest = split(words)
    if name in ("", "help", "-h", "--help"):
        sys.stdout.write(help_text())
        return DONE if words else WRONG_USAGE
    if name in ("-V", "--version"):
        name, rest = "version", ["--client", *rest]
    command = load(name)
    from steersman.cli.spec import parse

    run, arguments = parse(command, rest)
    return run(arguments)


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command's name and its arguments; connection options before the name go behind it."""
    before: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word in GLOBAL_VALUES:
            before += words[at : at + 2]
            at += 2
        elif word in GLOBAL_SWITCHES or word.partition("=")[0] in GLOBAL_VALUES:
            before.append(word)
            at += 1
        else:
            return word, [*before, *words[at + 1 :]]
    return "", before


def load(name: str) -> Command:
    """The command of that name; `WrongUsage` where there is none."""
    entry = COMMANDS.get(name)
    if entry is None:
        from steersman.cli.spec import did_you_mean

        what = (
            f"there is no option {name} before a command"
            if name.startswith("-")
            else f"unknown command {name!r}"
        )
        raise WrongUsage(
            what, hint=did_you_mean(name, list(COMMANDS)) or "steersman --help lists the commands"
        )
    module, _, attribute = entry.module.partition(":")
    command: Command = getattr(importlib.import_module(module), attribute or "COMMAND")
    return command


def help_text() -> str:
    """The first help page."""
    width = max(map(len, COMMANDS))
    lines = [
        "usage: steersman COMMAND [options]",
        "",
        "One true picture of a fleet: GPUs, nodes, jobs, services and what else runs AI.",
    ]
    for title, entries in GROUPS:
        lines += ["", f"{title}:", *(f"  {entry.name:<{width}}  {entry.summary}" for entry in entries)]
    lines += [
        "",
        "steersman COMMAND --help shows a command's options and examples.",
        "The server's address is taken from --server or $STEERSMAN_SERVER, a token from $STEERSMAN_TOKEN.",
        EXITS_LINE,
        "",
    ]
    return "\n".join(lines)


def _say(error: SteersmanError) -> int:
    """One line of what went wrong, then what to do about it, on stderr; the exit code that fits."""
    first, *more = error.detail.splitlines() or [error.title]
    print(f"error: {first}", file=sys.stderr)
    for line in more:
        print(f"  {line}", file=sys.stderr)
    for hint in _hints(error):
        print(f"hint: {hint}", file=sys.stderr)
    return exit_code_of(error)


def _hints(error: SteersmanError) -> list[str]:
    facts = error.facts
    hints = [str(facts["hint"])] if facts.get("hint") else []
    if facts.get("nearest") and "did you mean" not in error.detail:
        hints.append(f"did you mean {facts['nearest']}?")
    if facts.get("incident"):
        hints.append(f"the server's log has it as {facts['incident']}")
    if facts.get("allowed"):
        hints.append(f"allowed: {', '.join(map(_allowed_word, facts['allowed']))}")
    hints += [
        f"{name}: {'; '.join(map(_allowed_word, facts[name]))}"
        for name in ("failed", "missing")
        if facts.get(name) and isinstance(facts[name], list)
    ]
    return hints


def _allowed_word(one: Any) -> str:
    """One member of a fact that lists: an event with where it leads, a guard with what is missing."""
    if not isinstance(one, dict):
        return str(one)
    members: dict[str, Any] = {**one}
    if members.get("event") and members.get("to"):
        return f"{members['event']} (to {members['to']})"
    return ", ".join(f"{name} {value}" for name, value in members.items() if value)


def exit_code_of(error: SteersmanError) -> int:
    """The exit code for an error. Codes name what the caller must tell apart, not where it was raised."""
    if error.code in ("wrong_usage", "config_invalid", "config_unreadable"):
        return WRONG_USAGE
    if error.code == "not_reachable":
        return NOT_REACHABLE
    return FAILED


def _drop_stdout() -> None:
    # The interpreter flushes stdout once more at exit and would complain about the closed pipe again.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
