"""Each target of fuzzing for a bounded time: its seeds, mutations by hypothesis, and a run with coverage."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
RUNS = 3_000
"""Inputs of one bounded run: a few seconds. `make fuzz` is for more."""


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_hold(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...], words: tuple[bytes, ...]) -> bytes:
    """A few seeds, cut, joined and sprinkled with words and with any bytes."""
    data = b"".join(draw(st.lists(st.sampled_from(seeds), min_size=1, max_size=3)))[:4000]
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 8))
        put = draw(st.one_of(st.sampled_from(words), st.binary(max_size=6)))
        data = data[:at] + put + data[at + gone :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_hold(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=300, deadline=None)
    @given(st.one_of(mutated(target.seeds, target.words), st.binary(max_size=200)))
    def hold(data: bytes) -> None:
        target.run(data)

    hold()


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform"
)
@pytest.mark.parametrize("name", TARGETS)
def test_a_run_with_coverage_finds_nothing(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "run_fuzz.py"), name, f"-runs={RUNS}", "-max_total_time=60", "-seed=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr, "it ended before its bound"
