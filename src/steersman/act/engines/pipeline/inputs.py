"""What a step is given: references in its inputs, found when the pipeline is loaded and filled when it runs.

A reference is `${root.name...}`. A value that is one reference and nothing else keeps the type of what it
names (a list stays a list); one inside other text becomes text. `$${` is a literal `${`. Nothing is handed to
a shell, and there is no arithmetic: what needs that is an expression in `skip_when` or a program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from steersman.kernel.errors import InvalidInput
from steersman.kinds.step import Later

DEPTH_MAX = 16
"""Levels of lists and mappings that inputs may have."""
TEXT_MAX_CHARS = 65_536
"""A text that was filled in may be so long."""

_REFERENCE = re.compile(r"\$\$\{|\$\{\s*([^{}$]*?)\s*\}")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_\-/]+)*")

Path = tuple[str, ...]


class InputMissing(InvalidInput):
    """A step's input names something that is not there now. `facts`: `reference`."""

    code = "input_missing"
    title = "Input of a step missing"


class ReferenceInvalid(InvalidInput, ValueError):
    """A `${...}` that is no reference. `facts`: `reference`."""

    code = "reference_invalid"
    title = "Reference invalid"


def references(value: Any) -> Iterator[Path]:
    """Every reference in a value, as a path. Raises `ReferenceInvalid`, also for what is nested too deep."""
    for text in _texts(value, 0):
        if "${" not in text:
            continue
        plain = _REFERENCE.sub("", text)
        if "${" in plain:
            raise ReferenceInvalid(
                f"{text[:80]!r} has a ${{ without its end; $${{ is a literal one", reference=text
            )
        for match in _REFERENCE.finditer(text):
            if match[1] is not None:
                yield _path(match[1])


def with_later(value: Any) -> Any:
    """The value as a handler's `check` sees it: what holds a reference is a `Later`."""
    if isinstance(value, str):
        held = any(match[1] is not None for match in _REFERENCE.finditer(value))
        return Later(value) if held else _plain(value)
    if isinstance(value, list):
        return [with_later(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: with_later(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    """The value with all references replaced by what `names` has. Raises `InputMissing`."""
    if isinstance(value, str):
        return _fill_text(value, names)
    if isinstance(value, list):
        return [fill(item, names) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in cast("dict[str, Any]", value).items()}
    return value


def find(path: Path, names: Mapping[str, Any]) -> Any:
    """What a path names. Raises `InputMissing`; a None is missing too."""
    here: Any = names
    for part in path:
        if isinstance(here, Mapping) and part in here:
            here = cast("Mapping[str, Any]", here)[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(cast("list[Any]", here)):
            here = cast("list[Any]", here)[int(part)]
        else:
            here = None
        if here is None:
            name = ".".join(path)
            raise InputMissing(f"{name} is not there (looked for {part!r})", reference=name)
    return here


def _path(text: str) -> Path:
    if _PATH.fullmatch(text) is None:
        raise ReferenceInvalid(
            f"${{{text[:80]}}} is no reference: names with dots between them", reference=text
        )
    return tuple(text.split("."))


def _plain(text: str) -> str:
    return text.replace("$${", "${")


def _fill_text(text: str, names: Mapping[str, Any]) -> Any:
    if "${" not in text:
        return text
    whole = _REFERENCE.fullmatch(text)
    if whole is not None and whole[1] is not None:
        return find(_path(whole[1]), names)

    def put(match: re.Match[str]) -> str:
        return "${" if match[1] is None else _as_text(find(_path(match[1]), names))

    filled = _REFERENCE.sub(put, text)
    if len(filled) > TEXT_MAX_CHARS:
        raise InputMissing(
            f"{text[:80]!r} comes to more than {TEXT_MAX_CHARS} characters", reference=text[:80]
        )
    return filled


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise ReferenceInvalid(f"inputs are nested more than {DEPTH_MAX} levels deep", reference="")
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _texts(item, depth + 1)
    elif isinstance(value, dict):
        for item in cast("dict[str, Any]", value).values():
            yield from _texts(item, depth + 1)
