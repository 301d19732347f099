"""Drivers by name, and sources made of settings: mistakes are named, broken packages stop nobody."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from steersman.drivers.api import SourceError
from steersman.kernel.clock import SystemClock
from steersman.kernel.config import ConfigInvalid, load
from steersman.kernel.ids import seeded_rng
from steersman.kinds.settings import Settings
from steersman.observe.registry import GROUP, DriverBroken, Drivers, DriverUnknown, Source, make_sources
from steersman.testing.sources import ScriptedDriver


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


SCRIPTED = point("scripted", "steersman.testing.sources:ScriptedDriver")


def sources(tmp_path: Path, text: str, *points: EntryPoint) -> list[Source]:
    path = tmp_path / "steersman.yaml"
    path.write_text(text)
    settings = load(Settings, path, {})
    return make_sources(
        settings.sources, clock=SystemClock(), rng=seeded_rng(1), drivers=Drivers([SCRIPTED, *points])
    )


def test_the_built_in_drivers_are_installed() -> None:
    assert {"host", "openmetrics"} <= set(Drivers().names())
    assert Drivers().get("host").name == "host"


def test_an_unknown_driver_names_the_nearest() -> None:
    with pytest.raises(DriverUnknown, match="no driver is named 'scriptd'; did you mean scripted"):
        Drivers([SCRIPTED]).get("scriptd")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module_at_all:X", "ModuleNotFoundError"),
        ("steersman.testing.sources:Missing", "AttributeError"),
        ("steersman.testing.sources:NotADriver", "is no driver: it has no name, Options"),
        ("steersman.testing.sources:node_fragment", "is no driver: it has no class"),
    ],
)
def test_a_broken_driver_says_what_is_broken(value: str, words: str) -> None:
    drivers = Drivers([SCRIPTED, point("bad", value)])
    with pytest.raises(DriverBroken, match="driver 'bad' of an unknown package can't be loaded") as caught:
        drivers.get("bad")
    assert words in caught.value.detail
    assert set(drivers.problems()) == {"bad"}


def test_settings_become_sources_with_the_drivers_defaults(tmp_path: Path) -> None:
    text = """
sources:
  - {name: a, driver: scripted}
  - {name: b, driver: scripted, interval: 1m, timeout: 3s, scope: s, priority: 2}
  - {name: c, driver: scripted, interval: 2s}
  - {name: d, driver: scripted, enabled: false}
"""
    made = sources(tmp_path, text)
    assert [(s.name, s.interval_s, s.timeout_s, s.scope, s.priority) for s in made] == [
        ("a", 10.0, 10.0, "", 0),
        ("b", 60.0, 3.0, "s", 2),
        ("c", 2.0, 2.0, "", 0),
    ]


def test_mistakes_of_all_sources_come_together_with_their_lines(tmp_path: Path) -> None:
    text = """
sources:
  - {name: a, driver: scriptd}
  - name: b
    driver: scripted
    intervall: 5s
"""
    with pytest.raises(ConfigInvalid) as caught:
        sources(tmp_path, text)
    first, second = caught.value.facts["problems"]
    assert (first["line"], first["key"], first["nearest"]) == (3, "sources[0].driver", "scripted")
    assert (second["line"], second["key"], second["nearest"]) == (6, "sources[1].intervall", "interval")


async def test_a_broken_driver_is_a_source_that_says_why(tmp_path: Path) -> None:
    text = """
sources:
  - {name: a, driver: scripted}
  - {name: b, driver: bad, url: x}
  - {name: c, driver: refuses}
"""
    bad, refuses = (
        point("bad", "no_such_module:X"),
        point("refuses", "steersman.testing.sources:RefusesToBeMade"),
    )
    made = {source.name: source for source in sources(tmp_path, text, bad, refuses)}
    assert isinstance(made["a"].driver, ScriptedDriver)
    with pytest.raises(SourceError, match="No module named 'no_such_module'"):
        await made["b"].driver.observe()
    with pytest.raises(SourceError, match="OSError: no such device"):
        await made["c"].driver.observe()
    await made["b"].driver.close()
