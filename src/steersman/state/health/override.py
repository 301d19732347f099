"""A site's own health rules: files that change rows of a table, or take its place.

    entity_type: gpu
    version: 3                  # of this file; verdicts name it
    rules:                      # in place of those of the same name, or beside the others
      - {name: hot, health: degraded, detail: "{temperature_celsius} °C", all: [...]}
    remove: [persistence_off]   # rules and planned states that shall not speak

With `replace: true` nothing of the shipped table is kept but the rules of all types. What is wrong in a file
is told with file and line, and then no file is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from steersman.kernel.errors import InvalidInput
from steersman.kernel.yamltext import TEXT_MAX_BYTES, Located, YamlInvalid, parse
from steersman.kinds.entity import EntityType
from steersman.state.health.table import (
    Change,
    Comparison,
    Entry,
    Planned,
    Rule,
    Table,
    expand,
    problems,
    set_changes,
    shipped_table,
)
from steersman.state.health.verdict import forget_tables

FILES_MAX = 100
"""Health files of one installation."""

_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]")


class HealthFileInvalid(InvalidInput):
    """A health file can't be used. `facts`: `file`, `line`."""

    code = "health_file_invalid"
    title = "Health file invalid"


class HealthFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What a file says. `version` is of the file; `rules` and `planned` take the place of those of the same
    name or stand beside the others; `remove` names what shall not speak. `evidence` and `classes`, where
    given, take the place of the table's. `replace`: nothing of the shipped table is kept."""

    entity_type: EntityType
    version: int = 1
    replace: bool = False
    evidence: tuple[tuple[str, ...], ...] | None = None
    rules: tuple[Rule, ...] = ()
    planned: tuple[Planned, ...] = ()
    classes: dict[str, Comparison] = msgspec.field(default_factory=dict[str, Comparison])
    remove: tuple[str, ...] = ()


def use_health_files(paths: Sequence[Path]) -> list[str]:
    """Take these files (and only these) for all verdicts from now on; the names of the changed tables.
    Raises `HealthFileInvalid`: nothing is changed then."""
    if len(paths) > FILES_MAX:
        raise HealthFileInvalid(
            f"{len(paths)} health files; at most {FILES_MAX} are read", file=str(paths[0])
        )
    changes: dict[EntityType, tuple[Change, ...]] = {}
    tables: dict[EntityType, Table] = {}
    for path in paths:
        kind, change, table = read_health_file(path, tables)
        changes[kind] = (*changes.get(kind, ()), change)
        tables[kind] = table
    set_changes(changes)
    forget_tables()
    return [table.name for table in tables.values()]


def read_health_file(path: Path, tables: dict[EntityType, Table]) -> tuple[EntityType, Change, Table]:
    """The type that a file is for, what it changes, and the table that comes of it; `tables` has those that
    earlier files changed. Raises `HealthFileInvalid`."""
    root, file = _read(path)
    kind = file.entity_type

    def change(table: Table) -> Table:
        return changed(table, file, path.stem)

    before = tables.get(kind) or shipped_table(kind)
    known = {entry.name for entry in (*before.rules, *before.planned)}
    for number, name in enumerate(file.remove):
        if name not in known:
            raise _invalid(root, path, ("remove", number), f"no rule or planned state {name!r} to remove")
    table = change(before)
    for problem in problems(expand(table), kind):
        raise _invalid(root, path, _place_of(file, problem), problem)
    return kind, change, table


def changed(table: Table, file: HealthFile, name: str) -> Table:
    """The table with what a file says. Rules of all types stay, unless they are removed by name."""
    own = {entry.name for entry in (*file.rules, *file.planned)} | set(file.remove)

    def kept(entries: Iterable[Entry]) -> list[Entry]:
        common = [entry for entry in entries if not file.replace or entry.name.startswith("reported_")]
        return [entry for entry in common if entry.name not in own]

    rules = [entry for entry in kept(table.rules) if isinstance(entry, Rule)]
    planned = [entry for entry in kept(table.planned) if isinstance(entry, Planned)]
    return msgspec.structs.replace(
        table,
        rules=(*file.rules, *rules),
        planned=(*file.planned, *planned),
        evidence=file.evidence if file.evidence is not None else table.evidence,
        classes={**({} if file.replace else table.classes), **file.classes},
        overrides=(*table.overrides, f"{name}/v{file.version}"),
    )


def _read(path: Path) -> tuple[Located, HealthFile]:
    try:
        if path.stat().st_size > TEXT_MAX_BYTES:
            raise HealthFileInvalid(f"{path}: larger than {TEXT_MAX_BYTES} bytes", file=str(path), line=0)
        text = path.read_bytes()
    except OSError as error:
        raise HealthFileInvalid(f"{path}: can't be read: {error.strerror}", file=str(path), line=0) from error
    try:
        root = parse(text, str(path))
    except YamlInvalid as error:
        raise HealthFileInvalid(error.detail, file=str(path), line=error.facts.get("line", 0)) from error
    try:
        return root, msgspec.convert(root.plain(), HealthFile)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        steps = [name or int(number) for name, number in _STEP.findall(where.rstrip("`"))]
        raise _invalid(root, path, tuple(steps), what) from error


def _place_of(file: HealthFile, problem: str) -> tuple[str | int, ...]:
    """Where in the file a problem lies that begins with the name of an entry."""
    name = problem.partition(":")[0]
    for section, entries in (("rules", file.rules), ("planned", file.planned)):
        for number, entry in enumerate(entries):
            if entry.name == name:
                return section, number
    return ("evidence",) if name == "evidence" else ()


def _invalid(root: Located, path: Path, steps: tuple[str | int, ...], what: str) -> HealthFileInvalid:
    """The error at the deepest place of `steps` that the file has."""
    place = root
    for end in range(len(steps), 0, -1):
        found = root.find(*steps[:end])
        if found is not None:
            place = found
            break
    return HealthFileInvalid(f"{path}:{place.line}: {what}", file=str(path), line=place.line)
