"""Nothing may be left behind, so the test tools may leave nothing either."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    """Say that the main thread has no loop of its own.

    Else the asyncio plugin makes one only to remember it as "the loop before", never closes it, and the
    ResourceWarning of its collection fails whichever test runs at that moment.
    """
    asyncio.set_event_loop(None)
