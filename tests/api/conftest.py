"""What holds for every test of the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[None]:
    """A call of ours that blocks the event loop is an error in every test here."""
    with blockbuster_ctx(["steersman.api", "steersman.observe", "steersman.state"]) as watcher:
        for function in watcher.functions.values():
            # It reads /proc, which is memory; and code is loaded at the first request that needs it.
            function.can_block_in("prometheus_client/process_collector.py", {"collect"})
            function.can_block_in("steersman/api/server.py", {"_framework"})  # at the start
            function.can_block_in("steersman/state/health/table.py", {"_read"})  # once for each kind
            function.can_block_in("<frozen importlib._bootstrap_external>", {"get_data", "path_stats"})
            function.can_block_in("rich/__init__.py", {"<module>"})
        yield
