"""Configuration: a YAML file and environment variables, read into a Struct, strictly.

A key that the schema does not know, a value of the wrong kind and a missing key are errors, and all errors
of a file are reported at once: each with file, line, what was expected, and the nearest valid key.

- *Schema*: a msgspec Struct. Fields are bool, int, float, str, `X | None`, lists, `dict[str, X]`, Literals,
  Enums, further Structs, and any class with `from_text(text)` and `EXPECTED` (`Duration`, `ByteSize`,
  `Secret`). `Annotated[X, Meta(...)]` bounds a value. A `Path` is relative to the folder of the file that
  names it. A field of type `Rest` takes the keys that the Struct does not know, to be read later by
  `convert` into a schema that is only known then.
- *References*: in any text `${env:NAME}` and `${file:PATH}` stand for a variable or a file's content; `$${`
  is a literal `${`. They are resolved here, and what they stand for appears in no error.
- *Variables*: `PREFIX_A_B` overrides the key `a.b`. Only single values and lists can be set so, never a
  whole section, so a name that is also a section's is free for other use. An unknown variable under the
  prefix is an error. One that is empty counts as not set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from steersman.kernel.confread import (
    MISSING,
    Field,
    Place,
    Problem,
    Reader,
    Rest,
    fields_of,
    is_utf8,
    section_of,
)
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import nearest
from steersman.kernel.yamltext import Located, YamlInvalid, parse

__all__ = ["ConfigInvalid", "ConfigUnreadable", "Problem", "Rest", "convert", "load"]

T = TypeVar("T", bound=msgspec.Struct)

PREFIX = "STEERSMAN"
PROBLEMS_SHOWN_MAX = 50


class ConfigInvalid(InvalidInput):
    """The configuration breaks its schema.

    `facts`: `problems`, one object each with `file` (or the variable), `line`, `key`, `detail`, `expected`
    and `nearest`; and those of the first one at the top.
    """

    code = "config_invalid"
    title = "Configuration invalid"

    def __init__(self, problems: list[Problem]) -> None:
        problems = sorted(problems, key=lambda problem: (problem.place.line or 0, problem.place.column or 0))
        shown = problems[:PROBLEMS_SHOWN_MAX]
        lines = [str(problem) for problem in shown]
        if len(problems) > len(shown):
            lines.append(f"and {len(problems) - len(shown)} more")
        first = {name: fact for name, fact in shown[0].as_facts().items() if name != "detail"}
        super().__init__("\n".join(lines), **first, problems=[problem.as_facts() for problem in shown])
        self.problems = problems


class ConfigUnreadable(InvalidInput):
    """The configuration file can't be read: missing, no permission, a folder. `facts`: `file`."""

    code = "config_unreadable"
    title = "Configuration can't be read"


def load(
    schema: type[T],
    path: Path | None,
    env: Mapping[str, str],
    *,
    prefix: str = PREFIX,
    reserved: Collection[str] = (),
) -> T:
    """The configuration in `path` (None: defaults alone) with the overrides in `env`.

    `reserved` names variables under the prefix that are not configuration. Paths and references in the file
    are relative to its folder, those in variables to the working directory.
    Raises `ConfigUnreadable`, `ConfigInvalid`.
    """
    root, folder = Located({}), Path.cwd()
    problems: list[Problem] = []
    if path is not None:
        folder = path.absolute().parent
        root = _read(path)
    values, found = _overrides(schema, env, prefix, reserved)
    problems += found
    reader = Reader(env, folder, values)
    settings = reader.struct(root, schema, ())
    problems += reader.problems
    if problems or settings is MISSING:
        raise ConfigInvalid(problems)
    return settings


def convert(rest: Rest, schema: type[T], *, also: Collection[str] = ()) -> T:
    """The keys that `rest` kept, read into `schema` as strictly as the others. Raises `ConfigInvalid`.

    `also` names keys that are valid at the same place but already taken: proposals for wrong keys only.
    """
    reader = Reader(rest.env, rest.folder, {})
    options = reader.struct(rest.located, schema, rest.path, also=(*also, *rest.known))
    if reader.problems:
        raise ConfigInvalid(reader.problems)
    return options


def variable_of(path: tuple[str, ...], prefix: str = PREFIX) -> str:
    """The environment variable that overrides the key at `path`."""
    return "_".join((prefix, *path)).upper()


def _read(path: Path) -> Located:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigUnreadable(
            f"configuration file {path} can't be read: {error.strerror}; name another with --config",
            file=str(path),
        ) from error
    try:
        return parse(text, str(path))
    except YamlInvalid as error:
        place = Place(str(path), error.facts["line"], error.facts["column"])
        detail = error.detail.split(": ", 1)[-1]
        raise ConfigInvalid([Problem(place, "", detail, expected="YAML")]) from error


def _leaves(
    schema: type[msgspec.Struct], path: tuple[str, ...] = ()
) -> dict[str, tuple[tuple[str, ...], Field]]:
    """Each key that a variable can set, by the variable's name without the prefix."""
    leaves: dict[str, tuple[tuple[str, ...], Field]] = {}
    for field in fields_of(schema).values():
        here = (*path, field.key)
        section = section_of(field.type)
        if section is not None:
            leaves |= _leaves(section, here)
        elif field.type is not Rest:
            leaves["_".join(here).upper()] = (here, field)
    return leaves


def _overrides(
    schema: type[msgspec.Struct], env: Mapping[str, str], prefix: str, reserved: Collection[str]
) -> tuple[dict[tuple[str, ...], Located], list[Problem]]:
    leaves = _leaves(schema)
    values: dict[tuple[str, ...], Located] = {}
    problems: list[Problem] = []
    for name in sorted(env):
        text = env[name]
        if not name.startswith(f"{prefix}_") or name in reserved or not text or _is_service_link(name, text):
            continue
        leaf = leaves.get(name[len(prefix) + 1 :])
        if leaf is None:
            near = nearest(name, [*(f"{prefix}_{leaf}" for leaf in leaves), *reserved])
            problems.append(
                Problem(Place(name), "", f"{name} is no setting of this program", "a known variable", near)
            )
            continue
        path, field = leaf
        if not is_utf8(text):
            problems.append(Problem(Place(name), ".".join(path), "not UTF-8 text", "UTF-8 text"))
            continue
        try:
            values[path] = _variable(name, text, field)
        except YamlInvalid as error:
            detail = error.detail.split(": ", 1)[-1]
            problems.append(Problem(Place(name), ".".join(path), detail, "a YAML list or value"))
    return values, problems


def _variable(name: str, text: str, field: Field) -> Located:
    """A variable's text: YAML where a list or mapping is due, one value else. A list of texts may be given
    bare, with commas."""
    if not field.is_collection:
        return Located(text, name, quoted=False)
    if field.is_text_list and not text.lstrip().startswith("["):
        items = [Located(item.strip(), name, quoted=True) for item in text.split(",") if item.strip()]
        return Located(items, name)
    return parse(text, name)


# Kubernetes puts variables for each service of the namespace into every container: a service named
# `steersman-server` gives STEERSMAN_SERVER_PORT=tcp://10.0.0.1:7440, which is nobody's configuration.
_SERVICE_LINK = re.compile(r".*_SERVICE_(HOST|PORT(_\w+)?)|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")


def _is_service_link(name: str, text: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return name.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", text) is not None
