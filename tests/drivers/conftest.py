"""Fixtures for driver tests: nothing may block the event loop."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

# The first line of a log imports it, which blocks. A running program has it before its loop begins.
importlib.import_module("structlog.dev")


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[BlockBuster]:
    """A blocking call of ours in the event loop fails the test."""
    with blockbuster_ctx("steersman.drivers") as blockbuster:
        yield blockbuster
