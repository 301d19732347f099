"""`python -m bench [NAME ...] [--json FILE]`: run the benchmarks, print their figures.

Each module of this folder that has `async def measure() -> list[Figure]` is one benchmark; it runs in a
process of its own, so that none warms or fills another's memory. The exit code is 0 also where a goal is
missed: machines differ, and a benchmark reports. It is 1 where a benchmark could not run.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
import platform
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import uvloop

import bench
from bench.figure import Figure

BENCHMARK_TIMEOUT_S = 3600
"""The fleet takes ten minutes on two idle cores, and more beside other work."""


def names() -> list[str]:
    """The benchmarks, by module name."""
    found = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in found if name not in ("figure", "__main__"))


def run_here(name: str) -> None:
    """Run one benchmark in this process; its figures go to stdout as JSON."""
    module = importlib.import_module(f"bench.{name}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that `steersman up` runs on
        figures: list[Figure] = runner.run(module.measure())
    sys.stdout.write(msgspec.json.encode(figures).decode())


def run_apart(name: str) -> list[Figure] | None:
    """Run one benchmark in a process of its own; None, with its stderr shown, where it failed."""
    command = [sys.executable, "-m", "bench", "--here", name]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=BENCHMARK_TIMEOUT_S)
    except BaseException as error:  # also Ctrl-C: in its own session it would hear of none, and go on
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        print(f"{name}: was not done after {BENCHMARK_TIMEOUT_S} s", file=sys.stderr)
        return None
    if process.returncode != 0:
        print(f"{name}: could not run\n{errors.decode(errors='replace')[-4000:]}", file=sys.stderr)
        return None
    return msgspec.json.decode(out, type=list[Figure])


def show(name: str, figures: list[Figure]) -> None:
    """Print a benchmark's figures, one a line, with what was compared below."""
    print(f"\n{name}")
    for figure in figures:
        goal = f"  goal {figure.goal}: {figure.verdict()}" if figure.goal else ""
        print(f"  {figure.name:<52} {figure.value:>12.4g} {figure.unit:<5}{goal}")
        if figure.detail:
            print(f"      {figure.detail}")


def main(arguments: list[str]) -> int:
    """Run what is asked for; return the exit code."""
    if arguments[:1] == ["--here"]:
        run_here(arguments[1])
        return 0
    target = None
    if "--json" in arguments:
        at = arguments.index("--json")
        target = Path(arguments[at + 1])
        del arguments[at : at + 2]
    unknown = set(arguments) - set(names())
    if unknown:
        print(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names())}",
            file=sys.stderr,
        )
        return 2
    print(f"Python {platform.python_version()} on {platform.machine()}; compare figures only within this run")
    results = {name: run_apart(name) for name in arguments or names()}
    for name, figures in results.items():
        if figures is not None:
            show(name, figures)
    if target is not None:
        target.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    return 1 if None in results.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
