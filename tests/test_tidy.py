"""The house rules that no linter knows: sizes, docstrings, mirrored tests, no dead module, no banned word."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "steersman"
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
MODULES = sorted(SOURCE.rglob("*.py"))


def tracked(pattern: str) -> list[Path]:
    """Files that git tracks or would track, so that the test also judges work not yet committed."""
    out = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for line in out.splitlines() if (path := ROOT / line).is_file()]


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_module_is_short_and_documented(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX, "find the concept that wants its own room"
    tree = ast.parse(text)
    if tree.body:
        assert ast.get_docstring(tree), "a module says what it is for"
    for function in functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= FUNCTION_LINES_MAX, f"{function.name} has {length} lines"


def undocumented(tree: ast.Module) -> list[str]:
    """Public classes and functions of a module without a docstring. Methods may leave their contract to the
    protocol they implement, so only a protocol's own methods must speak."""
    missing: list[str] = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            missing.append(node.name)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
            methods = [m for m in functions(node) if not m.name.startswith("_")]
            missing += [f"{node.name}.{m.name}" for m in methods if ast.get_docstring(m) is None]
    return missing


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_public_names_are_documented(path: Path) -> None:
    assert undocumented(ast.parse(path.read_text())) == []


def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_module_is_dead() -> None:
    """Every module is imported by another, named by an entry point, or looked up by a dotted string."""
    used: set[str] = set()
    texts = [(ROOT / "pyproject.toml").read_text()]
    for path in [*MODULES, *sorted((ROOT / "bench").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]:
        used |= imported_names(path)
        texts.append(path.read_text())
    everything = "\n".join(texts)
    dead: list[str] = []
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if name.endswith(("__init__", "__main__")) or name in used:
            continue
        if f'"{name}' not in everything:
            dead.append(name)
    assert dead == []


def test_tests_mirror_the_source() -> None:
    """A folder of tests for each room that holds more than its docstring."""
    for room in sorted(path.parent for path in SOURCE.glob("*/__init__.py")):
        modules = [path for path in room.rglob("*.py") if len(path.read_text().splitlines()) > 12]
        if modules and room.name not in ("testing",):
            assert list((ROOT / "tests" / room.name).rglob("test_*.py")), f"tests/{room.name} has no test"


def test_files_of_tests_have_names_of_their_own() -> None:
    """Tests are no packages, so two files of one name can't both be collected."""
    names = [p.name for p in (ROOT / "tests").rglob("*.py") if p.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


BANNED = {
    r"\beval\(": "nothing is evaluated",
    r"\bexec\(": "nothing is evaluated",
    r"shell=True": "no shell strings",
    r"\bpickle\b": "pickle runs what it reads",
    r"yaml\.load\(": "kernel.yamltext is the one reader of YAML",
    r"yaml\.safe_load": "kernel.yamltext is the one reader of YAML",
    r"\b(TODO|FIXME|XXX|HACK)\b": "finish it or file it",
    r"NotImplementedError": "no stubs",
}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_banned_calls(path: Path) -> None:
    text = path.read_text()
    for pattern, reason in BANNED.items():
        found = re.search(pattern, text)
        assert found is None, f"{found and found.group()}: {reason}"


def test_silenced_checks_give_their_reason() -> None:
    """A noqa, type: ignore, pyright: ignore or no-cover says why, on its line or the one above."""
    bare: list[str] = []
    for path in [*MODULES, *sorted((ROOT / "bench").glob("*.py"))]:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            match = re.search(
                r"#\s*(noqa|type: ignore|pyright: ignore)(\[[^\]]*\]|:\s*[A-Z0-9, ]+)?(.*)", line
            )
            if match is None:
                continue
            above = lines[number - 1].strip() if number else ""
            if len(match.group(3).strip(" -#")) < 8 and not above.startswith("#"):
                bare.append(f"{path.relative_to(ROOT)}:{number + 1}")
    assert bare == []


def test_no_absolute_path_or_registry_is_committed() -> None:
    """A checkout works anywhere: no home folder, no package registry's host in any tracked file."""
    home = re.compile(r"(/root/|/home/[a-z]+/|" + re.escape(str(ROOT.parent)) + "/)")
    found: list[str] = []
    for path in tracked("*"):
        if path.suffix in {".png", ".gz"} or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if home.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_changelog_fragments_are_named_for_towncrier() -> None:
    for path in (ROOT / "changelog.d").iterdir():
        if path.name == ".gitkeep":
            continue
        assert re.fullmatch(r"(\d+|\+[a-z0-9-]+)\.(feature|change|fix|security)\.md", path.name), path.name
        assert path.read_text().strip().endswith(".")


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert all(number.isdigit() for number in numbers)
    assert len(numbers) == len(set(numbers))
