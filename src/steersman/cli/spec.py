"""A command's shape as data, and the argparse parser made from it.

The data is read three times: to parse, to print help, and by the test that holds docs/reference/cli.md to
it. argparse is used instead of a richer library because of start-up time (decision 0019).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from steersman.cli.exits import WrongUsage

Run = Callable[[argparse.Namespace], int]


class Option(NamedTuple):
    """One option (`flags` start with a dash) or positional argument (they don't).

    `env` names the environment variable that gives its value where the option is not given. `switch` is an
    option without a value, `repeat` one that may be given more than once. A positional with `optional` may be
    left out.
    """

    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    env: str = ""
    repeat: bool = False
    switch: bool = False
    optional: bool = False
    read: Callable[[str], Any] | None = None

    @property
    def positional(self) -> bool:
        """Whether it is an argument by place."""
        return not self.flags[0].startswith("-")

    @property
    def value_name(self) -> str:
        """What stands for its value in help and documentation; empty for a switch."""
        if self.switch:
            return ""
        return "|".join(self.choices) if self.choices else self.metavar or self.flags[-1].lstrip("-").upper()


class Command(NamedTuple):
    """A command, or one action of a command that has several (`token create`).

    `about` is the paragraph under the usage line, `examples` are lines that can be typed as they stand.
    `talks` adds the options of a connection (`--server` ...).
    """

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    run: Run | None = None
    about: str = ""
    examples: tuple[str, ...] = ()
    actions: tuple[Command, ...] = ()
    talks: bool = True


CONNECTION = (
    Option(("--server",), "address of the Steersman to talk to", "URL", env="STEERSMAN_SERVER"),
    Option(("--token",), "bearer token; better given by the variable", "TOKEN", env="STEERSMAN_TOKEN"),
)
"""Options of every command that talks to a running Steersman."""

DEBUG = Option(("--debug",), "show the whole traceback of an error", switch=True)
"""Option of every command."""


def options_of(command: Command) -> tuple[Option, ...]:
    """All options a command takes, in the order of its help."""
    return (*command.options, *(CONNECTION if command.talks else ()), DEBUG)


class Parser(argparse.ArgumentParser):
    """argparse that raises `WrongUsage` where the original prints and exits."""

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(message, hint=f"{self.prog} --help")


def parse(command: Command, arguments: Sequence[str]) -> tuple[Run, argparse.Namespace]:
    """The function to run and its arguments. `--help` prints and raises SystemExit(0)."""
    path = [command.name]
    rest = list(arguments)
    while command.actions:
        if not rest or rest[0] in ("-h", "--help"):
            parser_of(command, path).print_help()
            raise SystemExit(0 if rest else 2)
        command = _action(command, path, rest.pop(0))
        path.append(command.name)
    parser = parser_of(command, path)
    parsed = parser.parse_args(rest)
    assert command.run is not None, path  # noqa: S101 - a command without actions has a function; tests hold it
    return command.run, parsed


def parser_of(command: Command, path: Sequence[str]) -> Parser:
    """The parser of one command; `path` is how it is typed, without the program's name."""
    epilog = ""
    if command.actions:
        width = max(len(action.name) for action in command.actions)
        lines = [f"  {action.name:<{width}}  {action.summary}" for action in command.actions]
        epilog = "actions:\n" + "\n".join(lines) + "\n"
    if command.examples:
        epilog += "examples:\n" + "\n".join(f"  {example}" for example in command.examples)
    parser = Parser(
        prog="steersman " + " ".join(path),
        usage="%(prog)s ACTION [options]" if command.actions else None,
        description=f"{command.summary}.\n\n{command.about}".strip()
        if command.about
        else f"{command.summary}.",
        epilog=epilog or None,
        allow_abbrev=False,  # a shortened option would change its meaning when a new one is added
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not command.actions:
        for option in options_of(command):
            _add(parser, option)
    return parser


def _action(command: Command, path: Sequence[str], name: str) -> Command:
    for action in command.actions:
        if action.name == name:
            return action
    names = [action.name for action in command.actions]
    raise WrongUsage(
        f"{' '.join(path)} has no action {name!r}; there are {', '.join(names)}",
        hint=did_you_mean(name, names) or f"steersman {' '.join(path)} --help",
    )


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    words = option.help
    if option.env:
        words += f" (also ${option.env})"
    elif option.default is not None and not option.switch:
        words += f" (default {option.default})"
    default = os.environ.get(option.env) or option.default if option.env else option.default
    settings: dict[str, Any] = {"help": words.replace("%", "%%"), "default": default}
    if option.switch:
        settings |= {"action": "store_true", "default": False}
    else:
        if option.choices:
            settings["choices"] = option.choices
        if option.metavar or option.choices:
            settings["metavar"] = option.value_name
        if option.read is not None:
            settings["type"] = option.read
        if option.repeat:
            settings |= {"action": "append", "default": []}
        if option.positional and option.optional:
            settings["nargs"] = "?"
    parser.add_argument(*option.flags, **settings)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`did you mean ...?` for the nearest known word; empty where none is near."""
    from steersman.kernel.nearest import nearest

    near = nearest(word, known)
    return f"did you mean {near}?" if near else ""


def read_duration_s(text: str, option: str) -> float:
    """Seconds from 500ms, 10s, 5m, 1h30m. `WrongUsage` names the option; no time at all is refused too."""
    from steersman.kernel.quantity import Duration, QuantityInvalid

    try:
        seconds = float(Duration.from_text(text))
    except QuantityInvalid as error:
        raise WrongUsage(f"{option}: {error.detail}") from None
    if seconds <= 0:
        raise WrongUsage(f"{option} is {text!r}; expected more than no time at all")
    return seconds
