"""The option tables of docs/reference/cli.md, made from the commands themselves.

`python -m steersman.cli.reference docs/reference/cli.md` writes them again; a test fails until it was done.
The prose between the tables is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from steersman.cli.program import COMMANDS, load
from steersman.cli.spec import Command, Option, options_of

BEGIN, END = "<!-- made from the command -->", "<!-- to here -->"
_BLOCK = re.compile(
    rf"(^### `steersman (?P<path>[^`]+)`\n(?:(?!^### )[^\n]*\n)*?){BEGIN}\n.*?{END}", re.MULTILINE | re.DOTALL
)


def leaves() -> Iterator[tuple[str, Command]]:
    """Every command that can be typed, as `get` or `token create`."""
    for name in COMMANDS:
        command = load(name)
        if command.actions:
            yield from ((f"{name} {action.name}", action) for action in command.actions)
        else:
            yield name, command


def section(command: Command) -> str:
    """What stands between the marks: the sentence, the options, the examples."""
    lines = [f"{command.summary}."]
    if command.about:
        lines += ["", command.about]
    lines += ["", "| option | what it does |", "|---|---|"]
    lines += [f"| {_typed(option)} | {_told(option)} |" for option in options_of(command)]
    lines += ["", "```sh", *command.examples, "```"]
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with every block made anew."""
    commands = dict(leaves())

    def fill(match: re.Match[str]) -> str:
        command = commands.get(match["path"])
        body = section(command) if command is not None else "There is no such command."
        return f"{match[1]}{BEGIN}\n{body}\n{END}"

    return _BLOCK.sub(fill, page)


def _typed(option: Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    if option.positional:
        return f"{flags} (may be left out)" if option.optional else flags
    value = option.value_name.replace("|", "\\|")
    return f"{flags} `{value}`" if value else flags


def _told(option: Option) -> str:
    words = option.help
    if option.repeat:
        words += "; may be given more than once"
    if option.default not in (None, False):
        words += f" (default `{option.default}`)"
    if option.env:
        words += f" (also `{option.env}`)"
    return words.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the blocks of the named page again."""
    page = Path(arguments[0])
    page.write_text(updated(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
