"""Reading a located tree into a Struct and noting every problem on the way. `kernel.config` is its door."""

from __future__ import annotations

import inspect
import os
import re
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, Union, cast, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo
from msgspec.structs import fields as struct_fields

from steersman.kernel.bounds import KIB
from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import nearest
from steersman.kernel.quantity import Between
from steersman.kernel.redact import is_secret_key, redact_text
from steersman.kernel.secret import Secret
from steersman.kernel.yamltext import Located, scalar

REFERENCE_FILE_MAX_BYTES = 64 * KIB
"""A larger file is no secret but somebody's mistake in a path."""

PROBLEMS_MAX = 200
"""More than anybody reads; a file that is something else altogether must not keep us busy for minutes."""

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<kind>env|file):(?P<name>[^}]*)\}|(?P<bad>[^}]*)\}?)")
_VALUE_SHOWN_MAX_CHARS = 60


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
"""Stands for a value that could not be read; its problem has been noted."""


class _FromText(Protocol):
    EXPECTED: str

    @classmethod
    def from_text(cls, text: str | float) -> Any: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a file's line and column, or a variable's name alone."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration. `nearest` is the valid key (or word) most like the wrong one."""

    place: Place
    key: str
    detail: str
    expected: str = ""
    nearest: str | None = None

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place.source else ""
        key = f"{self.key}: " if self.key else ""
        expected = f"; expected {self.expected}" if self.expected else ""
        near = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{where}{key}{self.detail}{expected}{near}"

    def as_facts(self) -> dict[str, Any]:
        """As plain data, for problem+json and programs."""
        facts: dict[str, Any] = {"file": self.place.source, "key": self.key, "detail": self.detail}
        if self.place.line is not None:
            facts |= {"line": self.place.line, "column": self.place.column}
        if self.expected:
            facts["expected"] = self.expected
        if self.nearest:
            facts["nearest"] = self.nearest
        return facts


@dataclass(slots=True, repr=False)
class Rest:
    """The keys of a mapping that its Struct does not know, kept with their places for a later schema.

    References in it are not resolved yet, so it holds no secret that a reference stands for.
    """

    located: Located = field(default_factory=lambda: Located({}))
    path: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: Path = field(default_factory=Path)
    known: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Rest({', '.join(self.located.mapping or {})})"


class Field:
    """A field of a schema: its key in the file, its type without annotations, its bounds."""

    __slots__ = ("bounded", "info", "key", "type")

    def __init__(self, info: FieldInfo) -> None:
        self.info = info
        self.key = info.encode_name
        self.bounded = info.type
        self.type = bare(info.type)

    @property
    def required(self) -> bool:
        """Whether the file must have it."""
        return self.info.default is NODEFAULT and self.info.default_factory is NODEFAULT

    @property
    def is_collection(self) -> bool:
        """Whether it is a list or a mapping (or may be None instead)."""
        return any(get_origin(kind) in (list, tuple, dict) for kind in options(self.type))

    @property
    def is_text_list(self) -> bool:
        """Whether it is a list of texts or paths."""
        lists = [kind for kind in options(self.type) if get_origin(kind) in (list, tuple)]
        return any(bare(get_args(kind)[0]) in (str, Path) for kind in lists)


def fields_of(schema: type[Struct]) -> dict[str, Field]:
    """The schema's fields by their keys."""
    return {info.encode_name: Field(info) for info in struct_fields(schema)}


def bare(kind: Any) -> Any:
    """A type without its annotations."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def options(kind: Any) -> tuple[Any, ...]:
    """The members of a union; the type itself where it is none."""
    kind = bare(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(bare(member) for member in get_args(kind))
    return (kind,)


def members(kind: Any) -> tuple[Any, ...]:
    """The members of a union with their annotations, None left out; the type itself where it is no union."""
    inner = bare(kind)
    if get_origin(inner) not in (Union, types.UnionType):
        return (kind,)
    found = tuple(member for member in get_args(inner) if bare(member) is not type(None))
    return (kind,) if len(found) == 1 and inner is not kind else found


def section_of(kind: Any) -> type[Struct] | None:
    """The Struct that a key holds (or may hold), if it is a section and no value."""
    for option in options(kind):
        if inspect.isclass(option) and issubclass(option, Struct):
            return option
    return None


def expectation(kind: Any) -> str:
    """What a type expects, in words."""
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    kind = bare(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(expectation(member) for member in get_args(kind) if member is not type(None))
    words = _expected_word(kind)
    for note in notes:
        if isinstance(note, Between):
            words += f", {note}"
        elif isinstance(note, Meta):
            words = note.description if note.description is not None else words + _bounds(note)
    return words


def _expected_word(kind: Any) -> str:
    simple = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if kind in simple:
        return simple[kind]
    if hasattr(kind, "EXPECTED"):
        return str(kind.EXPECTED)
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(word) for word in get_args(kind))
    if origin in (list, tuple):
        return f"a list ({expectation(get_args(kind)[0])} each)"
    if origin is dict or (inspect.isclass(kind) and issubclass(kind, Struct)):
        return "a mapping (key: value)"
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    return getattr(kind, "__name__", str(kind))


def _bounds(meta: Meta) -> str:
    low = meta.ge if meta.ge is not None else meta.gt
    high = meta.le if meta.le is not None else meta.lt
    words = ""
    if low is not None and high is not None:
        words += f" from {low:g} to {high:g}"
    elif low is not None:
        words += f" of at least {low:g}" if meta.ge is not None else f" over {low:g}"
    elif high is not None:
        words += f" of at most {high:g}"
    if meta.min_length == 1:
        words += " that is not empty"
    if meta.max_length is not None:
        words += f" of at most {meta.max_length} characters"
    if meta.pattern is not None:
        words += f" matching {meta.pattern}"
    return words


class Reader:
    """One reading: resolves references, converts values, and collects problems instead of stopping."""

    def __init__(
        self, env: Mapping[str, str], folder: Path, overrides: Mapping[tuple[str, ...], Located]
    ) -> None:
        self.problems: list[Problem] = []
        self._env = env
        self._folder = folder
        self._overrides = overrides

    def struct(
        self, node: Located, schema: type[Struct], path: tuple[str, ...], also: Collection[str] = ()
    ) -> Any:
        """`node` as a `schema`, or MISSING with the problems noted."""
        before = len(self.problems)
        mapping = {} if node.value is None else node.mapping
        if mapping is None:
            self._wrong(node, path, schema)
            return MISSING
        known = fields_of(schema)
        rest = next((item for item in known.values() if item.type is Rest), None)
        values: dict[str, Any] = {}
        for key, item in known.items():
            if item is rest:
                continue
            value = self._member(mapping.get(key), item, (*path, key), node)
            if value is not MISSING:
                values[item.info.name] = value
        unknown = [key for key in mapping if key not in known or (rest is not None and key == rest.key)]
        if rest is not None:
            values[rest.info.name] = self._rest(node, unknown, path, known)
        else:
            for key in unknown:
                self._unknown(node, key, path, [*known, *also])
        if len(self.problems) > before:
            return MISSING
        try:
            return schema(**values)
        except (ValueError, InvalidInput) as error:  # what __post_init__ says of the values together
            self._note(Problem(self._place(node), ".".join(path), str(error)))
            return MISSING

    def _member(self, node: Located | None, item: Field, path: tuple[str, ...], parent: Located) -> Any:
        override = self._overrides.get(path)
        if override is not None:
            return self.value(override, item.bounded, path, from_text=True)
        section = section_of(item.type)
        if node is None and section is not None and not item.required:
            if not any(key[: len(path)] == path for key in self._overrides):
                return MISSING  # the default stands
            node = Located({}, parent.file, parent.line, parent.column)
        if node is None:
            if item.required:
                problem = Problem(
                    self._place(parent), ".".join(path), "this key is missing", expectation(item.bounded)
                )
                self._note(problem)
            return MISSING
        return self.value(node, item.bounded, path)

    def value(self, node: Located, kind: Any, path: tuple[str, ...], *, from_text: bool = False) -> Any:
        """`node` as `kind`, or MISSING with the problem noted. `from_text`: it was written in a variable,
        where everything is text and plain words are read as in a file."""
        if node.value is None and type(None) in options(kind):
            return None
        choices = members(kind)
        if len(choices) > 1:
            return self._union(node, kind, choices, path, from_text=from_text)
        kind = choices[0] if choices else kind
        choice = next(option for option in options(kind) if option is not type(None))
        origin = get_origin(choice)
        if inspect.isclass(choice) and issubclass(choice, Struct):
            return self.struct(node, choice, path)
        if origin in (list, tuple):
            return self._list(node, kind, choice, path)
        if origin is dict:
            return self._dict(node, kind, choice, path)
        return self._leaf(node, kind, choice, path, from_text=from_text)

    def _union(
        self, node: Located, kind: Any, choices: Iterable[Any], path: tuple[str, ...], *, from_text: bool
    ) -> Any:
        for choice in choices:
            trial = Reader(self._env, self._folder, {})
            value = trial.value(node, choice, path, from_text=from_text)
            if not trial.problems:
                return value
        self._wrong(node, path, kind)
        return MISSING

    def _list(self, node: Located, kind: Any, choice: Any, path: tuple[str, ...]) -> Any:
        items = node.sequence
        if items is None:
            self._wrong(node, path, kind)
            return MISSING
        if not self._fits(len(items), node, path, kind, "entries"):
            return MISSING
        element = get_args(choice)[0]
        values = [self.value(item, element, _indexed(path, index)) for index, item in enumerate(items)]
        return tuple(values) if get_origin(choice) is tuple else values

    def _dict(self, node: Located, kind: Any, choice: Any, path: tuple[str, ...]) -> Any:
        mapping = node.mapping
        if mapping is None:
            self._wrong(node, path, kind)
            return MISSING
        if not self._fits(len(mapping), node, path, kind, "keys"):
            return MISSING
        element = get_args(choice)[1] if get_args(choice) else Any
        return {key: self.value(item, element, (*path, key)) for key, item in mapping.items()}

    def _fits(self, size: int, node: Located, path: tuple[str, ...], kind: Any, unit: str) -> bool:
        """Whether a list or mapping keeps to the bounds of its annotation; notes it where it does not."""
        for note in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
            low, high = (note.min_length, note.max_length) if isinstance(note, Meta) else (None, None)
            if (low is not None and size < low) or (high is not None and size > high):
                under = low is not None and size < low
                expected = f"at least {low} {unit}" if under else f"at most {high} {unit}"
                self._note(Problem(self._place(node), ".".join(path), f"{size} {unit}", expected))
                return False
        return True

    def _leaf(self, node: Located, kind: Any, choice: Any, path: tuple[str, ...], *, from_text: bool) -> Any:
        value, referred = self._resolved(node, path)
        if value is MISSING:
            return MISSING
        if isinstance(value, list | dict):
            if choice is Any:
                return node.plain()
            self._wrong(node, path, kind)
            return MISSING
        # A reference in quotes may stand for a number too: within {...} YAML wants the quotes.
        if (from_text or referred) and isinstance(value, str) and not _reads_text(choice):
            value = scalar(value)
        if value is None:
            self._wrong(node, path, kind)
            return MISSING
        try:
            return self._read(value, kind, choice, node)
        except (ValueError, InvalidInput, msgspec.ValidationError):
            self._wrong(node, path, kind, hidden=referred or _is_secret(choice, path))
            return MISSING

    def _read(self, value: Any, kind: Any, choice: Any, node: Located) -> Any:
        if hasattr(choice, "from_text"):
            value = cast("_FromText", choice).from_text(value)
            return _check_bounds(value, kind)
        if choice is Path:
            if not isinstance(value, str) or not value:
                raise ValueError("no path")
            # Anchored where it was written: a file's folder, or where a variable's reader stands.
            folder = Path.cwd() if node.file in self._env else self._folder
            return folder / os.path.expanduser(value)
        if choice is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        return msgspec.convert(value, kind)

    def _resolved(self, node: Located, path: tuple[str, ...]) -> tuple[Any, bool]:
        """The node's value with references replaced, and whether there were any."""
        if not isinstance(node.value, str) or "${" not in node.value:
            return node.value, False
        failed: list[str] = []

        def replace(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            try:
                return self._refer(match)
            except ValueError as error:
                failed.append(str(error))
                return ""

        text = _REFERENCE.sub(replace, node.value)
        if failed:
            expected = "${env:NAME} or ${file:PATH}"
            for why in failed:
                self._note(Problem(self._place(node), ".".join(path), why, expected))
            return MISSING, True
        return text, True

    def _refer(self, match: re.Match[str]) -> str:
        kind, name = match["kind"], (match["name"] or "").strip()
        if kind == "env" and name:
            if name not in self._env:
                raise ValueError(f"the variable {name} is not set")
            if not is_utf8(self._env[name]):
                raise ValueError(f"the variable {name} is not UTF-8 text")
            return self._env[name]
        if kind == "file" and name:
            return _secret_file(self._folder / os.path.expanduser(name))
        raise ValueError("this reference can't be read")

    def _rest(
        self, node: Located, keys: list[str], path: tuple[str, ...], known: Mapping[str, Field]
    ) -> Rest:
        mapping = node.mapping or {}
        kept = Located(
            {key: mapping[key] for key in keys},
            node.file,
            node.line,
            node.column,
            key_places={key: node.key_places[key] for key in keys if key in node.key_places},
        )
        return Rest(
            kept, path, self._env, self._folder, tuple(k for k, f in known.items() if f.type is not Rest)
        )

    def _unknown(self, node: Located, key: str, path: tuple[str, ...], known: list[str]) -> None:
        line, column = node.key_places.get(key, (node.line, node.column))
        place = Place(node.file, line, column)
        near = nearest(key, known) if len(self.problems) < PROBLEMS_MAX else None
        expected = f"one of {', '.join(sorted(known))}" if known else "no key here"
        self._note(Problem(place, ".".join((*path, key)), "unknown key", expected, near))

    def _note(self, problem: Problem) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def _place(self, node: Located) -> Place:
        # A variable's value has a name and no line worth telling.
        return Place(node.file) if node.file in self._env else Place(node.file, node.line, node.column)

    def _wrong(self, node: Located, path: tuple[str, ...], kind: Any, *, hidden: bool = False) -> None:
        """Note that a node's value is not what `kind` expects."""
        shown = "a value" if hidden else _shown(node)
        near = None
        words = [word for choice in options(kind) for word in _words(choice)]
        if words and isinstance(node.value, str) and not hidden:
            near = nearest(node.value, words)
        hint = ""
        if str in options(kind) and isinstance(node.value, bool | int | float):
            hint = " (put it in quotes)"
        detail = f"{shown} can't stand here"
        self._note(Problem(self._place(node), ".".join(path), detail, expectation(kind) + hint, near))


def is_utf8(text: str) -> bool:
    """Whether a variable held UTF-8: of other bytes Python makes half characters, which can be neither
    written nor sent anywhere."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_bounds(value: Any, kind: Any) -> Any:
    """Hold a quantity to the bounds of its annotation."""
    for note in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
        if isinstance(note, Between) and not note.low <= value <= note.high:
            raise ValueError("out of bounds")
    return value


def _secret_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(REFERENCE_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror}") from None
    if len(content) > REFERENCE_FILE_MAX_BYTES:
        raise ValueError(f"the file {path} has more than {REFERENCE_FILE_MAX_BYTES} bytes")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None


def _reads_text(choice: Any) -> bool:
    return choice in (str, Path) or hasattr(choice, "from_text")


def _is_secret(choice: Any, path: tuple[str, ...]) -> bool:
    return choice is Secret or (bool(path) and is_secret_key(path[-1]))


def _shown(node: Located) -> str:
    if node.value is None:
        return "nothing"
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    text = str(node.value)
    text = text if len(text) <= _VALUE_SHOWN_MAX_CHARS else text[:_VALUE_SHOWN_MAX_CHARS] + "..."
    return repr(redact_text(text)) if isinstance(node.value, str) else text


def _words(choice: Any) -> list[str]:
    if get_origin(choice) is Literal:
        return [str(word) for word in get_args(choice)]
    if inspect.isclass(choice) and issubclass(choice, Enum):
        return [str(member.value) for member in choice]
    return []


def _indexed(path: tuple[str, ...], index: int) -> tuple[str, ...]:
    return (*path[:-1], f"{path[-1]}[{index}]") if path else (f"[{index}]",)
