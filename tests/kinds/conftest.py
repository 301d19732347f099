"""Properties are judged by what they find, not by how long a busy machine takes."""

from __future__ import annotations

from hypothesis import settings


def pytest_configure() -> None:
    """No deadline per example."""
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
