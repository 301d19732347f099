"""Files with several YAML documents: each read on its own, so that a bad one spoils no other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from steersman.cli.exits import WrongUsage
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kernel.nearest import did_you_mean
from steersman.kernel.yamltext import TEXT_MAX_BYTES, Located, YamlInvalid, parse

STDIN = "-"
DOCUMENTS_MAX = 10_000
KEYS = ("kind", "id", "labels", "metadata", "owner_id", "scope", "lifecycle", "desired_status", "spec")
"""What a document may say of a resource."""
_MARK = re.compile(r"^(---|\.\.\.)(?=\s|$)")


class Document(NamedTuple):
    """One document that can be applied, and its place as `file:line`."""

    place: str
    kind: str
    name: str
    spec: dict[str, Any]


class Bad(NamedTuple):
    """One document that can't, and why."""

    place: str
    error: SteersmanError


def read_text(path: str) -> str:
    """A file's text, or stdin's for `-`. Raises `WrongUsage` where it can't be read."""
    try:
        data = sys.stdin.buffer.read(TEXT_MAX_BYTES + 1) if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise WrongUsage(f"{path} can't be read: {error.strerror or error}") from None
    if len(data) > TEXT_MAX_BYTES:
        raise WrongUsage(f"{path} has more than {TEXT_MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WrongUsage(f"{path}:{line}: not UTF-8 text") from None


def documents(text: str, file: str) -> Iterator[Document | Bad]:
    """The documents of a text, in order; empty ones are passed over."""
    for count, (line, part) in enumerate(_parts(text), 1):
        if count > DOCUMENTS_MAX:
            raise WrongUsage(f"{file} has more than {DOCUMENTS_MAX} documents")
        # Empty lines in front keep the numbers of lines true to the file.
        try:
            root = parse("\n" * (line - 1) + part, file)
            if root.value is not None:
                yield _document(root)
        except YamlInvalid as error:
            yield Bad(f"{file}:{error.facts.get('line', line)}", error)
        except _Unfit as error:
            yield Bad(error.place, error)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The documents with the line that each begins at. At the start of a line `---` is always a mark."""
    begin, lines = 1, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if _MARK.match(line):
            yield begin, "\n".join(lines)
            begin, lines = number, [line[3:] and "   " + line[3:]]
        else:
            lines.append(line)
    yield begin, "\n".join(lines)


class _Unfit(InvalidInput):
    """A document that says no resource."""

    code = "document_unfit"
    title = "Document unfit"

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(f"{place}: {detail}")
        self.place = place


def _document(root: Located) -> Document:
    members = root.mapping
    place = f"{root.file}:{root.line}"
    if members is None:
        raise _Unfit(place, "a document is a mapping with kind and id")
    for key in members:
        if key not in KEYS:
            line, _ = root.key_places[key]
            said = (
                "; where a thing is can't be declared, desired_status says where it is meant to be"
                if key == "status"
                else did_you_mean(key, KEYS) or f"; there are {', '.join(KEYS)}"
            )
            raise _Unfit(f"{root.file}:{line}", f"unknown key {key!r}{said}")
    kind, name = _text(root, "kind"), _text(root, "id")
    from steersman.kinds.names import RESOURCE_FORMS, resource_kind_of

    known = resource_kind_of(kind)
    if known is None:
        hint = did_you_mean(kind, RESOURCE_FORMS) or f"; there are {', '.join(RESOURCE_FORMS)}"
        raise _Unfit(f"{root.file}:{members['kind'].line}", f"unknown kind {kind!r}{hint}")
    spec = {key: value.plain() for key, value in members.items() if key not in ("kind", "id")}
    return Document(place, known, name, spec)


def _text(root: Located, key: str) -> str:
    found = root.find(key)
    if found is None or found.value in (None, ""):
        raise _Unfit(f"{root.file}:{root.line}", f"{key} is missing")
    if isinstance(found.value, dict | list):
        raise _Unfit(f"{root.file}:{found.line}", f"{key} must be text")
    return str(found.value)
