"""The guide's program runs as it is printed."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-python-client.md"


async def test_the_guide_runs(world: Any, address: str) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    program = program.replace("http://127.0.0.1:7440", address)
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("n1 ")
    assert "my-agent" in lines
    assert any(line.startswith("entity_not_found") for line in lines)
    assert lines[-1].startswith("now n1")
