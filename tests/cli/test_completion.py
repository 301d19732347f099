"""Completion as a real bash does it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from steersman.cli.completion import SHELLS, script
from steersman.cli.program import COMMANDS


def complete(*words: str, folder: Path | None = None) -> list[str]:
    """What bash would offer for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"{script('bash')}\nCOMP_WORDS=(steersman {quoted}); COMP_CWORD={len(words)}\n"
        '_steersman\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-uc", program], capture_output=True, text=True, check=True, timeout=30, cwd=folder
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_come_first() -> None:
    assert complete("") == list(COMMANDS)
    assert complete("ex") == ["explain"]


def test_kinds_where_a_kind_is_meant() -> None:
    assert "nodes" in complete("get", "")
    assert complete("describe", "no") == ["nodes"]


def test_options_and_their_values() -> None:
    assert "--scope" in complete("get", "nodes", "--s")
    assert complete("get", "nodes", "-o", "") == ["table", "wide", "json", "yaml"]
    assert "--ttl" in complete("token", "create", "x", "--t")
    assert complete("token", "create", "x", "--role", "o") == ["operator"]
    assert complete("token", "") == ["create", "list", "revoke"]


def test_files_where_a_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "steersman.yaml").write_text("")
    assert complete("up", "-c", "st", folder=tmp_path) == ["steersman.yaml"]
    assert complete("replay", "st", folder=tmp_path) == ["steersman.yaml"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_is_read_by_its_shell_where_it_is_installed(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert text.startswith("#")
    for name in COMMANDS:
        assert name in text
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(text)
        done = subprocess.run([shell, "-n", str(file)], capture_output=True, check=False, timeout=30)
        assert (done.returncode, done.stderr) == (0, b"")
