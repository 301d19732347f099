"""Whose first say is waited for before machines are enrolled."""

from __future__ import annotations

from steersman.app.acting import unheard_sources
from steersman.kernel.clock import ManualClock
from steersman.kinds.settings import Settings, SourceSettings
from steersman.state.bus import StateBus
from steersman.state.sources import SourceInfo


def test_one_that_is_left_out_is_not_waited_for_and_one_that_fails_has_had_its_say() -> None:
    sources = [SourceSettings(name, "openmetrics", enabled=name != "off") for name in ("a", "b", "c", "off")]
    settings, bus = Settings(sources=sources), StateBus(ManualClock())
    assert unheard_sources(settings, bus) == ["a", "b", "c"], "not even declared yet"
    for name in ("a", "b", "c"):
        bus.declare_source(SourceInfo(name, "openmetrics", 10.0))
    assert unheard_sources(settings, bus) == ["a", "b", "c"]
    bus.report_source("a", ok=True)
    bus.report_source("b", ok=False, detail="refused")
    assert unheard_sources(settings, bus) == ["c"]
