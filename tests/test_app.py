"""The parts of the wiring that need no running plane. A whole plane is started in tests/e2e."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from steersman.app import StateFolderUnusable, prepare_folder


def test_a_new_state_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    prepare_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    prepare_folder(folder)


def test_a_state_folder_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateFolderUnusable, match="can't be made") as caught:
        prepare_folder(tmp_path / "state")
    assert caught.value.facts["folder"] == str(tmp_path / "state")
