"""YAML with the place of every value, read safely and within bounds.

For files that people write: configuration, lifecycles, policies. The result is a tree of `Located`, so that
whoever judges the content can say file, line and column. What YAML 1.1 is notorious for is not done: plain
scalars are read by the core schema of YAML 1.2, so `no`, `on`, `0755`, `12:30` and `2026-01-01` are text.

Refused, each with its place: more than one document, duplicate keys, tags, anchors and aliases (a few lines
of them can stand for billions of nodes), keys that are not plain text, and anything over the bounds below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from steersman.kernel.bounds import MIB
from steersman.kernel.errors import InvalidInput

TEXT_MAX_BYTES = 4 * MIB
DEPTH_MAX = 32
NODES_MAX = 200_000
KEY_MAX_CHARS = 256
NUMBER_MAX_CHARS = 64
"""Longer digits are text: nobody means a number, and reading them takes time that grows with the square."""

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_WORDS: dict[str, bool | float | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip

Scalar = str | int | float | bool | None


class YamlInvalid(InvalidInput):
    """A text is not the YAML we read. `facts`: `file`, `line`, `column` (from 1)."""

    code = "yaml_invalid"
    title = "YAML invalid"


@dataclass(slots=True)
class Located:
    """A value and its place.

    `value` is a scalar, a list of `Located`, or a dict of text to `Located`. `line` and `column` count from
    1. `key_places` has the place of each key of a dict. `quoted` tells a scalar in quotes from a plain one.
    """

    value: Scalar | list[Located] | dict[str, Located]
    file: str = ""
    line: int = 1
    column: int = 1
    quoted: bool = False
    key_places: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    @property
    def place(self) -> str:
        """`file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def mapping(self) -> dict[str, Located] | None:
        """The value where it is a mapping, else None."""
        return self.value if isinstance(self.value, dict) else None

    @property
    def sequence(self) -> list[Located] | None:
        """The value where it is a list, else None."""
        return self.value if isinstance(self.value, list) else None

    def plain(self) -> Any:
        """The value as plain Python data, without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def find(self, *path: str | int) -> Located | None:
        """What is at `path`, keys and indices from here; None where there is nothing."""
        here: Located | None = self
        for step in path:
            if here is None:
                return None
            if isinstance(step, str):
                here = (here.mapping or {}).get(step)
            else:
                items = here.sequence or []
                here = items[step] if 0 <= step < len(items) else None
        return here


def parse(text: str | bytes, file: str = "<text>") -> Located:
    """The one document in `text`; an empty one is a `Located` of None. Raises `YamlInvalid`."""
    decoded = _decode(text, file)
    builder = _Builder(file)
    try:
        for event in cast("Iterator[Any]", yaml.parse(decoded, Loader=_LOADER)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise _invalid(said or "this is not YAML", file, line, column) from None
    except yaml.YAMLError as error:
        # The reader's own errors (a control character) have a position but no line.
        position = getattr(error, "position", 0)
        line = decoded.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        raise _invalid("a character that YAML does not allow", file, line, 1) from None
    return builder.root if builder.root is not None else Located(None, file)


def scalar(text: str) -> Scalar:
    """A plain (unquoted) scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > NUMBER_MAX_CHARS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinity = _INFINITY.fullmatch(text)
    if infinity is not None:
        return float(f"{infinity[1]}inf")
    return text


# libyaml's parser where PyYAML was built with it: the same events, some ten times faster.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Builder:
    """Builds the tree from parser events, with a stack of its own: input can't exhaust Python's."""

    def __init__(self, file: str) -> None:
        self.root: Located | None = None
        self._file = file
        self._open: list[Located] = []
        self._keys: list[tuple[str, int, int] | None] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """One event of the parser."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _invalid("more than one document in a file", self._file, line, column)
        elif isinstance(event, yaml.AliasEvent):
            raise _invalid("aliases (*name) are not accepted: write the value out", self._file, line, column)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line, column)

    def _node(self, event: Any, line: int, column: int) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _invalid(f"more than {NODES_MAX} values", self._file, line, column)
        if event.anchor is not None:
            raise _invalid("anchors (&name) are not accepted", self._file, line, column)
        if event.tag not in (None, "!"):
            raise _invalid(f"tags ({event.tag[:40]}) are not accepted", self._file, line, column)
        expects_key = bool(self._open) and self._open[-1].mapping is not None and self._keys[-1] is None
        if isinstance(event, yaml.ScalarEvent):
            if expects_key:
                self._key(event.value, line, column)
                return
            quoted = event.style not in (None, "")  # libyaml says "" for plain
            value = event.value if quoted else scalar(event.value)
            self._place(Located(value, self._file, line, column, quoted=quoted))
            return
        if expects_key:
            raise _invalid("a key must be plain text", self._file, line, column)
        if len(self._open) >= DEPTH_MAX:
            raise _invalid(f"nested deeper than {DEPTH_MAX} levels", self._file, line, column)
        empty: list[Located] | dict[str, Located] = {} if isinstance(event, yaml.MappingStartEvent) else []
        node = Located(empty, self._file, line, column)
        self._place(node)
        self._open.append(node)
        self._keys.append(None)

    def _key(self, key: str, line: int, column: int) -> None:
        if len(key) > KEY_MAX_CHARS:
            raise _invalid(f"a key longer than {KEY_MAX_CHARS} characters", self._file, line, column)
        places = self._open[-1].key_places
        if key in places:
            first = places[key][0]
            raise _invalid(f"key {key!r} is given twice, first in line {first}", self._file, line, column)
        places[key] = (line, column)
        self._keys[-1] = (key, line, column)

    def _place(self, node: Located) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1].value
        if isinstance(parent, list):
            parent.append(node)
            return
        key = self._keys[-1]
        if isinstance(parent, dict) and key is not None:
            parent[key[0]] = node
            self._keys[-1] = None


def _decode(text: str | bytes, file: str) -> str:
    size = len(text)
    if size > TEXT_MAX_BYTES:
        raise _invalid(f"{size} bytes; at most {TEXT_MAX_BYTES} are read", file, 1, 1)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise _invalid("not UTF-8 text", file, line, 1) from None
    # Half of a surrogate pair can't be handed to libyaml, and means nothing.
    lone = re.search("[\ud800-\udfff]", text)
    if lone is not None:
        raise _invalid("half of a character", file, text.count("\n", 0, lone.start()) + 1, 1)
    return text


def _invalid(detail: str, file: str, line: int, column: int) -> YamlInvalid:
    return YamlInvalid(f"{file}:{line}:{column}: {detail}", file=file, line=line, column=column)
