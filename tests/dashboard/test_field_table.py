"""The dashboard's table of fields is the declared one."""

from __future__ import annotations

import subprocess
import sys

from dashboard_plane import ROOT


def test_the_table_of_fields_is_current() -> None:
    """`python dashboard/write_fields.py` writes it; units and meanings in the page come from it."""
    done = subprocess.run(
        [sys.executable, "dashboard/write_fields.py", "--check"], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 0, "run: python dashboard/write_fields.py"
