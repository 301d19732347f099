"""Parts of the wrapper that a whole run does not show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steersman.drivers.process import wrapper


@pytest.mark.parametrize(
    ("chunks", "kept", "omitted"),
    [
        ([], b"", 0),
        ([b"abc"], b"abc", 0),
        ([b"abcd", b"ef"], b"abcdef", 0),
        ([b"abcdefgh"], b"abcdfgh", 1),
        ([b"a"] * 4 + [b"b"] * 50 + [b"end"], b"aaaaend", 50),
    ],
)
def test_beginning_and_end_are_kept(tmp_path: Path, chunks: list[bytes], kept: bytes, omitted: int) -> None:
    output = wrapper.Output(str(tmp_path / "out"), 4, 3)
    for chunk in chunks:
        output.add(chunk)
    assert output.finish() == omitted
    assert (tmp_path / "out").read_bytes() == kept
    assert output.total == sum(map(len, chunks))


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    wrapper.write_atomic(str(tmp_path), "exit", {"a": 1})
    assert (tmp_path / "exit").read_text() == '{"a": 1}'
    assert [path.name for path in tmp_path.iterdir()] == ["exit"]


def test_a_process_is_known_by_its_start() -> None:
    mine = wrapper.process_facts(os.getpid())
    assert mine is not None
    assert mine[0] == os.getppid()
    assert wrapper.process_facts(2**22 + 1) is None


def test_it_needs_nothing_of_ours() -> None:
    """It runs isolated, without site packages: whatever it imports is the standard library's."""
    code = f"import sys, runpy; runpy.run_path({wrapper.__file__!r}, run_name='x'); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    roots = {name.split(".")[0] for name in loaded.stdout.split()}
    assert roots & {"steersman", "msgspec", "asyncio", "subprocess"} == set()
