"""The examples on the drivers' pages are configurations that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from steersman.kernel.clock import SystemClock
from steersman.kernel.config import load
from steersman.kernel.ids import seeded_rng
from steersman.kinds.settings import Settings
from steersman.observe.registry import Drivers, make_sources

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "drivers"


@pytest.mark.parametrize("page", Drivers().own_names())
def test_the_example_is_read(page: str, tmp_path: Path) -> None:
    text = (PAGES / f"{page}.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    config = tmp_path / "steersman.yaml"
    config.write_text(example)
    settings = load(Settings, config, {"APP_TOKEN": "t"})
    made = make_sources(settings.sources, clock=SystemClock(), rng=seeded_rng(1))
    assert made
    assert {source.driver_name for source in made} == {page}
