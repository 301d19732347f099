"""The docs are true: what the program has, the reference names; what the docs link to, exists."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import msgspec
import pytest

import steersman
from steersman.api.routes import ROUTES
from steersman.cli.program import GROUPS, load
from steersman.drivers.exposition import Mapping
from steersman.drivers.web.access import WebAccess
from steersman.kernel.errors import SteersmanError
from steersman.kinds.settings import Settings, SourceSettings
from steersman.observe.registry import Drivers

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
HEADING = re.compile(r"^#{2,4} `([^`]+)`", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def headings(page: str) -> set[str]:
    """The names that a reference page has a heading for."""
    return set(HEADING.findall((REFERENCE / page).read_text()))


def import_all() -> None:
    for module in pkgutil.walk_packages(steersman.__path__, "steersman."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def subclasses(cls: type[SteersmanError]) -> Iterator[type[SteersmanError]]:
    """What a caller can meet: not what a module keeps to itself, nor what only suites raise."""
    for child in cls.__subclasses__():
        kept = child.__qualname__.startswith("_") and "code" not in vars(child)
        ours = child.__module__.startswith("steersman.") and not kept
        if ours and not child.__module__.startswith("steersman.testing."):
            yield child
        yield from subclasses(child)


def test_each_error_code_has_a_heading_and_one_class() -> None:
    import_all()
    by_code: dict[str, set[str]] = {}
    for cls in {SteersmanError, *subclasses(SteersmanError)}:
        if "code" in vars(cls):
            by_code.setdefault(cls.code, set()).add(cls.__qualname__)
        else:
            raise AssertionError(f"{cls.__qualname__} has no code of its own")
    assert {code: names for code, names in by_code.items() if len(names) > 1} == {}
    assert set(by_code) == headings("errors.md")


def test_each_relative_link_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken: list[str] = []
    for page in pages:
        for target in LINK.findall(page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_each_decision_has_its_four_parts() -> None:
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        text = page.read_text()
        for part in ("## Context", "## Decision", "## Rejected", "## Consequences"):
            assert part in text, f"{page.name} has no {part}"


def settings_keys(schema: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys of `steersman.yaml`; a list's items are written `sources[].name`."""
    for field in msgspec.structs.fields(schema):
        name = f"{prefix}{field.encode_name}"
        if schema is SourceSettings and field.name == "options":
            continue  # the driver's own keys; each driver has its own page
        nested = [arm for arm in [field.type, *get_args(field.type)] if is_struct(arm)]
        if not nested:
            yield name
        for inner in nested:
            yield from settings_keys(inner, f"{name}[]." if get_origin(field.type) is list else f"{name}.")


def is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def test_each_configuration_key_has_a_heading() -> None:
    assert headings("configuration.md") >= set(settings_keys(Settings))


def test_each_route_has_a_heading() -> None:
    documented = {f"{route.method} {route.path}" for route in ROUTES if route.documented}
    assert headings("http.md") == documented


def test_each_command_has_a_heading() -> None:
    names = {entry.name for _, entries in GROUPS for entry in entries}
    commands = {heading.removeprefix("steersman ") for heading in headings("cli.md")}
    assert {command.split()[0] for command in commands} == names
    for name in names:
        command = load(name)
        assert {f"{name} {action.name}" for action in command.actions} <= commands | {name}


def test_each_metric_has_a_heading() -> None:
    """The names in the source, which are the names before the exposition adds `_total` and the like."""
    source = (ROOT / "src" / "steersman" / "api" / "metrics.py").read_text()
    declared = set(re.findall(r'"(steersman_[a-z0-9_]+)"', source))
    documented = headings("metrics.md")
    assert declared
    assert {name for name in declared if not {name, f"{name}_total"} & documented} == set()
    assert {name for name in documented if name.removesuffix("_total") not in declared} == set()


SHARED_PAGES = {"access": WebAccess, "mappings": Mapping}


@pytest.mark.parametrize("driver", Drivers().own_names())
def test_each_driver_option_has_a_heading(driver: str) -> None:
    """On its own page, or on the page of what it shares with others."""
    keys = set(settings_keys(Drivers().get(driver).Options))
    shared = {key for page in SHARED_PAGES for key in headings(f"drivers/{page}.md")}
    assert headings(f"drivers/{driver}.md") | shared >= keys


def test_each_shared_option_has_a_heading() -> None:
    assert headings("drivers/access.md") == set(settings_keys(WebAccess))
    assert headings("drivers/mappings.md") >= set(settings_keys(Mapping, "mapping."))
