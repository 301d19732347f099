"""Writing to stdout: plain and stable into a pipe or file, with colour and ruled tables on a terminal.

What a pipe gets is part of the surface: columns three spaces apart, headings in capitals, no colour, no
wrapping, whatever the terminal's width. rich is imported only where stdout is a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from steersman.kinds.entity import HealthState

GAP = "   "

STYLES: dict[str, str] = {
    HealthState.HEALTHY: "green",
    HealthState.WARNING: "yellow",
    HealthState.DEGRADED: "dark_orange",
    HealthState.CRITICAL: "bold red",
    HealthState.UNKNOWN: "dim",
    "stale": "yellow",
    "expired": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
}
"""Words that are coloured where they fill a cell."""


def on_terminal() -> bool:
    """Whether a person looks at stdout and wants colour (NO_COLOR and TERM=dumb say no)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with one heading line."""
    if on_terminal():
        _write_rich(headings, rows)
        return
    for line in plain_lines(headings, rows):
        print(line)


def write_block(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """An empty line, a title and a table below it; nothing where there are no rows."""
    if rows:
        print(f"\n{title}:")
        write_table(headings, rows)


def note(text: str) -> None:
    """A remark for people: on stderr, so that it never mixes with data."""
    print(text, file=sys.stderr)


@contextmanager
def progress(what: str) -> Generator[Callable[[str], None]]:
    """A function that shows how far it is, in one line of stderr that goes away at the end; silent where no
    person looks at stderr."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")


def write_pairs(pairs: Sequence[tuple[str, str]], indent: str = "") -> None:
    """`name:  value` lines with the values in one column."""
    width = max((len(name) for name, _ in pairs), default=0) + 1
    for name, value in pairs:
        print(f"{indent}{name + ':':<{width}}  {paint(value)}".rstrip())


def plain_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a plain table; the last column is not padded."""
    table = [list(headings), *map(list, rows)] if headings else [*map(list, rows)]
    if not table:
        return []
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]


def paint(word: str) -> str:
    """The word in its colour on a terminal, unchanged elsewhere."""
    style = STYLES.get(word)
    if style is None or not on_terminal():
        return word
    from rich.style import Style

    return Style.parse(style).render(word)


def write_json(value: Any) -> None:
    """`value` as indented JSON. Takes whatever msgspec can encode."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(text.decode() + "\n")


def write_yaml(value: Any) -> None:
    """`value` as YAML, in the order of its own keys."""
    import msgspec
    import yaml

    plain = msgspec.to_builtins(value, builtin_types=())
    yaml.safe_dump(plain, sys.stdout, sort_keys=False, allow_unicode=True, width=1000)


def write_data(value: Any, form: str) -> None:
    """`value` as `json` or `yaml`."""
    (write_json if form == "json" else write_yaml)(value)


def _write_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Text, not markup: a name that holds [brackets] is data.
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def plain_mapping(value: Mapping[str, Any]) -> str:
    """`a=1,b=2` for labels; `-` where there are none."""
    return ",".join(f"{name}={item}" for name, item in sorted(value.items())) or "-"
