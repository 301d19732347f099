"""Lifecycle tables from files: each read, linted and compiled, or refused with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import msgspec
from msgspec import Struct

from steersman.act.lifecycle.lint import Finding, lint
from steersman.kernel.errors import InvalidInput, SteersmanError
from steersman.kernel.yamltext import TEXT_MAX_BYTES
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.lifecycle_text import LifecyclePlaces, read_placed
from steersman.kinds.machine import Machine
from steersman.kinds.phase import LifecyclePhase

FILES_MAX = 1000
"""Lifecycle files of one installation."""
SUFFIXES = (".yaml", ".yml")
SHIPPED = "shipped:"
"""Begins the place of a table that comes with the program."""


class LifecycleRefused(InvalidInput):
    """The linter found errors in a table. `facts`: `findings`, `file`, `line`."""

    code = "lifecycle_refused"
    title = "Lifecycle refused"


class LifecycleUnreadable(InvalidInput):
    """A lifecycle file or folder can't be read. `facts`: `file`."""

    code = "lifecycle_unreadable"
    title = "Lifecycle file unreadable"


class Loaded(Struct, frozen=True):
    """A table that may be used. `digest` is of its meaning: comments and order of keys are not in it."""

    lifecycle: Lifecycle
    machine: Machine
    findings: tuple[Finding, ...]
    digest: str
    place: str


class Refusal(Struct, frozen=True):
    """A file that was left out, and why."""

    file: str
    error: SteersmanError

    @property
    def line(self) -> int:
        """The line that is wrong, from 1; 0 where it is the file as a whole."""
        return int(self.error.facts.get("line") or 0)

    @property
    def column(self) -> int:
        """The column of that line, from 1; 0 where none is known."""
        return int(self.error.facts.get("column") or 0)

    @property
    def detail(self) -> str:
        """What is wrong, and what was expected."""
        return self.error.detail


def load_text(text: str, file: str) -> Loaded:
    """Read a table. Raises `LifecycleInvalid`, `YamlInvalid`, and `LifecycleRefused` for lint errors."""
    lifecycle, places = read_placed(text, file)
    findings = tuple(lint(lifecycle, _place_of(places, file)))
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise LifecycleRefused(
            f"{errors[0]}{more}",
            file=file,
            line=errors[0].place.line,
            column=errors[0].place.column,
            findings=[msgspec.to_builtins(finding) for finding in findings],
        )
    return prepared(lifecycle, findings, file, places)


def lint_text(text: str, file: str) -> list[Finding]:
    """Everything the linter finds. Raises `LifecycleInvalid`, `YamlInvalid` where there is no table."""
    lifecycle, places = read_placed(text, file)
    return lint(lifecycle, _place_of(places, file))


def prepared(
    lifecycle: Lifecycle,
    findings: Sequence[Finding] = (),
    place: str = "",
    places: LifecyclePlaces | None = None,
) -> Loaded:
    """A table that is known to be good, compiled."""
    place_of = None if places is None else _place_of(places, place)
    return Loaded(lifecycle, Machine(lifecycle, place_of), tuple(findings), digest(lifecycle), place)


def load_file(path: Path) -> Loaded:
    """Read a table from a file. Raises as `load_text`, and `LifecycleUnreadable`."""
    return load_text(read_file(path), str(path))


def check_phases(loaded: Loaded, check: Callable[[LifecyclePhase], None]) -> None:
    """Ask an engine about each phase of a table that was read from a file.

    What it has against one is raised as `LifecycleRefused`, at the line of the step.
    """
    for name, phase in loaded.lifecycle.phases.items():
        try:
            check(phase)
        except SteersmanError as error:
            places = read_placed(read_file(Path(loaded.place)), loaded.place)[1]
            steps = [step["name"] for step in (phase.pipeline_def or {}).get("steps", ())]
            step = str(error.facts.get("place", "")).removeprefix("step ").removesuffix(".inputs")
            path = ["phases", name, "steps", steps.index(step)] if step in steps else ["phases", name]
            found = places.of(path)
            raise LifecycleRefused(
                f"{found.place}: phase {name}: {error.detail}",
                file=loaded.place,
                line=found.line,
                column=found.column,
            ) from None


def read_file(path: Path) -> str:
    """The text of a lifecycle file. Raises `LifecycleUnreadable`."""
    try:
        if path.stat().st_size > TEXT_MAX_BYTES:
            raise LifecycleUnreadable(f"{path} is over {TEXT_MAX_BYTES} bytes", file=str(path))
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise LifecycleUnreadable(f"{path}: {said}", file=str(path)) from None


def found_files(paths: Iterable[Path]) -> tuple[list[Path], list[Refusal]]:
    """The files that the paths name, folders looked into (not below), in order; and what can't be read."""
    found: list[Path] = []
    refused: list[Refusal] = []
    for path in paths:
        try:
            if path.is_dir():
                found += sorted(item for item in path.iterdir() if item.suffix in SUFFIXES)
            else:
                found.append(path)
        except OSError as error:
            refused.append(
                Refusal(str(path), LifecycleUnreadable(f"{path}: {error.strerror}", file=str(path)))
            )
    if len(found) > FILES_MAX:
        over = LifecycleUnreadable(f"{len(found)} lifecycle files; the first {FILES_MAX} are read")
        refused.append(Refusal(str(found[FILES_MAX]), over))
    return list(dict.fromkeys(found))[:FILES_MAX], refused


def shipped() -> list[Loaded]:
    """The tables that come with the program."""
    folder = files("steersman.act.lifecycle") / "shipped"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(SUFFIXES))
    return [load_text((folder / name).read_text("utf-8"), f"{SHIPPED}{name}") for name in names]


def digest(lifecycle: Lifecycle) -> str:
    """A hash of what the table says."""
    plain = lifecycle.to_dict()
    # An empty `require` is written or left out by whether it is the very default; both say the same.
    plain["transitions"] = [
        {key: value for key, value in line.items() if value != {}} for line in plain["transitions"]
    ]
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def _place_of(places: LifecyclePlaces, file: str):
    def place_of(path: Sequence[str | int]) -> tuple[str, int, int]:
        found = places.of(path)
        return file, found.line, found.column + (1 if found.quoted else 0)

    return place_of
