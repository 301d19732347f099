"""Fuzz a target with coverage: `python tests/fuzz/run_fuzz.py exposition -max_total_time=60`.

What follows the target's name goes to libFuzzer. What it finds is kept in `.fuzz/<target>`; a fault ends it
with an error and a file beside that.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["steersman.drivers.exposition", "steersman.drivers.dcgm", "steersman.drivers.slurm"]
):
    from fuzz_targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"which target? one of {', '.join(TARGETS)}")
    name = sys.argv[1]
    target = TARGETS[name]
    kept = Path(".fuzz") / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, seed in enumerate(target.seeds):
            (seeds / str(number)).write_bytes(seed)
        words = Path(folder) / "words"
        shown = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
        words.write_text("".join(f'"{word}"\n' for word in shown))
        options = [f"-dict={words}", f"-artifact_prefix={kept}/fault-", "-max_len=4096", "-verbosity=1"]
        atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(kept), str(seeds)], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
