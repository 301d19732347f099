"""The fleet benchmark in small: each part runs, holds what it told and finds what is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", ["fragments", "exposition", "relist"])
def test_a_small_fleet_runs_through_each_part(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet", part, "800", "2"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    told = json.loads(done.stdout)
    if part == "relist":
        assert told["gone"] == 9
    else:
        assert told["entities"] == 900
        assert all(told[step] > 0 for step in ("reading", "intake", "ageing", "feed", "checkpoint"))
        assert told["cores"] > 0 < told["batch_p99_ms"]
