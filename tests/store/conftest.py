"""A blocking call in the event loop, made by the store, is an error in every test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Iterator[BlockBuster]:
    with blockbuster_ctx("steersman.store") as blockbuster:
        yield blockbuster
